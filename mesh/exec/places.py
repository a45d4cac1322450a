"""Things by the places in a workspace that they take up, so that those that share one are found without comparing all with all."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Places(Generic[T]):
    """A place is a path from the workspace, and means all that is below it; "" is the workspace itself."""

    def __init__(self) -> None:
        self._at: dict[str, dict[T, None]] = {}
        self._below: dict[str, dict[T, None]] = {}
        """Who is at this place, or below it."""

    def add(self, thing: T, places: Iterable[str]) -> None:
        """It takes up all of `places`."""
        for place in places:
            self._at.setdefault(place, {})[thing] = None
            for around in _upwards(place):
                self._below.setdefault(around, {})[thing] = None

    def sharing(self, places: Iterable[str]) -> dict[T, None]:
        """What takes up one of `places`, or something within or around it."""
        found: dict[T, None] = {}
        for place in places:
            found |= self._below.get(place, {})
            for around in _upwards(place):
                found |= self._at.get(around, {})
        return found


def _upwards(place: str) -> Iterator[str]:
    """The place, the directories around it, and the workspace."""
    while place:
        yield place
        place = place.rpartition("/")[0]
    yield ""
