"""`python -m mesh` is `dte`."""

import sys

from mesh.cli import main

sys.exit(main())
