"""Runs the tests of one package against what was built, not against its sources."""

import sys
import unittest
from pathlib import Path

from common import package, wait


def main():
    name = package()["name"]
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path("dist", f"{name}.zip").resolve()))
    wait(0.5)
    suite = unittest.defaultTestLoader.discover("tests")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun else 1


sys.exit(main())
