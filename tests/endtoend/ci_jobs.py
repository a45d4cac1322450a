"""CI systems in small: the steps of a job are run as the provider documents it, with the provider's own variables around them.

What is replaced: the provider's own actions (a test clones by itself), the step that installs dte from the network (the dte under test is put in its place),
and the address 0.0.0.0, since tests listen on the loopback only.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.endtoend.mesh_under_test import LIMIT_S, Machine, Running, Site

_GITHUB_EXPRESSION = re.compile(r"\$\{\{ *([a-z]+)\.(\w+) *\}\}")
_AZURE_MACRO = re.compile(r"\$\((\w+)\)")


@dataclass(frozen=True)
class Step:
    """One step that is shell."""

    name: str
    shell: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ci:
    """One provider: its file, its schema, what its jobs have around them, and how it starts shell."""

    path: str
    schema: tuple[str, ...]
    bash: tuple[str, ...]
    steps: Callable[[Any, str, Mapping[str, str]], list[Step]]
    environ: Callable[[Path, int, str], Mapping[str, str]]
    """From a folder for temporary files, the number of the agent (from 1), and the branch that a pull request is for ("": none)."""
    dte: str
    """Where the file puts dte: in the folder for temporary files, or in the workspace."""


def _github(file: Any, job: str, told: Mapping[str, str]) -> list[Step]:
    def filled(text: str) -> str:
        return _GITHUB_EXPRESSION.sub(lambda match: told.get(match[2], ""), text)

    outer = {name: filled(value) for name, value in file["env"].items()}
    return [
        Step(step["name"], step["run"], outer | {name: filled(value) for name, value in step.get("env", {}).items()})
        for step in file["jobs"][job]["steps"]
        if "run" in step
    ]


def _circleci(file: Any, job: str, told: Mapping[str, str]) -> list[Step]:
    steps = [step["run"] for step in file["jobs"][job]["steps"] if not isinstance(step, str)]
    return [Step(step["name"], step["command"], told) for step in steps]


def _azure(file: Any, job: str, told: Mapping[str, str]) -> list[Step]:
    def filled(text: str) -> str:
        return _AZURE_MACRO.sub(lambda match: told.get(match[1], match[0]), text)

    # A secret variable is in no step's environment unless that step asks for it.
    outer = {name: value for name, value in told.items() if name != "DTE_SECRET"}
    (chosen,) = [each for each in file["jobs"] if each["job"] == job]
    return [
        Step(
            step["displayName"],
            filled(step["bash"]),
            outer | {name: filled(value) for name, value in step.get("env", {}).items()},
        )
        for step in chosen["steps"]
        if "bash" in step
    ]


CIS: dict[str, Ci] = {
    "github": Ci(
        ".github/workflows/dte.yml",
        ("--builtin-schema", "vendor.github-workflows"),
        ("bash", "-e"),
        _github,
        lambda temporary, number, base: {
            "GITHUB_ACTIONS": "true",
            "GITHUB_RUN_ID": "77",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_BASE_REF": base,
            "RUNNER_TEMP": str(temporary),
        },
        "dte/bin/dte",
    ),
    "circleci": Ci(
        ".circleci/config.yml",
        ("--builtin-schema", "vendor.circle-ci"),
        ("bash", "-eo", "pipefail"),
        _circleci,
        lambda temporary, number, base: {
            "CIRCLE_WORKFLOW_ID": "77",
            "CIRCLE_BRANCH": "change" if base else "main",
            "CIRCLE_NODE_INDEX": str(max(0, number - 1)),
        },
        ".git/dte/bin/dte",
    ),
    "azure": Ci(
        "azure-pipelines.yml",
        # Its patterns are written for expressions without the Unicode flag.
        ("--builtin-schema", "vendor.azure-pipelines", "--regex-variant", "nonunicode"),
        ("bash", "--noprofile", "--norc"),
        _azure,
        lambda temporary, number, base: {
            "TF_BUILD": "True",
            "BUILD_BUILDID": "77",
            "SYSTEM_JOBATTEMPT": "1",
            "SYSTEM_JOBPOSITIONINPHASE": str(number),
            "AGENT_TEMPDIRECTORY": str(temporary),
            **({"SYSTEM_PULLREQUEST_TARGETBRANCH": f"refs/heads/{base}"} if base else {}),
        },
        "dte/bin/dte",
    ),
}


def start_job(
    site: Site,
    ci: Ci,
    job: str,
    machine: Machine,
    told: Mapping[str, str],
    *,
    number: int = 0,
    base: str = "",
    skip: tuple[str, ...] = (),
    **more: str,
) -> Running:
    """Run a job's steps up to the last, and start that. `told` is what a person has set at the provider, secrets and all; `more` is what the machine has."""
    temporary = site.root / f"{machine.name}-temporary"
    temporary.mkdir()
    _put_dte(machine.workspace / ci.dte if ci.dte.startswith(".git") else temporary / ci.dte)
    file = YAML(typ="safe").load(machine.workspace / ci.path)
    secret = told | ({"agent": str(number)} if number else {})
    steps = [step for step in ci.steps(file, job, secret) if step.name not in ("Install dte", *skip)]
    outside = {name: value for name, value in site.environ(machine).items() if name not in ("DTE_SECRET", "DTE_RUN_ID")}
    # Nothing is to be installed: npm need not ask anybody.
    outside |= {"NPM_CONFIG_OFFLINE": "true", "NPM_CONFIG_AUDIT": "false", "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    outside |= ci.environ(temporary, number, base) | more
    for step in steps[:-1]:
        done = subprocess.run(
            _command(ci, step, temporary),
            cwd=machine.workspace,
            env=outside | step.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{step.name}: {done.stdout}{done.stderr}"
    return _start(site, machine, _command(ci, steps[-1], temporary), outside | steps[-1].env)


def _command(ci: Ci, step: Step, temporary: Path) -> list[str]:
    script = temporary / f"{step.name.replace(' ', '-')}.sh"
    script.write_text(step.shell.replace("0.0.0.0", "127.0.0.1"))
    return [*ci.bash, str(script)]


def _start(site: Site, machine: Machine, command: list[str], environ: Mapping[str, str]) -> Running:
    name = f"{machine.name}-{len(site.started)}"
    out, err = site.root / f"{name}.out", site.root / f"{name}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=machine.workspace,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    running = Running(name, process, out, err)
    site.started.append(running)
    return running


def _put_dte(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {os.fspath(sys.executable)} -m mesh "$@"\n')
    path.chmod(0o755)
