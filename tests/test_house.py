"""What is shipped is what was tested: the wheel holds every file of the package, and runs in an environment that knows nothing of this checkout."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 300


def run(command: list[str], where: Path, environ: Mapping[str, str] | None = None) -> str:
    """What `command` printed; the test fails with it where it fails."""
    done = subprocess.run(
        command,
        cwd=where,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)], place)
    (made,) = place.glob("*.whl")
    return made


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "mesh"], ROOT).split("\0")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    ours = [name for name in listed if name and (ROOT / name).is_file()]
    assert "mesh/py.typed" in ours
    assert "mesh/cli/demo_workspace/.gitignore" in ours
    assert sorted(name for name in names if name.startswith("mesh/")) == sorted(ours)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_package_asks_for_nothing_that_only_tests_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        fields = archive.read(name).decode().split("\n\n", 1)[0].splitlines()
    needs = [field.removeprefix("Requires-Dist: ") for field in fields if field.startswith("Requires-Dist: ")]
    assert not [need for need in needs if "pytest" in need and "extra ==" not in need]
    assert "Name: dte-mesh" in fields
    assert "License-Expression: Apache-2.0" in fields


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "venv", str(tmp_path / "venv")], tmp_path)
    python, dte = (str(tmp_path / "venv/bin" / name) for name in ("python", "dte"))
    run([python, "-m", "pip", "install", "--quiet", str(wheel)], tmp_path)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("DTE_", "NX_", "PYTHON"))}
    environ = {
        **outside,
        "HOME": str(tmp_path / "home"),
        "DTE_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{tmp_path / 'venv/bin'}:/usr/local/bin:/usr/bin:/bin",
    }
    (tmp_path / "home").mkdir()
    assert str(tmp_path) in run([python, "-c", "import mesh; print(mesh.__file__)"], tmp_path, environ)
    assert "demo" in run([dte, "--help"], tmp_path, environ)
    lives = run([dte, "sim", "--lives", "3", "--json", "-"], tmp_path, environ).splitlines()
    assert [json.loads(life)["problems"] for life in lives] == [[], [], []]
    shown = run([dte, "demo", "--agents", "2"], tmp_path, {**environ, "DTE_DEMO_WAIT": "0"})
    assert "the ledger verifies" in shown
    runner, adapter = ROOT / "conformance/runner/run.py", ROOT / "conformance/adapters/mesh/adapter.py"
    assert " 0 failed, 0 unsupported" in run([python, str(runner), "--", python, str(adapter)], tmp_path, environ)
