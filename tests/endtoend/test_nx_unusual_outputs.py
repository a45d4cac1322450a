"""Outputs that no archive can hold, or nx's cannot: the run ends as nx alone does, and never hangs."""

from pathlib import Path

import pytest

from tests.endtoend.nx_site import NxSite, cacheable, main_only, places
from tests.nx_workspace import NX_VERSION
from tests.remote_cache import TOKEN, remote_cache

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(300)]

LINK = "mkdir -p packages/p0/.venv/bin && ln -sfn /bin/echo packages/p0/.venv/bin/say"
SOCKET = "mkdir -p packages/p0/.venv && cd packages/p0/.venv && node -e 'require(`net`).createServer().listen(`s`, () => process.kill(process.pid, 9))'"


@pytest.mark.parametrize(
    ("make", "use"), [(LINK, "packages/p0/.venv/bin/say used"), (f"{SOCKET} || true", "echo used")]
)
def test_what_a_task_of_the_main_job_leaves_and_cannot_be_packed_is_used_there(tmp_path: Path, make: str, use: str):
    targets = {
        "venv": main_only(make, "{projectRoot}/.venv"),
        "test": cacheable(use, dependsOn=["venv"]),
    }
    site = NxSite(tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\n.venv\n"})
    try:
        command = ("npx", "nx", "run", "p0:test")
        assert site.alone(*command)[0] == 0
        main = site.under_dte(*command)
        assert main.process.returncode == 0
        assert places(main) == {"p0:venv": "main", "p0:test": "main"}
        assert "cannot be passed on" in main.text
    finally:
        site.close()


@pytest.mark.parametrize("version", [NX_VERSION, "21.6.11"])
def test_outputs_in_a_directory_that_is_called_as_an_entry_of_nx_own_archives_travel(tmp_path: Path, version: str):
    targets = {
        "build": cacheable("mkdir -p code/p0 && echo 1 > code/p0/i.js", "{workspaceRoot}/code/p0"),
        "print": cacheable(
            "mkdir -p terminalOutput && cat code/p0/i.js > terminalOutput/t",
            "{workspaceRoot}/terminalOutput",
            dependsOn=["build"],
        ),
    }
    site = NxSite(
        tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\ncode\nterminalOutput\n"}, version
    )
    try:
        with remote_cache() as cache:
            main = site.under_dte(
                *("npx", "nx", "run", "p0:print"),
                NX_SELF_HOSTED_REMOTE_CACHE_SERVER=cache.url,
                NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN=TOKEN,
            )
            assert not cache.kept
        assert main.process.returncode == 0
        assert set(places(main).values()) == {"a0"}
        assert (
            (site.here.path / "terminalOutput/t").read_text() == (site.here.path / "code/p0/i.js").read_text() == "1\n"
        )
    finally:
        site.close()


def test_a_file_that_git_tracks_and_a_task_rewrites_is_rewritten_on_the_main_job_too(tmp_path: Path):
    made = "packages/p0/src/made.js"
    targets = {
        "regenerate": cacheable(f"echo anew > {made}"),
        "reuse": cacheable(f"cat {made}", dependsOn=["regenerate"]),
    }
    site = NxSite(tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\n", made: "as it was\n"})
    try:
        main = site.under_dte("sh", "-c", "npx nx run p0:reuse && git diff --exit-code")
        assert main.process.returncode == 1
        assert "+anew" in main.out.read_text()
        assert places(main) == {"p0:regenerate": "a0", "p0:reuse": "main"}
        assert f"p0:regenerate on a0: {made}, which git tracks, changed while it ran" in main.text
    finally:
        site.close()


def test_outputs_that_a_task_of_the_main_job_has_edited_are_read_elsewhere_as_it_left_them(tmp_path: Path):
    dist = "packages/p0/dist"
    targets = {
        "build": cacheable(f"mkdir -p {dist} && echo p0 > {dist}/a.txt && echo b > {dist}/b.txt", "{projectRoot}/dist"),
        "stamp": main_only(f"sed -i s/p0/v1.2.3/ {dist}/a.txt && echo new > {dist}/c.txt", dependsOn=["build"]),
        "pack": cacheable(
            f"mkdir -p packages/p0/out && cat {dist}/*.txt > packages/p0/out/all",
            "{projectRoot}/out",
            dependsOn=["stamp"],
        ),
    }
    site = NxSite(tmp_path / "site", {"p0": targets}, {".gitignore": "node_modules\n.nx\ndist\nout\n"})
    try:
        main = site.under_dte("npx", "nx", "run", "p0:pack")
        assert main.process.returncode == 0
        assert places(main) == {"p0:build": "a0", "p0:stamp": "main", "p0:pack": "a0"}
        assert (site.here.path / "packages/p0/out/all").read_text() == "v1.2.3\nb\nnew\n"
    finally:
        site.close()
