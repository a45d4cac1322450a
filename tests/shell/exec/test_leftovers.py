"""What a task left beside its outputs, in a real checkout."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mesh.exec.leftovers import LISTED_MAX, Left, Leftovers, among
from tests.endtoend.mesh_under_test import make_repository, until, write_files

LONG_MS = 600_000
"""A task that is long enough for any look."""


class Outputs:
    """`a/dist`, and what is TypeScript in `a/some`."""

    def whole(self, path: str) -> bool:
        return path.startswith("a/dist") or (path.startswith("a/some/") and path.endswith(".ts"))

    def part(self, directory: str) -> bool:
        return directory.startswith(("a/some/", "a/dist/"))


class Anything(Outputs):
    def whole(self, path: str) -> bool:
        return True


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    make_repository(root, {"a/source": "1\n", "b/source": "1\n", ".gitignore": "dist\ntmp\nsome\nnode_modules\n.nx\n"})
    return root


def left_by(
    checkout: Path, *steps: dict[str, str], and_then: Callable[[], object] = lambda: None, **how: object
) -> list[Left]:
    """Begin, and after each of `steps`, a task's files, look."""
    told: list[Left] = []

    async def main() -> None:
        leftovers = Leftovers(checkout)
        await leftovers.before("a")
        for files in steps:
            write_files(checkout, files)
            and_then()
            settings = {"duration_ms": LONG_MS, "home": "a", "declared": Outputs(), "beside": False}
            told.append(await leftovers.after(**{**settings, **how}))

    trio.run(main)
    return told


def test_declared_outputs_are_not_worth_a_word(checkout: Path) -> None:
    assert left_by(checkout, {"a/dist/x": "1"}) == [Left()]


def test_ignored_and_untracked_files_that_nobody_declares_are_told_once(checkout: Path) -> None:
    first, second = left_by(checkout, {"a/tmp/x": "1", "a/new": "1"}, {"a/tmp/y": "1"})
    assert first == Left(untracked=("a/new", "a/tmp/"))
    assert first.remark().startswith("it left a/new, a/tmp/, which no task declares as outputs")
    assert second == Left()
    assert second.remark() == ""


def test_of_a_directory_that_is_declared_in_part_the_rest_is_told(checkout: Path) -> None:
    (left,) = left_by(checkout, {"a/some/x.ts": "1", "a/some/x.js": "1", "a/some/in/y.ts": "1", "a/some/in/y.map": "1"})
    assert left.untracked == ("a/some/in/y.map", "a/some/x.js")


def test_directories_without_a_file_are_nothing_until_there_is_one(checkout: Path) -> None:
    (checkout / "a/tmp").mkdir()
    empty, filled = left_by(
        checkout, {}, {"a/tmp/cache/x": "1"}, and_then=lambda: (checkout / "tmp/a/b").mkdir(parents=True, exist_ok=True)
    )
    assert empty == Left()
    assert filled == Left(untracked=("a/tmp/",))


def test_in_a_folder_of_a_repository_paths_are_from_there_and_nobody_looks_elsewhere(tmp_path: Path) -> None:
    repository, inside = tmp_path / "checkout", "front end/app/"
    make_repository(repository, {f"{inside}a/source": "1\n", "back/source": "1\n", ".gitignore": "dist\ntmp\n"})
    files = {"a/dist/x": "1", "a/tmp/x": "1", "a/source": "2\n", "../../back/source": "2\n", "../../new": "1"}
    assert left_by(repository / inside, files) == [Left(untracked=("a/tmp/",), changed=("a/source",))]


def test_a_changed_tracked_file_is_told_even_where_it_is_declared(checkout: Path) -> None:
    (told,) = left_by(checkout, {"b/source": "2\n"}, declared=Anything())
    assert told == Left(changed=("b/source",))
    assert "changed b/source, which git tracks" in told.remark()


def test_what_was_there_before_the_first_task_is_nobodys(checkout: Path) -> None:
    write_files(checkout, {"a/tmp/x": "1", "b/source": "2\n"})
    assert left_by(checkout, {}) == [Left()]


def test_caches_of_tools_are_nobodys_either(checkout: Path) -> None:
    assert left_by(checkout, {"node_modules/.vite/x": "1", ".nx/y": "1", "a/node_modules/.cache/z": "1"}) == [Left()]


def test_what_a_task_installs_or_links_in_its_own_project_is_told_once_however_short_it_was(checkout: Path) -> None:
    write_files(checkout, {"a/node_modules/old/x": "1", "a/node_modules/@of/old/x": "1"})

    def link() -> None:
        link = checkout / "a/node_modules/itself"
        link.unlink(missing_ok=True)
        link.symlink_to("..")

    made = {"a/node_modules/@of/new/x": "1", "a/node_modules/old/y": "1", "b/node_modules/other/x": "1"}
    first, second = left_by(checkout, made, {}, and_then=link, duration_ms=0)
    assert first == Left(untracked=("a/node_modules/@of/new", "a/node_modules/itself"))
    assert second == Left()


def test_what_is_linked_while_another_task_runs_may_be_that_ones(checkout: Path) -> None:
    (told,) = left_by(checkout, {"a/node_modules/new/x": "1"}, beside=True)
    assert told.remark().startswith("it, or a task beside it, left a/node_modules/new, which no task declares")


def test_what_is_declared_in_node_modules_travels(checkout: Path) -> None:
    assert left_by(checkout, {"a/node_modules/new/x": "1"}, declared=Anything()) == [Left()]


def test_beside_others_only_the_own_project_is_a_tasks_and_what_comes_later_may_be_anybodys(checkout: Path) -> None:
    (told,) = left_by(checkout, {"a/tmp/x": "1", "b/tmp/x": "1"}, beside=True)
    assert told == Left(untracked=("a/tmp/",), certain=False)
    assert told.remark().startswith("it, or a task beside it, left a/tmp/")


def test_a_task_of_no_time_is_not_looked_after(checkout: Path) -> None:
    assert left_by(checkout, {"a/tmp/x": "1"}, duration_ms=0) == [Left(certain=True)]


def test_what_is_new_among_files_that_are_meant_is_found_by_when_it_was_written_whatever_else_it_says(
    checkout: Path,
) -> None:
    write_files(checkout, {"a/dist/before.js": "1", "a/dist/in/old.js": "1"})
    since_ns = (checkout / "a/dist/in/old.js").stat().st_ctime_ns + 1

    def is_later() -> bool:
        (checkout / "probe").write_text("1")
        return (checkout / "probe").stat().st_ctime_ns >= since_ns

    until("the file system's clock to go on", is_later)
    made = ("a/dist/in/y.js", "a/dist/x.js", "a/dist/own.ts", "a/dist/node_modules/z.js", "a/other.js", "a/one.js")
    write_files(checkout, dict.fromkeys(made, "1"))
    os.utime(checkout / "a/dist/x.js", (1, 1))
    os.utime(checkout / "a/dist/before.js", (1, 1))  # an old time, set anew
    (checkout / "a/dist/link.js").symlink_to("nowhere")
    found = among(checkout, ("a/dist", "a/one.js", "a/none"), lambda path: path.endswith(".js"), since_ns)
    assert found == ("a/dist/before.js", "a/dist/link.js", "a/dist/x.js", "a/dist/in/y.js", "a/one.js")


def test_of_many_such_files_the_first_are_listed(checkout: Path) -> None:
    write_files(checkout, {f"a/dist/{number:03}": "1" for number in range(LISTED_MAX + 50)})
    assert among(checkout, ("a/dist",), lambda path: True, 0) == tuple(
        f"a/dist/{number:03}" for number in range(LISTED_MAX)
    )


def test_of_many_files_a_few_are_named() -> None:
    assert "left 1, 2, 3 and 2 more, which" in Left(untracked=("1", "2", "3", "4", "5")).remark()


def test_without_a_repository_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert left_by(tmp_path, {"a/tmp/x": "1"}) == [Left()]
