"""``python -m profiling``: the engine's command line. Each module of :mod:`profiling.cli` adds one sub-command."""

from __future__ import annotations

import sys

from profiling.cli import main

if __name__ == "__main__":
    sys.exit(main())
