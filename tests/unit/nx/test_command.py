"""Which commands are one nx command: behind such a one no other graph is expected."""

import pytest

from mesh.adapters.nx.command import runs_once


@pytest.mark.parametrize(
    "command",
    [
        "nx affected -t lint test build",
        "npx nx run-many -t build",
        "npx --yes nx@22 build web",
        "pnpm exec nx affected -t test",
        "yarn nx test web --watch=false",
        "NX_DAEMON=false ./node_modules/.bin/nx run web:build",
    ],
)
def test_a_command_that_names_nx_has_one_graph(command: str) -> None:
    assert runs_once(tuple(command.split()))


@pytest.mark.parametrize("command", ["npm run ci", "bash ci.sh", "sh -c nx", "npx turbo run build", "make nx", "true"])
def test_of_a_script_nobody_knows(command: str) -> None:
    assert not runs_once(tuple(command.split()))


@pytest.mark.parametrize("command", ["nx release", "npx nx watch --all -- nx run web:build"])
def test_some_verbs_of_nx_run_tasks_more_than_once(command: str) -> None:
    assert not runs_once(tuple(command.split()))
