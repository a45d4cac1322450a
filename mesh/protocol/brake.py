"""When a run has failed often enough: after so many failed tasks nothing new is started; what runs finishes, or is ended as well.

going --the Nth failure that counts--> pulled (for good)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.types import TaskId


@dataclass(slots=True)
class Brake:
    """`--fail-after` and `--kill` of one run, or the like of one graph in it."""

    after: int = 0
    """How many failed tasks are enough; 0: never."""
    kill: bool = False
    """Whether what runs is ended as well."""
    graph: Mapping[TaskId, object] | None = None
    """The tasks that it is about; None: all of the run."""
    order: str = "--fail-after is {after}"
    """Who has asked for it, for a person."""
    _told: bool = False
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

    def notices(self) -> list[str]:
        """What is told once, when nothing new is started any more."""
        told, self._told = self._told, True
        return [] if told else [f"nothing new is started: {self.reason}"]

    @property
    def reason(self) -> str:
        """What a person is told of what was not done."""
        count = len(self._failed)
        return f"{count} task{'s have' if count != 1 else ' has'} failed, and {self.order.format(after=self.after)}"
