"""Where a node keeps what outlives it: `DTE_DATA_DIR`, or the place the platform has for it."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

import platformdirs

from mesh.errors import StorageError, UsageError
from mesh.store.files import DATA_DIR_VARIABLE, storing


def home(environ: Mapping[str, str] | None = None) -> Path:
    """The node's data directory, made where it is missing. Raises `UsageError` or `StorageError`, naming it and the variable."""
    told = (os.environ if environ is None else environ).get(DATA_DIR_VARIABLE, "")
    directory = Path(told).absolute() if told else Path(platformdirs.user_data_dir("dte"))
    if not directory.is_absolute():  # `~` stays as it is where the user has no home
        raise UsageError(
            f"this user has no home directory to keep data in; set {DATA_DIR_VARIABLE} to a directory of your choice"
        )
    try:
        with storing(directory):
            # 0700: what is kept here tells of private builds, and what is read here is trusted.
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except StorageError as error:
        if directory.exists():
            raise UsageError(f"{directory} is not a directory; set {DATA_DIR_VARIABLE} to one") from error
        raise
    # Asked by writing: permission bits say nothing of a read-only mount, nor to root.
    with storing(directory), TemporaryFile(dir=directory):
        return directory
