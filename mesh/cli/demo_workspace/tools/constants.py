"""Computes some constants with integers only, twice each and in two ways, so that no digit is believed without proof."""

import json
import sys
from math import isqrt

from common import fail, say, wait, write

DIGITS = 4_000
ONE = 10 ** (DIGITS + 10)


def arctan_inverse(n):
    term = ONE // n
    total, k, sign = term, 1, 1
    while term:
        term //= n * n
        k, sign = k + 2, -sign
        total += sign * (term // k)
    return total


def exponential():
    total, term, k = ONE, ONE, 1
    while term:
        term //= k
        total, k = total + term, k + 1
    return total


def fraction_of_e():
    """e from its continued fraction [2; 1, 2, 1, 1, 4, 1, ...]."""
    p, q, p1, q1 = 2, 1, 1, 0
    k = 1
    while q * q < ONE * ONE:
        a = 2 * (k + 1) // 3 if k % 3 == 2 else 1
        p, p1, q, q1 = a * p + p1, p, a * q + q1, q
        k += 1
    return p * ONE // q


def main(target):
    ways = {
        "pi": (
            lambda: 4 * (4 * arctan_inverse(5) - arctan_inverse(239)),
            lambda: 4 * (6 * arctan_inverse(8) + 2 * arctan_inverse(57) + arctan_inverse(239)),
        ),
        "e": (exponential, fraction_of_e),
        "phi": (lambda: (ONE + isqrt(5 * ONE * ONE)) // 2, lambda: isqrt((3 * ONE + isqrt(5 * ONE * ONE)) * ONE // 2)),
    }
    found = {}
    for name, (one, other) in ways.items():
        value, again = one() // 10**10, other() // 10**10
        if abs(value - again) > 1:
            fail(f"{name}: the two ways do not agree")
        # In pieces: Python turns no more than 4,300 digits into text at once.
        whole, rest = divmod(value, 10**DIGITS)
        found[name] = f"{whole}.{str(rest).zfill(DIGITS)[:-2]}"
        say(f"{name} = {found[name][:40]}... ({DIGITS - 2:,} digits, two ways agree)")
    wait(0.3)
    write(target, json.dumps(found, indent=1) + "\n")


main(*sys.argv[1:])
