"""Writes a tree as text, with as few brackets as can be."""

STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
SIGN = 3


def show(tree, outer=0):
    """`tree` as a person would write it."""
    kind, *parts = tree
    if kind == "number":
        return f"{parts[0]:.15g}"
    if kind == "name":
        return parts[0]
    if kind == "call":
        return f"{parts[0]}({show(parts[1])})"
    if len(parts) == 1:
        strength, text = SIGN, f"-{show(parts[0], SIGN)}"
    else:
        strength = STRENGTH[kind]
        left, right = (strength + 1, strength) if kind == "^" else (strength, strength + 1)
        text = f" {kind} ".join((show(parts[0], left), show(parts[1], right)))
    return f"({text})" if strength < outer else text
