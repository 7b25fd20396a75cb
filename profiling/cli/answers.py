"""How commands end: the document to a file, a screenful of it to the terminal. What was measured for minutes is not lost with the file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from profiling.cli import inputs


def deliver(document: Any, target: str | None, lines: Sequence[str]) -> int:
    """Write ``document`` as JSON to ``target`` (None: nowhere; ``-``: standard output, in place of ``lines``); returns the exit status.

    A file that cannot be written is said, and the lines are printed all the same.
    """
    status = 0
    if target:
        try:
            inputs.write_json(document, target)
        except OSError as error:
            print(f"error: json: {target} cannot be written: {error}.", file=sys.stderr)
            status = 1
    if target != "-":
        print("\n".join(lines))
    return status
