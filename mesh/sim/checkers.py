"""What must hold in every simulated life. A simulator finds only what somebody looks for, so each promise of the protocol has a checker here."""

from collections.abc import Mapping

from mesh.graph import Graph, Task
from mesh.ledger import verify
from mesh.ledger.completion import Completion
from mesh.ledger.statements import open_leaf
from mesh.protocol import effects as fx
from mesh.protocol import news
from mesh.protocol.leader import Leader
from mesh.types import Instant, TaskId


class Checkers:
    """Watches one life; `problems` are sentences."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.problems: list[str] = []
        self.status: dict[TaskId, news.TaskStatus] = {}
        self.open_awards: dict[TaskId, tuple[str, int]] = {}
        self.seqs: list[int] = []
        self.verdicts: list[news.Verdict] = []
        self.added: dict[TaskId, None] = {}
        self.delivered: dict[TaskId, None] = {}
        self.restored: dict[str, dict[TaskId, None]] = {}
        """By agent, whose outputs have been brought into its workspace."""

    def problem(self, text: str) -> None:
        """Something that must not be."""
        self.problems.append(text)

    def hear(self, item: news.News, now: Instant) -> None:
        """Awards are fenced and exclusive; a verdict comes once, and after everything else."""
        if self.verdicts and not isinstance(item, (news.CheckpointMade, news.Notice)):
            # Agents notice the end of the main job after it; that is told as a notice.
            self.problem(f"{now}: news after the verdict: {item!r}")
        match item:
            case news.TaskAwarded(task, _, agent, attempt, _, seq):
                if self.seqs and seq <= self.seqs[-1]:
                    self.problem(f"award {seq} came after award {self.seqs[-1]}")
                self.seqs.append(seq)
                if task in self.status:
                    self.problem(f"{task} was awarded to {agent} though it is done")
                self.open_awards[task] = (agent, attempt)
            case news.TaskRequeued(task):
                self.status.pop(task, None)
                self.delivered.pop(task, None)
                self.open_awards.pop(task, None)
            case news.TaskDelivered(task):
                self.delivered[task] = None
            case news.TaskEnded(task=task, status=status):
                if task in self.status:
                    self.problem(f"{task} ended twice")
                self.status[task] = status
                self.open_awards.pop(task, None)
            case news.GraphAdded(_, tasks):
                self.added.update(dict.fromkeys(task for task, _ in tasks))
            case news.RunEnded(verdict):
                self.verdicts.append(verdict)
            case _:
                pass

    def together(self, agent: str, slots: int, tasks: list[Task]) -> None:
        """What runs on one agent at one time fits into its slots, and a task that tolerates no neighbour has none."""
        if sum(min(task.resources.cpu, slots) for task in tasks) > slots:
            self.problem(f"{agent} has {slots} slots and runs {', '.join(task.id for task in tasks)}")
        if len(tasks) > 1 and any(task.whole_agent for task in tasks):
            self.problem(f"{agent} runs {', '.join(task.id for task in tasks)}, of which one tolerates no neighbour")

    def executing(self, agent: str, task: Task, needs: tuple[fx.Need, ...], *, shared: bool) -> None:
        """A task starts only after all it depends on has succeeded, and with every output that there is."""
        restored = self.restored.setdefault(agent, {})
        restored |= {need.task: None for need in needs}
        for dep in task.deps:
            status = self.status.get(dep)
            passed = status == "success" or (status == "failure" and self.graph.tasks[dep].allow_failure)
            # A lost output may be found missing while a dependent, which has it, is already starting.
            if not passed and dep not in restored and not shared:
                self.problem(f"{task.id} started on {agent} while {dep} is {status or 'not done'}")
        if not shared:
            for dep in task.deps:
                if self.graph.tasks[dep].outputs and self.status.get(dep) == "success" and dep not in restored:
                    self.problem(f"{task.id} started on {agent} without the outputs of {dep}")

    def at_the_end(
        self, leader: Leader, verdict: news.Verdict | None, files: Mapping[str, bytes], *, stopped: bool
    ) -> None:
        """The verdict is that of one machine, and the ledger tells the whole story in a possible order."""
        if verdict is None or self.verdicts != [verdict]:
            self.problem(f"the run ended with {verdict}, after {self.verdicts}")
            return
        missing = [task for task in self.added if task not in self.status]
        if missing:
            self.problem(f"tasks nobody accounted for: {missing[:5]}")
        failed = any(
            status != "success" and not self.graph.tasks[task].allow_failure for task, status in self.status.items()
        )
        if verdict in ("success", "failure"):
            absent = [
                task for task, status in self.status.items() if status == "success" and task not in self.delivered
            ]
            if absent:
                self.problem(f"the verdict came before these were on the main job: {absent[:5]}")
        if verdict == "success" and failed:
            self.problem("a false green")
        if verdict == "failure" and not failed:
            self.problem("a false red")
        if verdict == "cancelled" and not stopped:
            self.problem("cancelled, though nobody stopped it")
        self._check_ledger(leader)
        found = verify(files)
        self.problems += [f"the ledger does not verify: {problem}" for problem in found.problems]
        if found.verdict != verdict:
            self.problem(f"the ledger's verdict is {found.verdict}, the run's {verdict}")

    def _check_ledger(self, leader: Leader) -> None:
        recorded: dict[TaskId, str] = {}
        ledger = leader.recorder.ledger
        for index in range(ledger.size):
            leaf = open_leaf(ledger.entry(index)).leaf
            if not isinstance(leaf, Completion):
                continue
            if leaf.status in ("success", "failure"):
                for dep in leaf.deps:
                    if recorded.get(dep) not in ("success", "failure"):
                        self.problem(f"the ledger has {leaf.task} before {dep}, which it depends on")
            recorded[leaf.task] = leaf.status
        for task, status in self.status.items():
            if recorded.get(task) != status:
                self.problem(f"the ledger says {recorded.get(task)} of {task}, the news said {status}")
