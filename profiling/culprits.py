"""Which module moved, between two measurements of one model: from the exclusive times of each. numpy and the standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: A module, or a group of the same module in every layer, is named when it explains this part of the whole difference by itself.
MOST = 0.5
#: A module's change must exceed so many times the spread (MAD) of its own time between processes.
SPREADS = 2.0


@dataclass(frozen=True)
class Culprit:
    """``path``: module, or with ``*`` for numbers a group of them. ``change``: of its exclusive time, in the unit given (positive:
    longer). ``share``: part of the whole difference that it explains beyond what it would if everything had changed alike."""

    path: str
    change: float
    share: float


def culprits(
    base: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]], *, slower: bool
) -> tuple[Culprit, ...]:
    """The one module, else the one group, that explains most of the difference; empty when it is spread over the model.

    ``base``, ``other``: path → exclusive time in each process (same unit). A module's time counts by its median over processes. What
    it explains is its change less that of the rest of the model applied to its own time: a slower clock moves every module and is
    nobody's fault. Modules on one side alone count with zero on the other.
    """
    paths = {path: (base.get(path, ()), other.get(path, ())) for path in {**base, **other}}
    for grouped in (False, True):
        found = _most(_times(paths, grouped=grouped), slower=slower)
        if found is not None:
            return (found,)
    return ()


def _times(
    paths: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, grouped: bool
) -> dict[str, tuple[float, float, float]]:
    """path or pattern → (time before, time after, spread between processes)."""
    times: dict[str, tuple[float, float, float]] = {}
    for path, sides in paths.items():
        key = re.sub(r"\b\d+\b", "*", path) if grouped else path
        medians = [float(np.median(side)) if len(side) else 0.0 for side in sides]
        spread = max(_mad(side) for side in sides)
        before, after, held = times.get(key, (0.0, 0.0, 0.0))
        times[key] = (before + medians[0], after + medians[1], held + spread)
    return times


def _most(times: Mapping[str, tuple[float, float, float]], *, slower: bool) -> Culprit | None:
    before, after = (sum(side[index] for side in times.values()) for index in (0, 1))
    sign = 1 if slower else -1
    whole = sign * (after - before)
    if whole <= 0 or len(times) < 2:
        return None
    best = None
    for path, (old, new, spread) in times.items():
        rest = before - old
        rate = (after - new) / rest - 1 if rest > 0 else 0.0
        share = sign * (new - old - rate * old) / whole
        if share >= MOST and abs(new - old) > SPREADS * spread and (best is None or share > best.share):
            best = Culprit(path, new - old, min(share, 1.0))
    return best


def _mad(values: Sequence[float]) -> float:
    return float(np.median(np.abs(np.asarray(values) - np.median(values)))) if len(values) else 0.0
