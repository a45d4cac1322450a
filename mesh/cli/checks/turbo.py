"""Tasks of turbo: which agents can take them, which stay on the main job and why. Turbo is asked by a dry run; nothing is run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import trio

from mesh.adapters.turbo.command import TurboCommand
from mesh.adapters.turbo.errors import TurboError
from mesh.adapters.turbo.plan import TurboPlan, plan
from mesh.cli.checks import Check, some
from mesh.cli.ci.workspace import install_of, turbo_tasks


def tasks_of_turbo(workspace: Path, tasks: Sequence[str], environ: Mapping[str, str]) -> Iterator[Check]:
    """What turbo would run for `tasks`; without any, for those that CI usually runs."""
    if not (workspace / "node_modules" / "turbo").exists():
        install = " && ".join(install_of(workspace))
        yield Check("bad", "turbo.json is here, but turbo is not installed", f"install dependencies first: {install}")
        return
    command = TurboCommand(("run", *(tasks or turbo_tasks(workspace))))
    try:
        found: TurboPlan = trio.run(plan, command, workspace, environ)
    except TurboError as error:
        yield Check("bad", str(error))
        return
    for notice in found.notices:
        yield Check("warn", notice)
    if found.objection:
        yield Check("bad", f"turbo runs everything on the main job: {found.objection}")
        return
    where = [task.where for task in found.to_graph().tasks.values()]
    yield Check("ok", f"turbo {found.dry.version}: agents can run {where.count('any')} of {len(where)} tasks")
    reasons: dict[str, list[str]] = {}
    for task, reason in found.kept.items():
        reasons.setdefault(reason, []).append(task)
    for reason, names in reasons.items():
        yield Check("warn", f"only on the main job: {some(names)}: {reason}")
