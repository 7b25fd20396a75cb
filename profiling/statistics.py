"""Statistics of repeated measurements: pure functions on plain lists of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

#: A percentile is shown only when at least this many samples lie beyond it; fewer would make it a maximum with another name.
SAMPLES_BEYOND = 5
PERCENTILES = (90, 95, 99)
BOOTSTRAP_RESAMPLES = 2000

#: Two-sided 5 % points of Student's t by degrees of freedom; 1.96 beyond the last.
_T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)


def rates(amount: float, seconds: float) -> list[float]:
    """``amount`` a second, or nothing where a coarse clock saw no time pass: the rate is then unknown."""
    return [amount / seconds] if seconds > 0 else []


def summarise(values: Sequence[float], *, interval: bool = True) -> dict[str, Any]:
    """``n, median, min, max, mean, q1, q3, cv, ci95`` of ``values`` (at least one), and the percentiles that n allows.

    ``cv`` is the sample standard deviation over the mean (null for one value or a zero mean); quartiles by linear
    interpolation; ``ci95`` the bootstrap interval of the median, null when n < 5 and without ``interval``, for it takes a while. ``p90`` needs n ≥ 50, ``p95`` 100, ``p99`` 500.
    """
    if not values:
        raise ValueError("no values to summarise")
    data = np.asarray(values, dtype=float)
    n = len(data)
    mean = float(data.mean())
    summary: dict[str, Any] = {
        "n": n,
        "median": float(np.median(data)),
        "min": float(data.min()),
        "max": float(data.max()),
        "mean": mean,
        "q1": float(np.quantile(data, 0.25)),
        "q3": float(np.quantile(data, 0.75)),
        "cv": float(data.std(ddof=1)) / mean if n > 1 and mean else None,
        "ci95": bootstrap_ci(values) if interval else None,
    }
    for percentile in PERCENTILES:
        if n >= needed_for(percentile):
            summary[f"p{percentile}"] = float(np.quantile(data, percentile / 100))
    return summary


def needed_for(percentile: int) -> int:
    """Samples that a percentile needs: five beyond it, so 50 for p90, 100 for p95, 500 for p99."""
    return round(SAMPLES_BEYOND * 100 / (100 - percentile))


def bootstrap_ci(values: Sequence[float], seed: int = 0) -> list[float] | None:
    """95 % interval ``[low, high]`` of the median by the percentile bootstrap (Efron 1979); ``None`` when n < 5.

    Seeded, so that the same samples always give the same interval.
    """
    if len(values) < 5:
        return None
    data = np.asarray(values, dtype=float)
    if len(data) > 2000:  # the interval of so many is narrow whichever of them are taken
        data = data[np.linspace(0, len(data) - 1, 2000).astype(int)]
    random = np.random.default_rng(seed)
    medians = np.median(random.choice(data, (BOOTSTRAP_RESAMPLES, len(data))), axis=1)
    return [float(np.quantile(medians, 0.025)), float(np.quantile(medians, 0.975))]


def trend(values: Sequence[float]) -> tuple[float, bool] | None:
    """(relative change over the series, whether its slope differs from zero at the 5 % level) by least squares.

    The relative change is slope × n ÷ median. ``None`` for fewer than four values or a zero median: nothing can be said.
    """
    n = len(values)
    data = np.asarray(values, dtype=float)
    if n < 4 or np.median(data) == 0:
        return None
    index = np.arange(n) - (n - 1) / 2
    spread = float((index**2).sum())
    slope = float((index * data).sum()) / spread
    residual = data - data.mean() - slope * index
    error = math.sqrt(float((residual**2).sum()) / (n - 2) / spread)
    t95 = _T95[n - 3] if n - 3 < len(_T95) else 1.96
    significant = abs(slope) > t95 * error if error else slope != 0
    return slope * n / float(np.median(data)), significant


def is_steady(values: Sequence[float], tolerance: float = 0.02) -> bool | None:
    """Whether the later half of the iterations shows no trend of more than ``tolerance``; ``None`` when they are too few to say."""
    later = values[len(values) // 2 :] if len(values) >= 8 else values
    found = trend(later)
    if found is None:
        return None
    change, significant = found
    return not (significant and abs(change) >= tolerance)
