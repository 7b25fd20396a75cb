"""Points of Student's t distribution. Standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

#: Two-sided 5 % points by whole degrees of freedom from 1; beyond the last by Fisher's expansion.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
_Z95 = 1.959964


def t95(freedom: float) -> float:
    """Two-sided 5 % point for ``freedom`` ≥ 1 degrees of freedom; fractions are rounded down, so the interval is never too narrow.

    Beyond 16: z + (z³ + z)/(4ν) + (5z⁵ + 16z³ + 3z)/(96ν²) (Abramowitz and Stegun 26.7.5), right to 0.001 there.
    """
    whole = max(1, math.floor(freedom))
    if whole <= len(_T95):
        return _T95[whole - 1]
    z = _Z95
    return z + (z**3 + z) / (4 * whole) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * whole**2)


def interval(values: Sequence[float]) -> list[float] | None:
    """95 % interval of the middle of positive values, on their logarithms; None for fewer than two, or where one is not positive."""
    if len(values) < 2 or not all(value > 0 for value in values):
        return None
    logs = [math.log(value) for value in values]
    half = t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    return [math.exp(middle - half), math.exp(middle + half)]
