"""Canonical JSON: one value, one sequence of bytes, so that bytes can be hashed, signed and compared.

Keys are sorted by code point, there is no white space, and there are no floating-point numbers: a value that would need one carries its
unit in its name and is an integer. The limits are part of the format (docs/spec/wire.md).
"""

from collections.abc import Iterable
from typing import Any, Final, cast

import orjson

from mesh.errors import RemoteError

JSON_DEPTH_MAX: Final = 32


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The value of `data`, which need not be canonical. Raises `RemoteError("malformed")` where it is not JSON, or too deep."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RemoteError("malformed", f"not JSON: {error}") from None
    text = bytes(data)
    if text.count(b"{") + text.count(b"[") <= JSON_DEPTH_MAX:
        return value  # as nearly always: it has not even so many brackets
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [inner for outer in level for inner in _inside(outer) if type(inner) in (dict, list)]
        if not level:
            return value
    raise RemoteError("malformed", f"JSON of more than {JSON_DEPTH_MAX} levels")


def _inside(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return cast("dict[str, Any]", value).values()
    return value if type(value) is list else ()


class Reader:
    """Reads one JSON object field by field; every mistake is `RemoteError("malformed")` with the name of the field.

    Fields that nobody asks for are ignored, so that a newer peer of the same major version can be understood.
    """

    def __init__(self, value: Any, where: str) -> None:
        if type(value) is not dict:
            raise RemoteError("malformed", f"{where}: an object was expected")
        self._fields: dict[str, Any] = value
        self._where = where

    def _fail(self, name: str, expected: str) -> RemoteError:
        return RemoteError("malformed", f"{self._where}.{name}: {expected} was expected")

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def text(self, name: str, *, default: str | None = None, max_chars: int = 65_536) -> str:
        value = self._fields.get(name, default)
        if type(value) is not str or len(value) > max_chars:
            raise self._fail(name, f"a string of at most {max_chars} characters")
        return value

    def number(self, name: str, *, default: int | None = None, low: int = 0, high: int = 2**53) -> int:
        value = self._fields.get(name, default)
        # `type`, since isinstance(True, int).
        if type(value) is not int or not low <= value <= high:
            raise self._fail(name, f"an integer from {low} to {high}")
        return value

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        value = self._fields.get(name, default)
        if type(value) is not bool:
            raise self._fail(name, "true or false")
        return value

    def texts(self, name: str, *, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self._fields.get(name, list(default) if default is not None else None)
        if type(value) is not list or any(type(item) is not str for item in value):
            raise self._fail(name, "a list of strings")
        return tuple(value)

    def items(self, name: str, *, max_items: int) -> list[Any]:
        value = self._fields.get(name)
        if type(value) is not list or len(value) > max_items:
            raise self._fail(name, f"a list of at most {max_items} items")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """An object whose keys are data."""
        value = self._fields.get(name)
        if type(value) is not dict:
            raise self._fail(name, "an object")
        return value

    def pair_table(self, name: str, *, high: int = 2**53) -> dict[str, tuple[int, int]]:
        """Two integers for each key, the second one no less than the first."""
        value = self.table(name)
        for pair in value.values():
            if (
                type(pair) is not list
                or [type(number) for number in pair] != [int, int]
                or not 0 <= pair[0] <= pair[1] <= high
            ):
                raise self._fail(name, f"an object of pairs of integers from 0 to {high} in ascending order")
        return {key: (pair[0], pair[1]) for key, pair in value.items()}

    def string_table(self, name: str) -> dict[str, str]:
        value = self.table(name)
        if any(type(item) is not str for item in value.values()):
            raise self._fail(name, "an object of strings")
        return value
