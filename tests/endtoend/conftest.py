"""One site for each test, gone when the test is over."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.endtoend.mesh_under_test import MakeSite, Site


@pytest.fixture
def site_of(tmp_path: Path) -> Iterator[MakeSite]:
    """Make a site from the files of a workspace."""
    sites: list[Site] = []

    def make(files: Mapping[str, str]) -> Site:
        site = Site(tmp_path / f"site-{len(sites)}", files)
        sites.append(site)
        return site

    try:
        yield make
    finally:
        for site in sites:
            site.close()
