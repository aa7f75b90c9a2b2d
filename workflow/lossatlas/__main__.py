"""`python -m lossatlas` is the command `lossatlas`."""

import sys

from lossatlas.cli import main

sys.exit(main())
