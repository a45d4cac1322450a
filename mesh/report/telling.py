"""The sentences that all displays share: how a task ended, who came and went, how far it is, and the closing."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from mesh.errors import Exit
from mesh.protocol.news import AgentJoined, AgentLeft, News, Notice, TaskEnded, TaskRequeued
from mesh.report import words
from mesh.report.ansi import RESET, Cleaner
from mesh.report.groups import Groups
from mesh.report.logs import Logs
from mesh.report.pen import Pen
from mesh.report.summary import Progress, Summary, is_failure
from mesh.types import TaskId

PATH_TASKS_MAX: Final = 6
"""So many tasks of the critical path are named in the closing; `--json` has them all."""


def task_line(end: TaskEnded) -> str:
    """One finished task: `✓ build:a  1.2 s  agent-1`."""
    parts = [part for part in _task_parts(end) if part]
    if end.attempts > 1:
        parts.append(f"attempt {end.attempts}{', flaky' if end.flaky else ''}")
    return "  ".join(parts)


def _task_parts(end: TaskEnded) -> list[str]:
    name, agent = words.one_line(end.task), words.one_line(end.agent)
    took = "cached" if end.cache == "hit" else words.duration(end.duration_ms)
    match end.status:
        case "success":
            return [f"✓ {name}", took, agent]
        case "failure":
            allowed = "failed, as it is allowed to" if end.allowed_to_fail else "failed"
            cause = words.one_line(end.problem) or f"exit code {end.exit_code}"
            return [f"✗ {name}", took, agent, f"{allowed} ({cause})"]
        case "skipped" | "cancelled":
            return [f"· {name}", end.status, words.one_line(end.problem)]


ALIKE_MAX: Final = 3
"""Of notices that are alike so many are shown when they come."""


def mesh_lines(item: News, summary: Summary) -> list[str]:
    """The lines for news of the mesh itself, which `summary` has taken; none for news of a task that went its way, nor for more notices of one kind than a person reads."""
    match item:
        case AgentJoined() | AgentLeft() if summary.over:  # agents that leave when all is done are no news
            return []
        case AgentJoined() if item.slots:
            return [f"dte: {words.one_line(item.name)} joined ({words.count(item.slots, 'slot')})"]
        case AgentLeft():
            reason = words.one_line(item.reason)
            what = "was lost" if item.lost else "left"
            rest = "; what it had is run elsewhere" if item.lost else ""
            return [f"dte: {words.one_line(item.name)} {what}{': ' if reason else ''}{reason}{rest}"]
        case Notice() if summary.alike().get(item.alike, 0) <= ALIKE_MAX:
            first, *more = item.text.splitlines() or [""]
            return [f"dte: {words.one_line(first)}", *(f"     {words.one_line(line)}" for line in more)]
        case _:
            return []


def requeued_line(item: TaskRequeued) -> str:
    """A task that will run again, and why."""
    where = f" on {words.one_line(item.agent)}" if item.agent else ""
    return f"↻ {words.one_line(item.task)}  runs again: attempt {item.attempt}{where}: {words.one_line(item.reason)}"


def status_line(progress: Progress, left_ms: int | None = None) -> str:
    """`dte: 41/120 done, 12 running on 4 agents, 2 failed, ~3m10s left`."""
    agents = words.count(progress.agents, "agent")
    if not progress.total:
        return f"dte: no tasks yet, {agents} here"
    parts = [f"dte: {progress.done:,}/{progress.total:,} done", f"{progress.running:,} running on {agents}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if left_ms is not None and progress.done < progress.total:
        parts.append(f"~{words.rough(left_ms)} left")
    return ", ".join(parts)


def write_log(pen: Pen, logs: Logs, task: TaskId, *, colour: bool) -> None:
    """Print the whole log of `task` and forget it. It ends with a line break, whether it had one or not."""
    cleaner = Cleaner(colour=colour)
    last = "\n"
    for piece in logs.read(task):
        if text := cleaner.feed(piece):
            pen.write(text)
            last = text[-1]
    if text := cleaner.finish():
        pen.write(text)
        last = (text.removesuffix(RESET) or last)[-1]
    if last != "\n":
        pen.write("\n")
    logs.drop(task)


def write_closing(pen: Pen, summary: Summary, logs: Logs, exit_code: int, groups: Groups, *, colour: bool) -> None:
    """The end: logs that nobody has seen, then the failures in full, then the account."""
    failures = summary.failures()
    failed = {end.task for end in failures}
    for task in logs.tasks():
        if task not in failed:
            pen.line(groups.open(f"· {words.one_line(task)}  what it had written"))
            write_log(pen, logs, task, colour=colour)
    for end in failures:
        pen.line()
        pen.line(groups.open(task_line(end)))
        write_log(pen, logs, end.task, colour=colour)
    if failures:
        pen.line()
    for line in closing_lines(summary, exit_code):
        pen.line(line)


def closing_lines(summary: Summary, exit_code: int, *, wrapped: bool = False) -> Iterator[str]:
    """The account of a run: what became of the tasks, how long it took, and how good that is. `wrapped`: it is a command's, which runs itself
    what it does not leave to the mesh.
    """
    for what, number in summary.alike().items():
        if number > ALIKE_MAX:
            yield f"dte: {words.count(number - ALIKE_MAX, 'more task')} {what}; `--json FILE` has all notices"
    progress = summary.progress()
    ending = _ending(exit_code, stopped=summary.stopped)
    if failures := summary.failures():
        yield f"dte: failed: {', '.join(words.one_line(end.task) for end in failures)}"
    if flaky := summary.flaky():
        yield f"dte: flaky, failed before it passed: {', '.join(words.one_line(task) for task in flaky)}"
    if not progress.total:
        # What could not even begin is told by its reason alone.
        if exit_code not in (Exit.USAGE, Exit.MESH):
            itself = ": the command did everything itself" if exit_code == Exit.OK else ""
            yield f"dte: {ending}; {f'nothing was distributed{itself}' if wrapped else 'no tasks were run'}"
        return
    counts = Counter(_outcome(end) for end in summary.ends())
    counts["not finished"] = progress.total - progress.done
    hits = sum(end.cache == "hit" for end in summary.ends())
    parts = [f"{number:,} {outcome}" for outcome in _OUTCOMES if (number := counts[outcome])]
    cached = f" ({hits:,} from cache)" if hits else ""
    itself = "" if summary.distributed else "; nothing was distributed: the command did everything itself"
    yield f"dte: {ending}; {words.count(progress.total, 'task')}: {', '.join(parts)}{cached}{itself}"
    if itself:
        return
    makespan_ms, work_ms = summary.makespan_ms(), summary.work_ms()
    agents = words.count(summary.agents_seen(), "agent")
    speed = f", {words.ratio(work_ms, makespan_ms)} times as fast as one slot" if work_ms > makespan_ms > 0 else ""
    yield f"dte: {words.duration(makespan_ms)} on {agents} for {words.duration(work_ms)} of work{speed}"
    path_ms, path = summary.critical_path()
    if path_ms:
        bound = words.duration(summary.lower_bound_ms())
        yield f"dte: no faster than {bound} with these slots; longest chain {words.duration(path_ms)}: {_chain(path)}"


_OUTCOMES: Final = ("succeeded", "failed", "failed as allowed", "skipped", "cancelled", "not finished")


def _outcome(end: TaskEnded) -> str:
    match end.status:
        case "success":
            return "succeeded"
        case "failure":
            return "failed" if is_failure(end) else "failed as allowed"
        case "skipped" | "cancelled":
            return end.status


def _ending(exit_code: int, *, stopped: bool) -> str:
    match exit_code:
        case Exit.OK:
            return "all is well"
        case Exit.HUNG_UP | Exit.INTERRUPTED | Exit.TERMINATED if stopped:  # otherwise it is the command's own code
            return f"stopped by a signal (exit code {exit_code})"
        case _:
            return f"exit code {exit_code}"


def _chain(path: list[TaskId]) -> str:
    names = [words.one_line(task) for task in path]
    if len(names) > PATH_TASKS_MAX:
        half = PATH_TASKS_MAX // 2
        names = [*names[:half], f"… {len(names) - 2 * half} more", *names[-half:]]
    return " → ".join(names)
