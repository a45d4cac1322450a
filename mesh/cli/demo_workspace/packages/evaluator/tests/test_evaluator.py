"""Rules of the evaluator."""

import random
import unittest

from evaluator.evaluator import UnknownNameError, evaluate


def number(value):
    return ("number", value)


class EvaluatorTest(unittest.TestCase):
    def test_a_name_has_the_value_it_was_given(self):
        self.assertEqual(evaluate(("*", number(2), ("name", "x")), {"x": 21}), 42)

    def test_an_unknown_name_is_refused(self):
        with self.assertRaises(UnknownNameError):
            evaluate(("name", "x"), {})

    def test_a_function_is_called(self):
        self.assertEqual(evaluate(("call", "sqrt", number(9)), {}), 3)

    def test_sines_and_cosines_keep_their_promise(self):
        dice = random.Random(3)
        for _ in range(40_000):
            x = number(dice.uniform(-9, 9))
            square = lambda name: ("^", ("call", name, x), number(2))
            self.assertAlmostEqual(evaluate(("+", square("sin"), square("cos")), {}), 1)


if __name__ == "__main__":
    unittest.main()
