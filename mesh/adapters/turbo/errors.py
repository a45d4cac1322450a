"""What can go wrong between dte and turbo on one machine; none of it says anything about a task, which another machine may well do."""

from mesh.errors import LocalError
from mesh.types import TaskId


class TurboError(LocalError):
    """turbo is not installed here, or cannot tell what it would do."""


class DriftError(LocalError):
    """This checkout is not the one that the task was planned in: turbo names the same task by another hash here."""

    def __init__(self, task: TaskId, differing: str) -> None:
        super().__init__(
            f"{task}: turbo computes another hash on this machine than on the main job; what differs: {differing}. "
            "Make both check out the same commit, install the same dependencies and set the same variables."
        )
        self.task = task
        self.differing = differing


class NotKeptError(LocalError):
    """turbo ended well, but the task's artifact is not in the store, so that no other machine could have it."""

    def __init__(self, task: TaskId, reason: str) -> None:
        super().__init__(f"{task}: turbo ended without an error, but the task's result cannot be passed on: {reason}")
        self.task = task


class RestoreError(LocalError):
    """turbo did not take results of other tasks from dte, and ran them once more."""
