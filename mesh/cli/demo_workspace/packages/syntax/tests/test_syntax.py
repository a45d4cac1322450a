"""Rules of the parser, with the table that was generated."""

import json
import random
import unittest
from pathlib import Path

from syntax.syntax import ParseError, Parser

PARSER = Parser(json.loads(Path("../../gen/table.json").read_text()))


def parse(text):
    """One character is one token here."""
    kinds = ["NUMBER" if c.isdigit() else "NAME" if c.isalpha() else c for c in text]
    return PARSER.parse(list(zip(kinds, text)))


class ParserTest(unittest.TestCase):
    def test_products_bind_stronger_than_sums(self):
        self.assertEqual(parse("1+2*3"), ("+", ("number", 1), ("*", ("number", 2), ("number", 3))))

    def test_sums_group_to_the_left_and_powers_to_the_right(self):
        self.assertEqual(parse("1-2-3")[1], ("-", ("number", 1), ("number", 2)))
        self.assertEqual(parse("1^2^3")[2], ("^", ("number", 2), ("number", 3)))

    def test_a_sign_is_weaker_than_a_power(self):
        self.assertEqual(parse("-2^2"), ("-", ("^", ("number", 2), ("number", 2))))

    def test_a_missing_bracket_is_refused(self):
        with self.assertRaises(ParseError):
            parse("(1+2")

    def test_brackets_around_any_sentence_change_nothing(self):
        dice = random.Random(2)
        for _ in range(1_500):
            text = str(dice.randrange(10))
            for _ in range(8):
                text += dice.choice("+-*/^") + dice.choice(("x", "7", "f(3)", "(1+y)"))
            self.assertEqual(parse(text), parse(f"({text})"))


if __name__ == "__main__":
    unittest.main()
