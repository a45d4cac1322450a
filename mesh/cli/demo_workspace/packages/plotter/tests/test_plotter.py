"""Rules of the plotter."""

import math
import unittest

from plotter.plotter import plot


class PlotterTest(unittest.TestCase):
    def test_each_column_has_one_point(self):
        for step in range(1, 1_200):
            picture = plot(lambda x: math.sin(x * step / 100), -3, 3)
            self.assertEqual(picture.count("*"), 60)

    def test_what_has_no_value_is_left_out(self):
        self.assertLess(plot(math.log, -1, 1).count("*"), 60)
        self.assertEqual(plot(math.log, -2, -1), "")

    def test_a_growing_function_goes_up(self):
        lines = plot(lambda x: x, 0, 1).splitlines()
        self.assertGreater(lines[0].index("*"), lines[-1].index("*"))


if __name__ == "__main__":
    unittest.main()
