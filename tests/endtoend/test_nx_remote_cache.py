"""The nx cache that a user has already: read and filled as by nx alone, through dte, and no reason to fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endtoend.test_nx import LIMIT_S, NxSite
from tests.remote_cache import TOKEN, RemoteCache, remote_cache

pytestmark = [pytest.mark.nx, pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = ("run-many", "-t", "build", "lint")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[NxSite]:
    site = NxSite(tmp_path / "site", projects=3)
    try:
        yield site
    finally:
        site.close()


def where_it_is(cache: RemoteCache) -> dict[str, str]:
    return {
        "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": cache.url,
        "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": TOKEN,
    }


def test_it_is_filled_and_then_read_as_by_nx_alone(site: NxSite):
    alone = site.clone("alone")
    with remote_cache() as theirs, remote_cache() as ours:
        plain = alone.nx(*COMMAND, environment=alone.environment(**where_it_is(theirs)))
        agent, main = site.agent("a1", "--slots", "2"), site.nx(*COMMAND, **where_it_is(ours))
        assert main.ended(LIMIT_S) == plain.returncode == 0
        assert agent.ended(LIMIT_S) == 0
        assert {task["where"] for task in main.tasks.values()} == {"a1"}
        assert ours.kept.keys() == theirs.kept.keys() != set()
        assert ours.tokens == {TOKEN}

        again = site.clone("again")
        expected = again.nx(*COMMAND, environment=again.environment(**where_it_is(theirs)))
        ours.asked.clear()
        later = site.main(
            *("--agent-wait", "60s", "--", "npx", "nx", *COMMAND), on=site.machine("later"), **where_it_is(ours), CI="1"
        )
        assert later.ended(LIMIT_S) == expected.returncode == 0
        assert later.out.read_text().count("[remote cache]") == expected.stdout.count("[remote cache]") == 6
        assert {(task["where"], task["cache"]) for task in later.tasks.values()} == {("main", "hit")}
        assert sorted(ours.asked) == sorted(f"GET {path}" for path in ours.kept)
    assert {*map(str, alone.files())} == {*map(str, again.files())} != set()
    assert type(alone)(site.root / "later/workspace").files() == alone.files()


@pytest.mark.parametrize("trouble", ["it may only be read", "it only fails", "it is not there"])
def test_what_is_wrong_with_it_does_not_matter(site: NxSite, trouble: str):
    with remote_cache() as cache:
        cache.read_only = trouble == "it may only be read"
        cache.status = 500 if trouble == "it only fails" else 0
        variables = where_it_is(cache)
        if trouble == "it is not there":
            variables["NX_SELF_HOSTED_REMOTE_CACHE_SERVER"] = "http://127.0.0.1:9"
        main = site.main("--agent-wait", "1s", "--", "npx", "nx", *COMMAND, **variables, CI="1")
        assert main.ended(LIMIT_S) == 0
        assert main.json["verdict"] == "success"
        puts = [asked for asked in cache.asked if asked.startswith("PUT")]
        assert len(puts) == (1 if cache.read_only else 0)
