"""A forecast as a picture: makespan by number of agents above, and below it the run at the recommended number, task by task."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mesh.errors import UsageError
from mesh.report.words import duration

FORMATS: Final = (".svg", ".png")
_INCHES: Final = (10, 8)


def check(path: Path) -> None:
    """Raises `UsageError` for a picture that could not be drawn, before anything long has begun."""
    if path.suffix not in FORMATS:
        raise UsageError(f"--plot {path}: a name that ends with .svg or .png was expected")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with: pip install 'dte-mesh[plot]'")


def draw(
    path: Path,
    makespans: Sequence[tuple[int, int]],
    bound_ms: int,
    knee: int,
    bars: Sequence[tuple[str, str, int, int]],
    critical: frozenset[str],
) -> None:
    """`makespans` are (agents, ms); `bars` (row, task, start ms, end ms), of which those in `critical` are marked."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only who wants a picture has it, and waits for it

    figure = Figure(figsize=_INCHES, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.4))
    agents, seconds = [each for each, _ in makespans], [ms / 1000 for _, ms in makespans]
    above.plot(agents, seconds, marker="o", label="predicted")
    above.axhline(bound_ms / 1000, linestyle=":", color="grey", label=f"critical path, {duration(bound_ms)}")
    above.axvline(knee, linestyle="--", color="tab:green", label=f"more than {knee} gains under 5%")
    above.set(xlabel="agents", ylabel="seconds", ylim=(0, None), xticks=agents)
    above.legend()
    rows = {row: at for at, row in enumerate(dict.fromkeys(sorted(row for row, *_ in bars)))}
    for row, task, start_ms, end_ms in bars:
        colour = "tab:red" if task in critical else "tab:blue"
        below.barh(rows[row], (end_ms - start_ms) / 1000, left=start_ms / 1000, color=colour, edgecolor="white")
    below.set(xlabel=f"seconds, with {knee} agents; the critical path is red", yticks=range(len(rows)))
    below.set_yticklabels(rows)
    below.invert_yaxis()
    figure.savefig(path)
