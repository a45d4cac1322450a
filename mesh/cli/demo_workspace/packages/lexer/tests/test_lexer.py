"""Rules of the lexer."""

import random
import unittest

from lexer.lexer import LexError, tokens


class LexerTest(unittest.TestCase):
    def test_numbers_names_and_signs(self):
        self.assertEqual(tokens("2.5*pi"), [("NUMBER", "2.5"), ("*", "*"), ("NAME", "pi")])

    def test_space_means_nothing(self):
        self.assertEqual(tokens("  1 +  x "), tokens("1+x"))

    def test_a_foreign_character_is_refused(self):
        with self.assertRaises(LexError):
            tokens("1 ? 2")

    def test_tokens_joined_again_are_the_text(self):
        dice = random.Random(1)
        for _ in range(20_000):
            text = "".join(dice.choice("0123456789+-*/^()") for _ in range(12))
            self.assertEqual("".join(text for _, text in tokens(text)), text)


if __name__ == "__main__":
    unittest.main()
