"""What can go wrong between dte and nx on one machine, so that whoever gave the task can give it to another."""

from mesh.errors import LocalError
from mesh.types import TaskId


class WorkerError(LocalError):
    """nx cannot be kept running in this workspace, or ended while it had a task."""


class DriftError(LocalError):
    """This workspace is not the one that nx planned the task in: the same task has another hash here. It has not been run."""

    def __init__(self, task: TaskId, inputs: tuple[str, ...]) -> None:
        which = ", ".join(inputs) if inputs else "an input that this machine does not have"
        super().__init__(
            f"{task}: nx computes another hash on this machine than on the main job; what differs: {which}. "
            "Make both check out the same commit, install the same dependencies and set the same variables."
        )
        self.task = task
        self.inputs = inputs


class NotKeptError(LocalError):
    """The task succeeded, but its outputs are not in the store, so that no other machine could have them."""

    def __init__(self, task: TaskId, reason: str) -> None:
        super().__init__(f"{task}: the task succeeded, but its outputs cannot be passed on: {reason}")
        self.task = task
        self.log: bytes | None = None
        self.problem = ""
        """Both as in `Outcome`."""


class RestoreError(LocalError):
    """nx did not bring a task's outputs into this workspace, although it was offered them."""
