"""Builds one package: every source must compile, then all of them go into dist/NAME.zip, which Python can import from."""

import io
import zipfile
from pathlib import Path

from common import DATE, package, say, wait, write


def main():
    fields = package()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(Path("src").rglob("*.py")):
            source = path.read_bytes()
            for level in range(3):
                compile(source, str(path), "exec", optimize=level)
            say(f"compiled {path.as_posix()} at 3 levels")
            target.writestr(zipfile.ZipInfo(f"{fields['name']}/{path.name}", DATE), source)
    wait(0.6)
    write(f"dist/{fields['name']}.zip", archive.getvalue())


main()
