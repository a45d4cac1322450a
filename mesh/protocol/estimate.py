"""How long a task will take, and how fast an agent is, from what agents bid and from what this run has shown.

All is reckoned on logarithms of milliseconds, since durations are skewed. A task has one duration for everybody, that of a machine of speed 1, and an agent
one speed for everything:

    log duration of a task on an agent = log duration of the task - log speed of the agent

What an agent bids is its speed's and its task's affair mixed, and noisy. Comparing agents by such bids would send each task to whoever errs most, and let it
wait there. So a bid is split: the median of what an agent differs by from the others, over all tasks, is its speed; what remains, averaged over all agents, is
the task. Speeds are shrunk towards 1 by the variance of what they were seen in.

Of each task an agent says two quantiles, and these how far it may be off, be it that it knows little of the task or that the task varies from run to run: such an
opinion counts less, says less of its agent's speed, and the task is overdue later.

What was known may be worse than it says, and everything may take longer today: by what this run's tasks were off so far, others are late sooner or later.

A task that nobody knows is taken to be like others of its target, and of its project, as far as this run has seen any (`family`).
"""

import math
from bisect import insort
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import islice
from statistics import median
from typing import Final, NamedTuple

from msgspec import Struct, field

from mesh.types import NodeId, Quantiles, TaskId

GUESS_MS: Final = 1_000
"""A task where nothing was ever seen."""

# Variances, on logarithms.
_OF_KNOWN: Final = 9 / 100
"""Of a duration around what was known of its task beforehand: sigma 0.3. Where a bid tells of more the task is not that well known."""
_OF_RUNS: Final = 2 / 100
"""Of what one task takes from run to run, however well it is known: sigma 0.14."""
_OF_TARGET: Final = 64 / 100
"""Of a duration around what others of its target take, until some have been seen: sigma 0.8."""
_OF_SPEEDS: Final = 16 / 100
"""Of agents: about that of speeds from 0.5 to 2."""
_SHIFT_MAX: Final = 7 / 10
"""One execution moves a speed as if it were off by a factor of two at most: a straggler says nothing of its agent."""
_SHARED_MAX: Final = 20
"""A bid counts as much as so many executions: it was learnt on other days."""
_PRIOR: Final = 1 / 2
"""Samples that the mean above counts for, in a mean that has few."""
_UNSEEN: Final = 8 / 10
"""A target of which nothing has been seen is taken for long: it is started early, and so it is soon seen."""
_Z_90: Final = 128 / 100
_OVERDUE: Final = math.log(3 / 2)
"""Half as long again."""
_OVERDUE_SPREAD: Final = 3 / 2
"""Of the spread that nine of ten tasks stay within: so much of it, and 97 of 100 do."""
_ERRORS_PRIOR: Final = 10
"""So many tasks that took what was known of them count as seen before the first one."""
_SURE: Final = 25 / 100
"""The variance up to which an estimate says when a slot will be free: sigma 0.5."""
_SHORT_MS: Final = 100
"""Of tasks that take so long a message is a noticeable part."""
_BRIEF_MS: Final = 20
"""What should take so long may take many times as long, and nothing behind it waits for long."""
MOMENT_MS: Final = 10
"""What is known to take no longer takes a moment: less than to give it to somebody."""
_PRIOR_AGENTS: Final = 2
"""Agents that `_OF_SPEEDS` counts for, beside what this run's agents differ by."""


def _of(estimate: Quantiles) -> tuple[float, float]:
    """The mean and the variance of the logarithm that has these quantiles."""
    log = math.log(max(estimate.p50_ms, 1))
    return log, ((math.log(max(estimate.p90_ms, 1)) - log) / _Z_90) ** 2


@lru_cache(maxsize=1 << 17)
def family(task: TaskId) -> tuple[str, str]:
    """The project and the target in a task's id, without its shard (`test/3`), its configuration and its part (`e2e-ci--src/a.spec.ts`).

    Numbers at the end of an id without a project are taken for a shard's: `mProject_00012`.
    """
    project, colon, rest = task.partition(":")
    target = (rest if colon else project).partition(":")[0].partition("--")[0]
    stem, _, shard = target.rpartition("/")
    if stem and shard.isdigit():
        return (project if colon else ""), stem
    if not colon:
        stem = target.rstrip("0123456789").rstrip("-_.#")
        target = stem if stem[-1:].isalnum() else target
    return (project if colon else ""), target


def usual(p50_ms: int) -> Quantiles:
    """What is known of a task that is neither steadier nor less so than others."""
    return Quantiles(p50_ms, round(p50_ms * math.exp(_Z_90 * math.sqrt(_OF_KNOWN))))


def sample(estimates: Mapping[TaskId, Quantiles], most: int, node: NodeId) -> dict[TaskId, Quantiles]:
    """So many of them at most, one in each stretch of the graph, and of other tasks than other nodes say; all of them where `most` is 0.

    Many agents that say what they think of every task cost the leader as much as agents times tasks, and tell it little that the first ones have not.
    """
    if most < 1 or len(estimates) <= most:
        return dict(estimates)
    step = -(-len(estimates) // most)
    return dict(islice(estimates.items(), int(node[:8], 16) % step, None, step))


class Expectation(NamedTuple):
    """What a task should take at speed 1, whether that says when it will be over, and whether it is a moment."""

    duration_ms: int
    sure: bool
    moment: bool


class _Mean(Struct):
    """Of logarithms. `spread` is the sum of squared differences from the mean (Welford)."""

    count: int = 0
    value: float = 0
    spread: float = 0

    def add(self, sample: float) -> None:
        self.count += 1
        delta = sample - self.value
        self.value += delta / self.count
        self.spread += delta * (sample - self.value)

    def drawn_to(self, above: float, weight: float) -> float:
        return (self.value * self.count + above * weight) / (self.count + weight)

    def variance(self, prior: float, weight: int) -> float:
        return (self.spread + prior * weight) / (max(self.count - 1, 0) + weight)


class _Opinions(Struct):
    """Of one task's logarithm at speed 1: the mean of what agents bid and what it took, each by its precision."""

    value: float = 0
    weight: float = 0
    """How many well-founded opinions these are worth."""
    variance: float = 0
    """Of a duration around each of them, by what they say of it."""

    def add(self, log: float, variance: float) -> None:
        weight = _OF_KNOWN / max(variance, _OF_KNOWN)
        self.weight += weight
        self.value += (log - self.value) * weight / self.weight
        self.variance += (variance - self.variance) * weight / self.weight


class _Errors(Struct):
    """By how much, on logarithms, tasks of this run have taken longer than was known of them: in order."""

    ordered: list[float] = field(default_factory=list)

    def add(self, error: float) -> None:
        insort(self.ordered, error)

    def typical(self) -> float:
        """How much longer everything takes than was known, or shorter."""
        count = len(self.ordered)
        return self.ordered[count // 2] * count / (count + _ERRORS_PRIOR) if count else 0

    def shift(self) -> float:
        """How much longer, if so."""
        return max(0, self.typical())

    def overdue(self) -> float:
        """What only a few take longer by: half as long again as everything does, or more where what was known turns out to be worse than that."""
        count = len(self.ordered)
        seen = _OVERDUE_SPREAD * self.ordered[count * 9 // 10] if count else 0
        return max(_OVERDUE + self.shift(), (seen * count + _OVERDUE * _ERRORS_PRIOR) / (count + _ERRORS_PRIOR))


class _Speed(Struct):
    """Evidence of one agent's speed: `total` and `weight` of samples, each by its precision."""

    total: float = 0
    weight: float = 0


class _Speeds(Struct):
    """All agents' speeds. How much agents really differ is estimated beside (DerSimonian and Laird's method of moments), so that equal ones are soon taken for equal."""

    of: dict[NodeId, _Speed] = field(default_factory=dict)
    agents: int = 0
    """Those with evidence; below are sums over them."""
    totals: float = 0
    weights: float = 0
    weights_squared: float = 0
    squares: float = 0

    def log(self, node: NodeId) -> float:
        known = self.of.get(node)
        return known.total / (known.weight + 1 / self.variance) if known is not None and self.differ else 0

    @property
    def differ(self) -> bool:
        """Whether agents are further apart than equal ones are by chance (Cochran's Q is more than its mean): who waits for an agent that is faster by chance waits for nothing."""
        return self.spread > self.agents - 1

    @property
    def spread(self) -> float:
        """How far all are from their mean, each by its precision (Cochran's Q): of equal ones about one less than their number. That all are off by the same says nothing of any."""
        return self.squares - self.totals**2 / self.weights if self.agents > 1 else 0

    @property
    def variance(self) -> float:
        """Of agents' speeds, beyond what their samples' noise explains."""
        prior = _OF_SPEEDS * _PRIOR_AGENTS
        free = self.agents - 1
        if free < 1:
            return _OF_SPEEDS
        found = max(0, (self.spread - free) / (self.weights - self.weights_squared / self.weights))
        return (prior + found * free) / (_PRIOR_AGENTS + free)

    def see(self, node: NodeId, sample: float, variance: float) -> None:
        """One execution there."""
        now = self.log(node)
        self.add(node, min(max(sample, now - _SHIFT_MAX), now + _SHIFT_MAX), variance)

    def add(self, node: NodeId, sample: float, variance: float, count: int = 1) -> None:
        """So many samples, of which this is the middle: that is not moved by stragglers."""
        known = self.of.setdefault(node, _Speed())
        self._count(known, -1)
        known.total += sample * count / variance
        known.weight += count / variance
        self._count(known, 1)

    def _count(self, known: _Speed, sign: int) -> None:
        if known.weight:
            self.agents += sign
            self.totals += sign * known.total
            self.weights += sign * known.weight
            self.weights_squared += sign * known.weight**2
            self.squares += sign * known.total**2 / known.weight


class Forecast(Struct):
    """What the leader thinks of all tasks and agents of one run."""

    tasks: dict[TaskId, _Opinions] = field(default_factory=dict)
    """By bids, and by executions of the very task."""
    speeds: _Speeds = field(default_factory=_Speeds)
    evidence: int = 0
    """Grows with each bid and each execution: how much more is known than at some time before."""
    errors: _Errors = field(default_factory=_Errors)
    """Of what was known, in tasks that are done."""
    _all: _Mean = field(default_factory=_Mean)
    _targets: dict[str, _Mean] = field(default_factory=dict)
    _projects: dict[str, _Mean] = field(default_factory=dict)
    """What a project's tasks differ by from their targets."""

    def bid(self, node: NodeId, estimates: Mapping[TaskId, Quantiles]) -> None:
        """An agent says what tasks should take there, from its own history."""
        if not estimates:
            return
        said = {task: _of(estimate) for task, estimate in estimates.items()}
        # The first one is what others are measured by, and differs from that by nothing.
        known = self.tasks or {task: _Opinions(log, variance=variance) for task, (log, variance) in said.items()}
        shared = [(known[task], log, variance) for task, (log, variance) in said.items() if task in known]
        if shared:
            faster = median(other.value - log for other, log, _ in shared)
            noise = median(max(other.variance, _OF_KNOWN) + max(variance, _OF_KNOWN) for other, _, variance in shared)
            self.speeds.add(node, faster, noise, min(len(shared), _SHARED_MAX))
        speed = self.speeds.log(node)
        for task, (log, variance) in said.items():
            self.tasks.setdefault(task, _Opinions()).add(log + speed, variance)
        self.evidence += 1

    def learn(self, task: TaskId, node: NodeId, duration_ms: int) -> None:
        """One execution there took this long."""
        log = math.log(max(duration_ms, 1))
        known = self.tasks.get(task)
        if known is not None:
            self.speeds.see(node, known.value - log, _OF_KNOWN + known.variance)
            if duration_ms > _SHORT_MS:
                self.errors.add(log + self.speeds.log(node) - known.value)
        elif self._all.count:
            self.speeds.see(node, self._log(task) - log, self._variance(task))
        self._learn(task, log + self.speeds.log(node))
        self.evidence += known is None

    def _learn(self, task: TaskId, log: float) -> None:
        project, name = family(task)
        target = self._targets.setdefault(name, _Mean())
        self._all.add(log)
        target.add(log)
        if project:
            self._projects.setdefault(project, _Mean()).add(log - target.drawn_to(self._all.value, _PRIOR))
        if task in self.tasks:
            self.tasks[task].add(log, _OF_KNOWN)

    def speed(self, node: NodeId) -> float:
        """How many times as fast as the common measure."""
        return math.exp(self.speeds.log(node))

    def _log(self, task: TaskId, unseen: float = _UNSEEN) -> float:
        known = self.tasks.get(task)
        if known is not None:
            return known.value
        project, target = family(task)
        log = self._all.drawn_to(math.log(GUESS_MS), _PRIOR)
        if target in self._targets:
            log = self._targets[target].drawn_to(log, _PRIOR)
        elif self._all.count:
            log += unseen
        if project in self._projects:
            log += self._projects[project].drawn_to(0, 1)
        return log

    def duration_ms(self, task: TaskId) -> int:
        """What it should take at speed 1."""
        return max(1, round(math.exp(self._log(task))))

    def _variance(self, task: TaskId) -> float:
        """Of a duration around `_log`."""
        if task in self.tasks:
            return self.tasks[task].variance
        target = self._targets.get(family(task)[1])
        return _OF_TARGET if target is None else target.variance(_OF_TARGET, 4)

    def average_ms(self, task: TaskId) -> float:
        """What such tasks take at speed 1 on the average: where it was known, as much longer or shorter as others have taken today. Of guesses that is more than `duration_ms`, the middle one: a few take many times as long."""
        if task in self.tasks:
            return math.exp(self._log(task) + self.errors.typical())
        return math.exp(self._log(task, unseen=0) + min(self._variance(task), 1) / 2)

    def is_sure(self, task: TaskId) -> bool:
        """Whether its duration is known well enough to say when it will be over. What only this run has shown is so where being wrong costs no more than a message or two."""
        if self._variance(task) > _SURE:
            return self.duration_ms(task) <= _BRIEF_MS
        return task in self.tasks or self.duration_ms(task) <= _SHORT_MS

    def takes_a_moment(self, task: TaskId) -> bool:
        """Whether it is known to, by what is known of the task or of others of its target: what nobody has seen is not."""
        return self.duration_ms(task) <= MOMENT_MS and (task in self.tasks or family(task)[1] in self._targets)

    def expectations(self) -> Callable[[TaskId], Expectation]:
        """What to expect of many tasks, as of now: where nothing is known of a task itself that is the same for its family, and reckoned once."""
        of_family: dict[tuple[str, str], Expectation] = {}

        def reckon(task: TaskId) -> Expectation:
            return Expectation(self.duration_ms(task), self.is_sure(task), self.takes_a_moment(task))

        def expect(task: TaskId) -> Expectation:
            if task in self.tasks:
                return reckon(task)
            kind = family(task)
            if kind not in of_family:
                of_family[kind] = reckon(task)
            return of_family[kind]

        return expect

    def slow_ms(self, task: TaskId) -> int:
        """What it would not take at speed 1 if it were a steady task: opinions of many agents tell that better than one. Never more than `overdue_ms`.

        From then on a copy is worth a slot with nothing else to do, also where the task varies so much that it is not overdue for long yet.
        """
        known = self.tasks.get(task)
        if known is None:
            return self.overdue_ms(task)
        quantile = math.exp(known.value + _Z_90 * math.sqrt(min(known.variance, _OF_KNOWN) / known.weight + _OF_RUNS))
        return round(min(quantile, math.exp(known.value + _OVERDUE)) * math.exp(self.errors.shift()))

    def overdue_ms(self, task: TaskId) -> int:
        """What it should not take at speed 1: the more of its 90% quantile and one and a half times what it should; later where this run shows that tasks take longer than was known."""
        known = task in self.tasks
        shift, late = (self.errors.shift(), self.errors.overdue()) if known else (0, _OVERDUE)
        return round(math.exp(self._log(task) + max(shift + _Z_90 * math.sqrt(self._variance(task)), late)))
