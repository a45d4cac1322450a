"""`dte verify` on the ledger of a real run, and on what somebody has made of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.ledger.tiles import bundle, split_bundle
from tests.endtoend.mesh_under_test import Running, Site, copied, dte, until
from tests.endtoend.workspaces import layered, names, wait_for

FILES = layered(width=2)
GATE = f'[tasks.gate]\ncommand = "{wait_for("go")}"\ndeps = ["l4-0", "l4-1"]\n'


class Real:
    """A run that is over: its ledger, and what the ledger was a little earlier."""

    def __init__(self, main: Running, earlier: Path, root_key: str) -> None:
        self.ledger = main.ledger
        self.earlier = earlier
        self.root_key = root_key


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """The ledger of a run of eleven tasks on main and an agent."""
    root = tmp_path_factory.mktemp("verify")
    site = Site(root / "site", {**FILES, "dte.toml": f"{FILES['dte.toml']}\n{GATE}"})
    try:
        main = site.main("gate", "--agent-wait", "60s")
        agent = site.agent("agent-1")
        main.happens("task-ended", len(names(FILES)))
        until("the gate", lambda: any(event["task"] == "gate" for event in main.events("task-started")))
        # Genesis, the agent, the graph, and what has ended: nothing more is written until the gate opens.
        entries = 3 + len(names(FILES))
        until(
            "a ledger of all but the gate",
            lambda: [one["size"] for one in main.events("checkpoint-made")][-1:] == [entries],
        )
        earlier = copied(main.ledger, root / "earlier")
        site.tell("go")
        assert (main.ended(), agent.ended()) == (0, 0)
        cert = dte("cert", str(root / "cert"), env=site.environ(site.machine("auditor")))
        return Real(main, earlier, cert.stdout.strip())
    finally:
        site.close()


def verified(ledger: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit code and `--json` of `dte verify`."""
    done = dte("verify", str(ledger), "--json", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def assert_refused(ledger: Path) -> str:
    """The first problem found."""
    code, told = verified(ledger)
    assert (code, told["ok"]) == (1, False)
    return str(told["problems"][0])


def entries_file(ledger: Path) -> Path:
    (found,) = [path for path in (ledger / "tile/entries").rglob("*") if path.is_file()]
    return found


def test_a_real_ledger_verifies_against_the_key_that_dte_cert_prints(real: Real) -> None:
    code, told = verified(real.ledger, "--root-key", real.root_key)
    assert (code, told["ok"], told["problems"]) == (0, True, [])
    assert told["entries"] == len(split_bundle(entries_file(real.ledger).read_bytes()))


def test_another_root_key_is_refused(real: Real) -> None:
    code, told = verified(real.ledger, "--root-key", "0" * 64)
    assert (code, told["ok"]) == (1, False)


def test_one_flipped_bit_in_any_file_is_found(real: Real, tmp_path: Path) -> None:
    files = sorted(path.relative_to(real.ledger) for path in real.ledger.rglob("*") if path.is_file())
    assert {"checkpoint", "vkeys"} < {str(path) for path in files}
    assert len(files) == 4
    for number, name in enumerate(files):
        spoilt = copied(real.ledger, tmp_path / f"spoilt-{number}")
        data = bytearray((spoilt / name).read_bytes())
        data[(number + 1) * len(data) // (len(files) + 1)] ^= 1 << number
        (spoilt / name).write_bytes(data)
        assert_refused(spoilt)


def without_last(ledger: Path, folder: str, cut: Callable[[bytes], bytes]) -> None:
    """Take the last entry out of a partial tile, whose name is its width."""
    (path,) = [path for path in (ledger / folder).rglob("*") if path.is_file()]
    path.with_name(str(int(path.name) - 1)).write_bytes(cut(path.read_bytes()))
    path.unlink()


def test_a_dropped_last_entry_is_found_by_the_checkpoint_that_knew_it(real: Real, tmp_path: Path) -> None:
    spoilt = copied(real.ledger, tmp_path / "spoilt")
    without_last(spoilt, "tile/entries", lambda data: bundle(split_bundle(data)[:-1]))
    without_last(spoilt, "tile/0", lambda data: data[:-32])
    assert "tile" in assert_refused(spoilt)


def test_a_run_whose_end_is_cut_off_with_an_earlier_checkpoint_is_no_whole_run(real: Real) -> None:
    assert "verdict" in assert_refused(real.earlier)


def test_an_earlier_checkpoint_does_not_fit_later_entries(real: Real, tmp_path: Path) -> None:
    spoilt = copied(real.ledger, tmp_path / "spoilt")
    (spoilt / "checkpoint").write_bytes((real.earlier / "checkpoint").read_bytes())
    assert_refused(spoilt)


def test_two_swapped_entries_are_found(real: Real, tmp_path: Path) -> None:
    spoilt = copied(real.ledger, tmp_path / "spoilt")
    path = entries_file(spoilt)
    entries = list(split_bundle(path.read_bytes()))
    entries[-3], entries[-2] = entries[-2], entries[-3]
    path.write_bytes(bundle(entries))
    done = dte("verify", str(spoilt))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("refused: ")


def test_what_is_no_ledger_is_a_usage_error(tmp_path: Path) -> None:
    done = dte("verify", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "no ledger is there" in done.stderr
