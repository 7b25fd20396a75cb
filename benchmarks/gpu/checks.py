"""The list of checks: each is run, timed and printed as it ends, and none costs the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu.container import NotHere
from profiling.client import EngineError


@dataclass
class Checks:
    """``rows`` of ``check, state, found, seconds``. ``state``: ok, differs, failed, or not done where the time was over.

    ``seconds``: after so many no check begins. ``only``: words of which one must be in a check's name; empty: all are run.
    """

    seconds: float
    only: tuple[str, ...] = ()
    began: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], tuple[bool, str]]) -> None:
        if self.only and not any(word in name for word in self.only):
            return
        started = time.monotonic()
        if started - self.began > self.seconds:
            state, found = "not done", "the time was over"
        else:
            try:
                good, found = check()
                state = "ok" if good else "differs"
            except NotHere as error:
                state, found = "not done", str(error)
            except EngineError as error:
                state, found = "failed", f"{error.phase}, {error.kind}: {error}"
            except Exception as error:  # one check must not cost the others
                state, found = "failed", f"{type(error).__name__}: {error}"
        row = {"check": name, "state": state, "found": found, "seconds": round(time.monotonic() - started, 1)}
        self.rows.append(row)
        print(f"{state:<9}{name:<40}{found}  ({row['seconds']} s)", flush=True)
