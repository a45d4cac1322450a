"""The half of a node that runs tasks: awards in, executions out, results back. Main jobs have one too, for what stays with them.

    (nothing) --award--> preparing --prepared--> waiting --a slot is free--> starting --running--> running --finished--> (result)
                             |                      |                           |                     |
                             +------ withdrawn, handed back: `Declined` --------+                     +--killed--> (nothing)

A result is kept, and sent again over every new link, until the leader shows that it has recorded it. Awards of an older epoch are void; a result of
one is still a result, since outputs are named by content and a second execution costs only time.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from mesh.graph import Task
from mesh.graph.graph import Graph
from mesh.identity.keys import NodeKey
from mesh.ledger.completion import Completion
from mesh.protocol import parts
from mesh.protocol.effects import Effect, Execute, Keep, Kill, Need, Prepare, Send
from mesh.protocol.events import Execution
from mesh.types import Blob, Epoch, Instant, NodeId, TaskId, after
from mesh.wire.messages import Award, Declined, Record, Result, Started, Withdraw

TELL_START_MS: Final = 20
"""A start is told after so long: of what is over by then the result tells enough, at half the messages."""


class Phase(Enum):
    """Where an awarded task is on this node."""

    PREPARING = auto()
    WAITING = auto()
    STARTING = auto()
    RUNNING = auto()


class Job(Struct):
    """One award at work."""

    award: Award
    task: Task
    needs: tuple[Need, ...]
    attempt: int
    """Of the award under which it began. Effects and events speak of this one, messages of the award that is valid now."""
    upstream: tuple[TaskId, ...] = ()
    """What it depends on, directly or not, but for what was in place when it was awarded."""
    made_anew: int = 0
    """How often something had been made anew by then."""
    behind_failure: bool = False
    """Something that it depends on, directly or not, had failed, as it may. Its key stands for what it makes where that succeeds."""
    phase: Phase = Phase.PREPARING
    since: Instant = Instant(0)
    """When it began to run."""
    killed: bool = False
    again: "Job | None" = None
    """Awarded anew while its end was under way: it begins once more when that is over."""


class Worker(Struct):
    """What this node has been given, and what of it runs. It holds at most `slots` slots' worth of running tasks."""

    me: NodeId
    name: str
    run_id: str
    key: NodeKey
    slots: int
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    order: dict[TaskId, int] = field(default_factory=dict)
    """Each task's place in the order of the graphs: dependencies are restored in it."""
    records: dict[TaskId, Record] = field(default_factory=dict)
    jobs: dict[TaskId, Job] = field(default_factory=dict)
    """In the order of their awards."""
    unrecorded: dict[TaskId, str] = field(default_factory=dict)
    """Envelopes of results that the leader has not shown in its records yet."""
    epoch: Epoch = Epoch(0)
    untold: dict[TaskId, None] = field(default_factory=dict)
    """What has started and is still to be told of, in the order of the starts."""
    _in_place: dict[TaskId, None] = field(default_factory=dict)
    """Tasks whose outputs are in this workspace, and so are those of all before them: no later award looks at them again."""
    _made_anew: int = 0
    """How often that came to nothing: something that was done has been run again, and may have left something else."""
    _behind_failure: dict[TaskId, bool] = field(default_factory=dict)
    """Of each task that was asked about, whether something before it has failed. Void as soon as there is one failure more, or one less."""

    def awarded(self, award: Award, leader: NodeId, now: Instant, *, shares_main: bool) -> list[Effect]:
        """The leader gives this node a task. `shares_main`: this workspace is the main job's own, where outputs need no bringing."""
        if award.epoch < self.epoch:
            return []
        self.epoch = award.epoch
        task = self.tasks.get(award.task)
        if task is None:
            return [
                Send(leader, Declined(award.task, award.attempt, "this agent does not have the graph of that task"))
            ]
        if award.task in self.unrecorded:
            return [Send(leader, Result(self.unrecorded[award.task]))]
        upstream = () if shares_main else self._upstream(task)
        if dep := self._only_elsewhere(upstream):
            reason = f"what {dep} made is on the main job alone, from where it cannot be passed on"
            return [Send(leader, Declined(award.task, award.attempt, reason, never=True))]
        new = Job(
            award,
            task,
            self._needs(upstream),
            award.attempt,
            upstream,
            self._made_anew,
            self._is_behind_failure(task),
        )
        job = self.jobs.get(award.task)
        if job is None:
            return self._begin(new)
        if job.killed:
            job.again = new
            return []
        if job.phase in (Phase.PREPARING, Phase.WAITING) and _outputs(new.needs) != _outputs(job.needs):
            # What it needs was made anew while this node was out of reach.
            return self._begin(new)
        job.award = award
        return [self._tell_start(job, leader, now)] if job.phase is Phase.RUNNING else []

    def _begin(self, job: Job) -> list[Effect]:
        self.jobs[job.task.id] = job
        if job.needs:
            return [Prepare(job.task.id, job.attempt, job.needs)]
        return self.prepared(job.task.id, job.attempt)

    def _close(self, job: Job) -> list[Effect]:
        """It is over without a result: once more, where it has been awarded anew meanwhile, and on with what waits."""
        self._forget(job)
        if job.again is None:
            return self._start()
        return [*self._begin(job.again), *self._start()]

    def _only_elsewhere(self, upstream: tuple[TaskId, ...]) -> TaskId | None:
        """What nobody can be given: it succeeded where its outputs could not be stored."""
        for dep in upstream:
            record = self.records.get(dep)
            if record is None or record.status != "success" or record.outputs is not None:
                continue
            if self.tasks[dep].leaves_something:
                return dep
        return None

    def _needs(self, upstream: tuple[TaskId, ...]) -> tuple[Need, ...]:
        """Outputs of what stands before a task: what a one-machine run would have on disk by now."""
        needs = []
        for dep in upstream:
            record = self.records.get(dep)
            if record is not None and record.outputs is not None:
                needs.append(Need(dep, record.key, record.outputs, record.holders))
        return tuple(needs)

    def _upstream(self, task: Task) -> tuple[TaskId, ...]:
        """Everything it depends on, directly or not, in the order of the graphs; what is in place already is not looked at."""
        seen: dict[TaskId, None] = {}
        stack = list(task.deps)
        while stack:
            dep = stack.pop()
            if dep not in seen and dep not in self._in_place:
                seen[dep] = None
                stack.extend(self.tasks[dep].deps)
        return tuple(sorted(seen, key=self.order.__getitem__))

    def _is_behind_failure(self, task: Task) -> bool:
        """Found out once for each task, with all before it: otherwise a chain would be walked again for each of its tasks."""
        known = self._behind_failure
        stack = [task]
        while stack:
            deps = stack[-1].deps
            if unknown := [dep for dep in deps if dep not in known]:
                stack += [self.tasks[dep] for dep in unknown]
            else:
                known[stack.pop().id] = any(known[dep] or self._failed(dep) for dep in deps)
        return known[task.id]

    def _failed(self, task: TaskId) -> bool:
        record = self.records.get(task)
        return record is not None and record.status == "failure"

    def add_graph(self, graph: Graph) -> None:
        """Tasks that may be awarded from now on. Of a task that several graphs have the first one counts, as on the leader."""
        for task in graph.tasks.values():
            self.order.setdefault(task.id, len(self.order))
            self.tasks.setdefault(task.id, task)

    def prepared(self, task: TaskId, attempt: int) -> list[Effect]:
        """Its inputs are in the store."""
        job = self._job(task, attempt)
        if job is None or job.phase is not Phase.PREPARING:
            return []
        job.phase = Phase.WAITING
        return self._start()

    def _start(self) -> list[Effect]:
        """Start what is prepared and fits, first awarded first."""
        effects: list[Effect] = []
        busy = [job for job in self.jobs.values() if job.phase in (Phase.STARTING, Phase.RUNNING)]
        used = sum(self._cpu(job.task) for job in busy)
        exclusive = any(job.task.whole_agent for job in busy)
        for job in self.jobs.values():
            if job.phase is not Phase.WAITING:
                continue
            if exclusive or used + self._cpu(job.task) > self.slots or (job.task.whole_agent and used > 0):
                # Nothing overtakes: a wide task at the head would otherwise never find room.
                break
            job.phase = Phase.STARTING
            if job.task.id in self.records:
                self._is_made_anew()
            used += self._cpu(job.task)
            exclusive = job.task.whole_agent
            effects.append(Execute(job.task.id, job.attempt, job.needs, job.behind_failure))
        return effects

    def _cpu(self, task: Task) -> int:
        return min(task.resources.cpu, self.slots)

    def running(self, task: TaskId, attempt: int, leader: NodeId | None, now: Instant) -> list[Effect]:
        """Its process has started."""
        job = self._job(task, attempt)
        if job is None:
            return []
        job.phase = Phase.RUNNING
        if job.made_anew == self._made_anew:
            self._in_place |= dict.fromkeys(job.upstream)
        job.since = now
        if leader is not None and job.needs:
            # By this the leader measures how long they took to come.
            return [self._tell_start(job, leader, now)]
        self.untold[task] = None
        return []

    def due(self, now: Instant, leader: NodeId | None) -> list[Effect]:
        """Tell of what has been running for a while."""
        due = [self.jobs[task] for task in self.untold if now >= after(self.jobs[task].since, TELL_START_MS)]
        for job in due:
            del self.untold[job.task.id]
        return [self._tell_start(job, leader, now) for job in due if leader is not None]

    def deadline(self) -> Instant | None:
        """When there is something to tell."""
        first = next(iter(self.untold), None)
        return None if first is None else after(self.jobs[first].since, TELL_START_MS)

    def _tell_start(self, job: Job, leader: NodeId, now: Instant) -> Effect:
        self.untold.pop(job.task.id, None)
        return Send(leader, Started(job.task.id, job.award.attempt, now - job.since))

    def finished(self, task: TaskId, attempt: int, run: Execution, leader: NodeId | None) -> list[Effect]:
        """It ended: sign the completion and tell the leader."""
        job = self._job(task, attempt)
        if job is None:
            return []
        self._forget(job)
        completion = Completion(
            run_id=self.run_id,
            task=task,
            key=run.key or job.task.key,
            status=run.status,
            exit_code=run.exit_code,
            epoch=job.award.epoch,
            seq=job.award.seq,
            attempt=job.award.attempt,
            name=self.name,
            outputs=run.outputs,
            log=run.log,
            started_ms=run.started_ms,
            ended_ms=run.ended_ms,
            max_rss_bytes=run.max_rss_bytes,
            cache=run.cache,
            deps=job.task.deps,
            problem=run.problem,
            left=run.left,
            allowed_to_fail=job.task.allow_failure,
        )
        envelope = completion.seal(self.key)
        effects: list[Effect] = []
        keeps = job.task.cache and completion.key and not job.behind_failure
        if run.cache == "none" and run.status == "success" and keeps:
            effects.append(Keep(completion.key, envelope))
        self.unrecorded[task] = envelope.decode()
        if leader is not None:
            effects.append(Send(leader, Result(self.unrecorded[task])))
        return [*effects, *self._start()]

    def handed(self, task: TaskId, attempt: int, declined: Declined, leader: NodeId | None) -> list[Effect]:
        """The shell could not, or must not, run it here."""
        job = self._job(task, attempt)
        if job is None:
            return []
        answer = replace(parts.of_declined(declined), attempt=job.award.attempt)
        effects: list[Effect] = [Send(leader, answer)] if leader is not None else []
        return [*effects, *self._close(job)]

    def killed(self, task: TaskId, attempt: int) -> list[Effect]:
        """Its processes are gone, as was asked."""
        job = self._job(task, attempt)
        return [] if job is None else self._close(job)

    def withdrawn(self, message: Withdraw, leader: NodeId) -> list[Effect]:
        """The leader wants an award back."""
        job = self.jobs.get(message.task)
        if job is None or message.epoch < self.epoch:
            return []
        taken = Send(leader, Declined(message.task, message.attempt, "taken back"))
        if job.again is not None and job.again.attempt == message.attempt:
            job.again = None
            return [taken]
        if job.award.attempt != message.attempt:
            return []
        if job.phase in (Phase.STARTING, Phase.RUNNING):
            if not message.kill or job.killed:
                return []
            job.killed = True
            return [Kill(message.task, job.attempt)]
        return [taken, *self._close(job)]

    def learn(self, records: Mapping[TaskId, Record]) -> None:
        """The leader's records: where outputs are, and which of this node's results have arrived."""
        known = ((self.records[task], record) for task, record in records.items() if task in self.records)
        if any(old.outputs != new.outputs for old, new in known):
            self._is_made_anew()
        if any((record.status == "failure") != self._failed(task) for task, record in records.items()):
            self._behind_failure.clear()
        self.records.update(records)
        for task in records:
            self.unrecorded.pop(task, None)

    def _is_made_anew(self) -> None:
        self._in_place.clear()
        self._made_anew += 1

    def resend(self, leader: NodeId, now: Instant) -> list[Effect]:
        """What the leader may have missed while there was no link."""
        effects: list[Effect] = [Send(leader, Result(envelope)) for envelope in self.unrecorded.values()]
        running = (job for job in self.jobs.values() if job.phase is Phase.RUNNING and not job.killed)
        effects += [self._tell_start(job, leader, now) for job in running]
        return effects

    def drop_waiting(self) -> None:
        """Nobody leads any more: forget what has not started."""
        for task, job in list(self.jobs.items()):
            job.again = None
            if job.phase in (Phase.PREPARING, Phase.WAITING):
                del self.jobs[task]

    def kill_all(self) -> list[Effect]:
        """The run is over: forget what waits, end what runs."""
        self.drop_waiting()
        effects: list[Effect] = []
        for task, job in self.jobs.items():
            if not job.killed:
                job.killed = True
                effects.append(Kill(task, job.attempt))
        return effects

    def _forget(self, job: Job) -> None:
        del self.jobs[job.task.id]
        self.untold.pop(job.task.id, None)

    def _job(self, task: TaskId, attempt: int) -> Job | None:
        job = self.jobs.get(task)
        return job if job is not None and job.attempt == attempt else None


def _outputs(needs: tuple[Need, ...]) -> list[tuple[TaskId, Blob]]:
    """What is to be brought, from wherever."""
    return [(need.task, need.outputs) for need in needs]
