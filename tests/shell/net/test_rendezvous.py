"""Meeting in a directory that others write to as well."""

import json
import os

import pytest
import trio

from mesh.errors import UsageError
from mesh.net.rendezvous import ADVERT_BYTES_MAX, Advert, Rendezvous

A, B = "a" * 64, "b" * 64


def test_nodes_of_one_run_find_each_other_and_no_other_run(tmp_path):
    async def main() -> None:
        one, two = Rendezvous(tmp_path / "meet", "run1"), Rendezvous(tmp_path / "meet", "run1")
        assert await one.peers() == []
        await two.publish(B, ["10.0.0.2:2"])
        await one.publish(A, ["10.0.0.1:1", "127.0.0.1:1"])
        expected = [Advert(A, ("10.0.0.1:1", "127.0.0.1:1")), Advert(B, ("10.0.0.2:2",))]
        assert await one.peers() == await two.peers() == expected
        assert await Rendezvous(tmp_path / "meet", "run2").peers() == []

    trio.run(main)


def test_a_node_that_says_something_new_replaces_what_it_said_and_may_leave(tmp_path):
    async def main() -> None:
        meeting = Rendezvous(tmp_path, "run1")
        await meeting.withdraw()
        await meeting.publish(A, ["h:1"])
        await meeting.publish(A, ["h:2"])
        assert await meeting.peers() == [Advert(A, ("h:2",))]
        await meeting.withdraw()
        await meeting.withdraw()
        assert await meeting.peers() == []

    trio.run(main)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"version": 1, "node_id": "bb',
        b"\xff\xfe",
        b"[]",
        json.dumps({"version": 2, "node_id": B, "addresses": []}).encode(),
        json.dumps({"version": 1, "node_id": A, "addresses": ["another's:1"]}).encode(),
        json.dumps({"version": 1, "node_id": B, "addresses": "h:1"}).encode(),
        json.dumps({"version": 1, "node_id": "../../etc", "addresses": []}).encode(),
        json.dumps({"version": 1, "node_id": B, "addresses": ["h:1"], "padding": "x" * ADVERT_BYTES_MAX}).encode(),
    ],
)
def test_a_file_that_is_no_advert_hides_nobody(tmp_path, content):
    async def main() -> None:
        meeting = Rendezvous(tmp_path, "run1")
        await meeting.publish(A, ["h:1"])
        (tmp_path / "run1" / f"{B}.json").write_bytes(content)
        assert await meeting.peers() == [Advert(A, ("h:1",))]

    trio.run(main)


def test_a_pipe_a_link_and_a_directory_are_passed_over(tmp_path):
    async def main() -> None:
        meeting = Rendezvous(tmp_path, "run1")
        await meeting.publish(A, ["h:1"])
        os.mkfifo(tmp_path / "run1" / f"{B}.json")
        (tmp_path / "run1" / f"{'c' * 64}.json").symlink_to("/dev/zero")
        (tmp_path / "run1" / f"{'d' * 64}.json").mkdir()
        with trio.fail_after(3):
            assert await meeting.peers() == [Advert(A, ("h:1",))]

    trio.run(main)


@pytest.mark.parametrize("place", ["no/such/parent", "file"])
def test_a_directory_of_no_use_is_named(tmp_path, place):
    (tmp_path / "file").touch()

    async def main() -> None:
        meeting = Rendezvous(tmp_path / place, "run1")
        for call in (lambda: meeting.publish(A, ["h:1"]), meeting.peers):
            with pytest.raises(UsageError, match=f"the rendezvous directory {tmp_path / place} cannot be"):
                await call()

    trio.run(main)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written to"):
        trio.run(Rendezvous(tmp_path, "run1").publish, A, ["h:1"])


def test_who_comes_late_can_see_that_the_run_is_over_until_another_begins_under_its_name(tmp_path):
    async def main() -> None:
        meeting, late = Rendezvous(tmp_path, "run1"), Rendezvous(tmp_path, "run1")
        await meeting.publish(A, ["h:1"])
        assert await late.concluded() == ""
        await meeting.withdraw()
        await meeting.conclude("failure")
        assert await late.concluded() == "failure"
        assert await late.peers() == []
        assert await Rendezvous(tmp_path, "run2").concluded() == ""
        await meeting.publish(B, ["h:2"])
        assert await late.concluded() == ""

    trio.run(main)


@pytest.mark.parametrize("content", ["", "[]", '{"version":1,"verdict":"success","ended_ms":1000}', '{"version":2}'])
def test_a_mark_that_is_old_or_no_mark_at_all_says_nothing(tmp_path, content):
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1/over").write_text(content)
    assert trio.run(Rendezvous(tmp_path, "run1").concluded) == ""
