"""When a run has failed often enough: after so many failed tasks nothing new is started; what runs finishes, or is ended as well.

going --the Nth failure that counts--> pulled (for good)
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from mesh.types import TaskId


class Brake(Struct):
    """`--fail-after` and `--kill` of one run, or the like of one graph in it."""

    after: int = 0
    """How many failed tasks are enough; 0: never."""
    kill: bool = False
    """Whether what runs is ended as well."""
    graph: Mapping[TaskId, object] | None = None
    """The tasks that it is about; None: all of the run."""
    order: str = "--fail-after is {after}"
    """Who has asked for it, for a person."""
    left: dict[TaskId, None] = field(default_factory=dict)
    """Once it is pulled: those of its tasks that may not be done yet."""
    _begun: bool = False
    _failed: dict[TaskId, None] = field(default_factory=dict)

    def failed(self, task: TaskId) -> None:
        """A task has failed for good, and makes the run fail."""
        if self.holds(task):
            self._failed[task] = None

    def holds(self, task: TaskId) -> bool:
        """Whether it is about `task`."""
        return self.graph is None or task in self.graph

    @property
    def pulled(self) -> bool:
        """Whether nothing new is to be started."""
        return 0 < self.after <= len(self._failed)

    def open_again(self, task: TaskId) -> None:
        """`task` is new, or was done and is not any more."""
        if self._begun and self.holds(task):
            self.left[task] = None

    def begin(self, tasks: Iterable[TaskId]) -> list[str]:
        """It is pulled, and `tasks` are all that there are: what is told of that, once."""
        if self._begun:
            return []
        self._begun = True
        self.left = {task: None for task in tasks if self.holds(task)}
        return [f"nothing new is started: {self.reason}"]

    @property
    def reason(self) -> str:
        """What a person is told of what was not done."""
        count = len(self._failed)
        return f"{count} task{'s have' if count != 1 else ' has'} failed, and {self.order.format(after=self.after)}"


class Brakes(Struct):
    """All that may stop a run, or one graph of it."""

    all: list[Brake] = field(default_factory=list)

    def failed(self, task: TaskId) -> None:
        """A task has failed for good, and makes the run fail."""
        for brake in self.all:
            brake.failed(task)

    def open_again(self, tasks: Sequence[TaskId]) -> None:
        """They are new, or were done and are not any more."""
        for brake in self.all:
            for task in tasks:
                brake.open_again(task)

    def pulled(self) -> list[Brake]:
        """Those that stop something."""
        return [brake for brake in self.all if brake.pulled]

    def hold(self, task: TaskId) -> bool:
        """Whether nothing more of what it belongs to is to be started."""
        return any(brake.holds(task) for brake in self.pulled())
