"""How a measurement is repeated, whatever the workload. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from profiling.spec import SpecError, Workload, _Spec


@dataclass(frozen=True)
class Protocol(_Spec):
    """``processes`` fresh processes one after the other; in each, timed iterations until there are ``min_iterations`` of them (None: as
    the workload says) **and** ``min_seconds`` have passed, as MLPerf's LoadGen does; never more than ``max_iterations``."""

    processes: int = 3
    min_iterations: int | None = None
    min_seconds: float = 0.0
    max_iterations: int = 10_000

    def check(self) -> None:
        """Raise :class:`SpecError` at the first value that makes no sense."""
        limits: dict[str, tuple[Any, int]] = {
            "processes": (self.processes, 50),
            "min_iterations": (1 if self.min_iterations is None else self.min_iterations, 10_000),
            "max_iterations": (self.max_iterations, 10_000),
        }
        for name, (value, high) in limits.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                raise SpecError(name, f"Enter a whole number from 1 to {high}.")
        seconds = self.min_seconds
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not number or not 0 <= seconds < math.inf:
            raise SpecError("min_seconds", "Enter a number of seconds from 0.")

    def wants_more(self, done: int, elapsed_s: float, workload: Workload) -> bool:
        """Whether another iteration is due after ``done`` of them in ``elapsed_s`` seconds."""
        least = self.min_iterations or workload.iterations
        return done < least or (elapsed_s < self.min_seconds and done < self.max_iterations)
