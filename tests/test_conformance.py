"""The referee is fair and awake: it passes what is right, catches what is wrong, and knows neither side."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "conformance"
ADAPTER = SUITE / "adapters/mesh/adapter.py"

WRONG = {
    "frames.split": "lambda given: {'frames': []}",
    "message.canonical": "lambda given: given",
    "merkle.root": "lambda given: {'root': '00' * 32}",
    "merkle.inclusion": "lambda given: {'holds': True}",
    "merkle.consistency": "lambda given: {'holds': True}",
    "envelope.open": "lambda given: {'signer': '', 'type': '', 'payload': ''}",
    "checkpoint.open": "lambda given: {'run_id': 'gh/4711-1', 'size': 3, 'root': ''}",
}
"""For each op an implementation that is wrong on purpose."""


def referee(*command: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The referee's exit code, and its verdict on each vector."""
    done = subprocess.run(
        [sys.executable, str(SUITE / "runner/run.py"), "--json", "--", sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {verdict["id"]: verdict for verdict in verdicts}


def vectors() -> list[dict[str, object]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((SUITE / "vectors").rglob("*.json"))]


def test_dte_passes_every_vector() -> None:
    code, verdicts = referee(str(ADAPTER))
    assert code == 0, [verdict for verdict in verdicts.values() if verdict["verdict"] != "pass"]
    assert sorted(verdicts) == sorted(str(vector["id"]) for vector in vectors())


@pytest.mark.parametrize("op", WRONG)
def test_an_implementation_that_is_wrong_on_purpose_is_caught(op: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    folder = str(ADAPTER.parent)
    wrong.write_text(
        f"import sys\nsys.path.insert(0, {folder!r})\nimport adapter\nadapter.OPS[{op!r}] = {WRONG[op]}\nadapter.main()\n"
    )
    code, verdicts = referee(str(wrong))
    failed = [str(vector["op"]) for vector in vectors() if verdicts[str(vector["id"])]["verdict"] == "fail"]
    assert code == 1
    assert dict.fromkeys(failed) == {op: None}


def test_what_is_not_supported_is_no_pass(tmp_path: Path) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text('import sys\nfor _ in sys.stdin:\n    print(\'{"id": 1, "ok": {"ops": []}}\', flush=True)\n')
    code, verdicts = referee(str(silent))
    assert code == 1
    assert {verdict["verdict"] for verdict in verdicts.values()} == {"unsupported"}


def test_an_adapter_that_does_not_speak_the_protocol_is_said_to(tmp_path: Path) -> None:
    mute = tmp_path / "mute.py"
    mute.write_text("")
    assert referee(str(mute)) == (2, {})


def test_the_vectors_are_what_the_generators_make() -> None:
    done = subprocess.run([sys.executable, str(SUITE / "generate/all.py"), "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


def test_every_vector_names_a_clause_that_is_there() -> None:
    for vector in vectors():
        chapter, _, clause = str(vector["clause"]).partition(" ")
        text = (SUITE.parent / "docs/spec" / chapter).read_text(encoding="utf-8")
        assert f"\n{clause}. " in text, vector["id"]
        assert vector["comment"]
        assert list(dict(vector["expect"])) in (["ok"], ["error"])


@pytest.mark.parametrize("folder", ["runner", "generate"])
def test_neither_the_referee_nor_the_vectors_know_dte(folder: str) -> None:
    allowed = (
        {"cryptography", *(path.stem for path in (SUITE / "generate").glob("*.py"))} if folder == "generate" else set()
    )
    for path in (SUITE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            strange = {name.partition(".")[0] for name in names} - allowed - sys.stdlib_module_names
            assert not strange, f"{path.name} imports {strange}"
