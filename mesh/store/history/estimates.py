"""From samples to expected durations. Pure, so that it can move into the core.

Durations are skewed, so all is reckoned on their logarithms. Of the kept samples of a task on one class of machine come two numbers:

    p50   half of it the exponentially weighted mean (alpha 0.3), half the median
    p90   the 90% quantile, mixed with what normal noise around p50 would give, as if there were `_NOISE_SAMPLES` more samples

The weighted mean follows a task that has changed, the median does not jump at one straggler. In a simulation (20 samples, noise of sigma 0.3) the error
of mean, median and half of each is 0.19, 0.08, 0.12 with 2% of the samples 8 times as long, and 0.27, 0.64, 0.45 where the task had doubled three samples ago.

Few samples say little, so each number is drawn towards its parent's in a tree, by credibility weights (Bühlmann 1967): own value x n + parent's x k, over
n + k, where n counts the samples (above the leaves: the children) and k is the variance within ÷ the variance between children:

    everything → target → target of a project → task → task on one class of machine
    `build`      p1's `build`, all its shards and configurations     p1:build:production

A parent's p50 is the mean of its children's, its p90 the 90% quantile of theirs, since whoever asks it is a child that nobody knows.
All steps are monotone: no longer sample makes a shorter estimate.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from mesh.protocol.estimate import family
from mesh.types import TaskId

ALPHA: Final = 0.3

_SIGMA: Final = 0.3
"""Standard deviation, on logarithms, of one task on one class of machine: the noise that schedules are tested with."""
_NOISE_P90: Final = 1.2816 * _SIGMA
_NOISE_SAMPLES: Final = 4

_BETWEEN: Final = (1.2, 0.8, 0.4, 0.4)
"""Standard deviations between targets, projects of a target, tasks of both, and machines. The last is that of speeds spread evenly from 0.5 to 2; the
others are judgement, and need not be good: what matters for a schedule is the order of the estimates, which errors of sigma 1 hardly disturb.
"""
_GUESS_WEIGHT: Final = 0.5
"""Of a second, in the mean of everything: as much as half a target."""
_WEIGHTS: Final = (
    _GUESS_WEIGHT,
    *((within / between) ** 2 for between, within in zip(_BETWEEN, (*_BETWEEN[1:], _SIGMA), strict=True)),
)
"""k by depth in the tree: 0.5, 0.44, 0.25, 1, 0.56."""


class Estimate(Struct, frozen=True):
    """What a task will probably take. `samples` counts those of this task on this class of machine: with 0 it is what similar tasks took."""

    p50_ms: int
    p90_ms: int
    samples: int


class _Value(Struct, frozen=True):
    """Logarithms of milliseconds, from `count` samples or children."""

    p50: float
    p90: float
    count: int = 0


_GUESS: Final = _Value(math.log(1_000), math.log(4_000))

Series = Mapping[tuple[TaskId, str], Sequence[int]]
"""By task and class of machine: durations in milliseconds of one workspace, oldest first, at least one."""

_Path = tuple[str, ...]


def estimates(series: Series, tasks: Iterable[TaskId], machine: str) -> dict[TaskId, Estimate]:
    """An estimate for each of `tasks` on a machine of this class; nothing at all where there is no sample of anything."""
    if not series:
        return {}
    tree = _Tree({_path(task, machine): _leaf(durations) for (task, machine), durations in series.items()})
    return {task: tree.estimate(_path(task, machine)) for task in tasks}


class _Tree:
    def __init__(self, leaves: dict[_Path, _Value]) -> None:
        self._raw = dict(leaves)
        self._drawn: dict[_Path, _Value] = {}
        level = leaves
        while () not in level:
            children: dict[_Path, list[_Value]] = {}
            for path, value in level.items():
                children.setdefault(path[:-1], []).append(value)
            level = {path: _parent(values) for path, values in children.items()}
            self._raw |= level

    def estimate(self, path: _Path) -> Estimate:
        value = self._value(path)
        p50 = max(1, round(math.exp(value.p50)))
        own = self._raw.get(path)
        return Estimate(p50, max(p50, round(math.exp(value.p90))), own.count if own is not None else 0)

    def _value(self, path: _Path) -> _Value:
        """What is known at `path`, drawn towards what is known above it."""
        if path not in self._drawn:
            above = self._value(path[:-1]) if path else _GUESS
            own = self._raw.get(path)
            self._drawn[path] = above if own is None else _mix(own, above, _WEIGHTS[len(path)])
        return self._drawn[path]


def _path(task: TaskId, machine: str) -> _Path:
    project, target = family(task)
    return (target, project, task, machine)


def _mix(own: _Value, above: _Value, weight: float) -> _Value:
    share = own.count / (own.count + weight)
    return _Value(above.p50 + (own.p50 - above.p50) * share, above.p90 + (own.p90 - above.p90) * share, own.count)


def _leaf(durations: Sequence[int]) -> _Value:
    logs = [math.log(max(duration, 1)) for duration in durations]
    mean = logs[0]
    for log in logs[1:]:
        mean += (log - mean) * ALPHA
    count = len(logs)
    logs.sort()
    p50 = (mean + (logs[count // 2] + logs[(count - 1) // 2]) / 2) / 2
    noisy = p50 + _NOISE_P90
    return _Value(p50, noisy + (_quantile_90(logs) - noisy) * count / (count + _NOISE_SAMPLES), count)


def _parent(children: Sequence[_Value]) -> _Value:
    count = len(children)
    p50 = math.fsum(child.p50 for child in children) / count
    return _Value(p50, _quantile_90(sorted(child.p90 for child in children)), count)


def _quantile_90(ordered: Sequence[float]) -> float:
    """Interpolated between neighbours."""
    place, part = divmod(9 * (len(ordered) - 1), 10)
    above = ordered[min(place + 1, len(ordered) - 1)]
    return ordered[place] + (above - ordered[place]) * part / 10
