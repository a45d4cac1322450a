"""Rules of the printer."""

import random
import unittest

from printer.printer import show


def number(value):
    return ("number", value)


def any_tree(dice, depth):
    if depth == 0:
        return number(dice.randrange(1, 10))
    return (dice.choice("+-*/"), any_tree(dice, depth - 1), any_tree(dice, dice.randrange(depth)))


def value(tree):
    kind, *parts = tree
    return f"{parts[0]}" if kind == "number" else f"({value(parts[0])}{kind}{value(parts[1])})"


class PrinterTest(unittest.TestCase):
    def test_brackets_stand_only_where_they_must(self):
        self.assertEqual(show(("+", number(1), ("*", number(2), number(3)))), "1 + 2 * 3")
        self.assertEqual(show(("*", ("+", number(1), number(2)), number(3))), "(1 + 2) * 3")

    def test_what_is_taken_away_last_keeps_its_brackets(self):
        self.assertEqual(show(("-", number(1), ("-", number(2), number(3)))), "1 - (2 - 3)")

    def test_a_signed_base_keeps_its_brackets(self):
        self.assertEqual(show(("^", ("-", number(2)), number(2))), "(-2) ^ 2")

    def test_text_means_what_the_tree_meant(self):
        dice = random.Random(4)
        for _ in range(3_500):
            tree = any_tree(dice, 4)
            try:
                expected = eval(value(tree))
            except ZeroDivisionError:
                continue
            self.assertEqual(eval(show(tree)), expected)


if __name__ == "__main__":
    unittest.main()
