"""Levels of users that a sweep of loads is to send: the wish alone, checked before anything is sent. Standard library only.

How a sweep ends and what is made of it is in :mod:`profiling.remote.sweep`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from profiling.load import MAX_CONCURRENCY
from profiling.spec import SpecError, _Spec

MAX_LEVELS = 20
#: Throughput that a level must gain over the best before; less is taken to be the end. Doubled users have up to 100 % to gain; what is left
#: beyond the end comes from gaps between requests and from the edges of a short load.
GAIN = 0.1
#: Requests of a level for each of its users, at least: with one each, the last to answer would be all that is seen.
PER_USER = 2


@dataclass(frozen=True)
class Sweep(_Spec):
    """``levels``: users of each closed loop, ascending. ``gain``: the share of throughput that a level must gain (see above)."""

    levels: tuple[int, ...] = (1, 2, 4, 8, 16)
    gain: float = GAIN

    def __post_init__(self) -> None:
        if isinstance(self.levels, list):  # as JSON has it
            object.__setattr__(self, "levels", tuple(self.levels))

    def to_json(self) -> dict[str, Any]:
        return {"levels": list(self.levels), "gain": self.gain}

    def check(self) -> None:
        """Raise :class:`SpecError` at ``load_levels`` or ``load_gain``."""
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MAX_CONCURRENCY for n in self.levels)
        if not 1 <= len(self.levels) <= MAX_LEVELS or not whole or list(self.levels) != sorted(set(self.levels)):
            raise SpecError(
                "load_levels",
                f"Enter 1 to {MAX_LEVELS} numbers of users, the smaller first, each from 1 to {MAX_CONCURRENCY}: such as 1, 2, 4, 8 or 1..64.",
            )
        number = isinstance(self.gain, int | float) and not isinstance(self.gain, bool)
        if not number or not 0 < self.gain <= 1:
            raise SpecError("load_gain", "Enter a share above 0, at most 1: 0.1 is 10 %.")


def levels(text: str) -> tuple[int, ...]:
    """``1, 2, 4, 8`` as it is, ``1..64`` as doublings up to the second number, which is the last. Raises :class:`SpecError`."""
    wanted = SpecError("load_levels", "Write numbers of users as 1, 2, 4, 8, or 1..64 for doublings up to 64.")
    if found := re.fullmatch(r"\s*(\d{1,5})\s*\.\.\s*(\d{1,5})\s*", text):
        first, last = int(found[1]), int(found[2])
        if not 1 <= first <= last:
            raise wanted
        steps = [first]
        while steps[-1] * 2 < last:
            steps.append(steps[-1] * 2)
        return tuple(steps if steps[-1] == last else [*steps, last])
    parts = [part for part in re.split(r"[\s,]+", text.strip()) if part]
    if not parts or not all(re.fullmatch(r"\d{1,5}", part) for part in parts):
        raise wanted
    return tuple(int(part) for part in parts)
