"""Makes the LL(1) table of a grammar, and proves it: every short string of tokens is parsed both by the table and by trying all rules."""

import itertools
import json
import sys
from pathlib import Path

from common import fail, say, wait, write

LENGTH_MAX = 5


def read(path):
    rules = []
    for line in Path(path).read_text().splitlines():
        if line and not line.startswith("#"):
            left, right = line.split("->")
            rules.append((left.strip(), tuple(right.split())))
    return rules


def firsts_and_follows(rules, start):
    names = {left for left, _ in rules}
    first = {name: set() for name in names}
    follow = {name: set() for name in names}
    follow[start].add("$")

    def of(symbols):
        found = set()
        for symbol in symbols:
            heads = first[symbol] if symbol in names else {symbol}
            found |= heads - {""}
            if "" not in heads:
                return found
        return found | {""}

    changed = True
    while changed:
        before = [len(found) for found in (*first.values(), *follow.values())]
        for left, right in rules:
            first[left] |= of(right)
            for at, symbol in enumerate(right):
                if symbol in names:
                    rest = of(right[at + 1 :])
                    follow[symbol] |= rest - {""}
                    if "" in rest:
                        follow[symbol] |= follow[left]
        changed = before != [len(found) for found in (*first.values(), *follow.values())]
    return of, follow


def table_of(rules):
    of, follow = firsts_and_follows(rules, rules[0][0])
    table = {}
    for left, right in rules:
        heads = of(right)
        for token in (heads - {""}) | (follow[left] if "" in heads else set()):
            if (left, token) in table:
                fail(f"the grammar is not LL(1): {left} on {token}")
            table[left, token] = right
    return table


def by_table(table, start, tokens):
    stack, at, tokens = [start], 0, (*tokens, "$")
    names = {left for left, _ in table}
    while stack:
        top = stack.pop()
        if top in names:
            if (top, tokens[at]) not in table:
                return False
            stack.extend(reversed(table[top, tokens[at]]))
        elif top == tokens[at]:
            at += 1
        else:
            return False
    return tokens[at] == "$"


def by_trying(rules, symbols, tokens):
    """Whether `symbols` can become `tokens`, by trying every rule; no table is asked."""
    if not symbols:
        return not tokens
    head, rest = symbols[0], symbols[1:]
    options = [right for left, right in rules if left == head]
    if not options:
        return bool(tokens) and tokens[0] == head and by_trying(rules, rest, tokens[1:])
    return any(by_trying(rules, right + rest, tokens) for right in options)


def main(source, target):
    rules = read(source)
    start = rules[0][0]
    table = table_of(rules)
    say(f"{len(rules)} rules, {len(table)} cells")
    tokens = ("NUMBER", "NAME", "(", ")", "-", "+", "^")
    good = 0
    for length in range(1, LENGTH_MAX + 1):
        for sentence in itertools.product(tokens, repeat=length):
            answer = by_table(table, start, sentence)
            if answer != by_trying(rules, (start,), sentence):
                fail(f"the table is wrong for {' '.join(sentence)}")
            good += answer
    say(f"the table is right for all strings of up to {LENGTH_MAX} tokens, {good:,} of them sentences")
    cells = [[left, token, list(right)] for (left, token), right in sorted(table.items())]
    wait(0.4)
    write(target, json.dumps({"start": start, "cells": cells}, indent=1) + "\n")


main(*sys.argv[1:])
