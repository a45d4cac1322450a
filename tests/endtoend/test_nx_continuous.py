"""Continuous tasks that do not continue: what nx makes of that, it makes of it under dte."""

from pathlib import Path

import pytest

from tests.endtoend.nx_site import NxSite, cacheable, places
from tests.nx_workspace import NX_VERSION

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(300)]

BESIDE = "while [ ! -e packages/p0/gone ]; do sleep 0.1; done; sleep 1; echo passed"
SERVE = "echo Error: listen EADDRINUSE; sleep 0.5; touch packages/p0/gone; exit"


@pytest.mark.parametrize(
    ("version", "agents", "code"), [(NX_VERSION, 1, 1), (NX_VERSION, 0, 0), ("22.7.12", 1, 2), ("21.6.11", 1, 1)]
)
def test_one_that_ends_by_itself_is_what_it_is_for_nx_though_the_task_beside_it_passes(
    tmp_path: Path, version: str, agents: int, code: int
):
    targets = {
        "serve": {"command": f"{SERVE} {code}", "continuous": True},
        "e2e": cacheable(BESIDE, dependsOn=["serve"]),
        "more": cacheable("echo more", dependsOn=["e2e"]),
    }
    site = NxSite(tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\ngone\n"}, version)
    try:
        expected, _ = site.alone("npx", "nx", "run-many", "-t", "more")
        main = site.under_dte("npx", "nx", "run-many", "-t", "more", agents=agents)
        assert main.process.returncode == expected == (0 if version.startswith("21.") else 1)
        assert places(main) == dict.fromkeys(("p0:e2e", "p0:more"), "a0" if agents else "main")
        assert {told["status"] for told in main.tasks.values()} == {"success"}
        assert f"p0:serve, which ran beside it, ended by itself with exit code {code}" in main.text
        if expected:
            assert "- p0:serve" in main.text.replace("\x1b[2m", "").replace("\x1b[22m", "")
            assert main.out.read_text().count("\nError: listen EADDRINUSE") == 1
    finally:
        site.close()
