"""`python -m tfrecal` is the command `tfrecal`."""
from __future__ import annotations

import sys

from tfrecal.cli import main

sys.exit(main())
