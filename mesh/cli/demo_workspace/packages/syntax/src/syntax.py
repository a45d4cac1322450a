"""Parses tokens by an LL(1) table that is data.

The tree is made of tuples: ("+", left, right), ("-", x), ("call", name, x).
"""


class ParseError(ValueError):
    """The tokens are no sentence of the grammar."""


class Parser:
    """A parser for the table of tools/table.py."""

    def __init__(self, table):
        self._start = table["start"]
        self._cells = {(left, token): right for left, token, right in table["cells"]}
        self._rules = {left for left, _ in self._cells}

    def parse(self, tokens):
        """The tree of `tokens`."""
        self._tokens, self._at = [*tokens, ("$", "")], 0
        node = self._node(self._start)
        if self._tokens[self._at][0] != "$":
            raise ParseError(f"{self._tokens[self._at][1]!r} is too much")
        return _fold(node)

    def _node(self, symbol):
        kind, text = self._tokens[self._at]
        if symbol not in self._rules:
            if symbol != kind:
                raise ParseError(f"{symbol} was expected, not {text or 'the end'}")
            self._at += 1
            return (kind, text)
        right = self._cells.get((symbol, kind))
        if right is None:
            raise ParseError(f"{text or 'the end'} cannot stand here")
        return (symbol, [self._node(part) for part in right])


def _fold(node):
    rule, parts = node
    if rule in ("sum", "product"):
        tree, rest = _fold(parts[0]), parts[1][1]
        while rest:
            tree, rest = (rest[0][0], tree, _fold(rest[1])), rest[2][1]
        return tree
    if rule == "power":
        base, raised = parts[0], parts[1][1]
        if not raised:
            return _fold(base)
        # -2^2 is -(2^2), as on paper.
        if base[1][0][0] == "-":
            return ("-", ("^", _fold(base[1][1]), _fold(raised[1])))
        return ("^", _fold(base), _fold(raised[1]))
    if rule == "sign":
        return ("-", _fold(parts[1])) if parts[0][0] == "-" else _fold(parts[0])
    if parts[0][0] == "NUMBER":
        return ("number", float(parts[0][1]))
    if parts[0][0] == "NAME":
        call = parts[1][1]
        return ("call", parts[0][1], _fold(call[1])) if call else ("name", parts[0][1])
    return _fold(parts[1])
