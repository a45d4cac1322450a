"""Computes the value of a tree."""

import math
import operator

OPERATORS = {"+": operator.add, "*": operator.mul, "/": operator.truediv, "^": operator.pow}
FUNCTIONS = {"sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "ln": math.log, "exp": math.exp}


class UnknownNameError(ValueError):
    """A name that nobody gave a value."""


def evaluate(tree, names):
    """The number that `tree` means, with `names` for its names."""
    kind, *parts = tree
    if kind == "number":
        return parts[0]
    if kind == "name":
        if parts[0] not in names:
            raise UnknownNameError(f"{parts[0]} has no value")
        return names[parts[0]]
    if kind == "call":
        if parts[0] not in FUNCTIONS:
            raise UnknownNameError(f"there is no function {parts[0]}")
        return FUNCTIONS[parts[0]](evaluate(parts[1], names))
    values = [evaluate(part, names) for part in parts]
    if kind == "-":
        return -values[0] if len(values) == 1 else values[0] - values[1]
    return OPERATORS[kind](*values)
