"""When a run has failed often enough: after so many failed tasks nothing new is started; what runs finishes, or is ended as well.

going --the Nth failure that counts--> pulled (for good)
"""

from dataclasses import dataclass, field

from mesh.types import TaskId


@dataclass(slots=True)
class Brake:
    """`--fail-after` and `--kill` of one run."""

    after: int = 0
    """How many failed tasks are enough; 0: never."""
    kill: bool = False
    """Whether what runs is ended as well."""
    _told: bool = False
    _failed: dict[TaskId, None] = field(default_factory=dict)

    def failed(self, task: TaskId) -> None:
        """A task has failed for good, and makes the run fail."""
        self._failed[task] = None

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
        return f"{count} task{'s have' if count != 1 else ' has'} failed, and --fail-after is {self.after}"
