"""Where a series jumps: change points by E-divisive with a permutation test. Pure functions; numpy is imported when they are called.

E-divisive (Matteson and James, "A nonparametric approach for multiple change point analysis of multivariate data", JASA 109, 2014):
the split of a stretch that makes the energy distance of its two parts largest, times nm/(n + m), is a change point if fewer than 1 % of
random orders of the same values give as large a distance; each part is then searched in turn. The distances are of logarithms, so a step
is a ratio, and an outlier counts with the logarithm of its size. As in MongoDB's use of it (Daly et al., "The use of change point
detection to identify software performance regressions in a continuous integration system", ICPE 2020), a stretch is split in two: the
second part always ends where the stretch ends. The permutations are seeded: the same values give the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from django.utils.translation import gettext_noop

#: Runs on either side of a step at least.
SHORTEST = 3
PERMUTATIONS = 199
ALPHA = 0.01
#: A smaller difference of medians is not called a step, however certain.
MINIMUM_PCT = 5.0
#: The search grows with the square of the runs: older ones than these are not searched.
MOST_POINTS = 200

DEFINITION = gettext_noop(
    "E-divisive (Matteson and James 2014) on the logarithms of accepted runs: a step is where the energy distance between the runs before and "
    "after is largest, if at most 1 % of 199 random orders of the same values reach it, at least three runs lie on either side, and the "
    "medians differ by 5 % or more. The newest 200 runs are searched."
)


@dataclass(frozen=True)
class Step:
    """``at``: index of the first value after it. ``before``, ``after``: medians of the stretches on either side. ``p``: of the permutation test."""

    at: int
    before: float
    after: float
    p: float

    @property
    def change_pct(self) -> float:
        return 100 * (self.after - self.before) / abs(self.before)


def steps(values: Sequence[float], *, breaks: Sequence[int] = (), seed: int = 0) -> list[Step]:
    """Steps of ``values`` (positive; a series with others has none) in the order of time. ``breaks``: indexes where a change is known; no
    stretch that is searched reaches over one, and none of them is a step."""
    if any(not value > 0 or not math.isfinite(value) for value in values):
        return []
    first = max(0, len(values) - MOST_POINTS)
    edges = sorted({first, len(values), *(at for at in breaks if first < at < len(values))})
    found = []
    for begin, end in pairwise(edges):
        found += _steps_within(values, begin, end, seed)
    return found


def _steps_within(values: Sequence[float], begin: int, end: int, seed: int) -> list[Step]:
    import numpy as np

    logs = np.log(np.asarray(values[begin:end], dtype=float))
    splits = {at + begin: p for at, p in _split(logs, 0, np.random.default_rng(seed))}
    while True:
        edges = [begin, *sorted(splits), end]
        medians = [median(values[a:b]) for a, b in pairwise(edges)]
        found = [
            Step(at, before, after, splits[at])
            for at, before, after in zip(edges[1:-1], medians, medians[1:], strict=False)
        ]
        smallest = min(found, key=lambda step: abs(step.change_pct), default=None)
        if smallest is None or abs(smallest.change_pct) >= MINIMUM_PCT:
            return found
        # What is too small to be called a step joins its neighbours; their medians are taken anew.
        del splits[smallest.at]


def _split(logs, offset: int, random) -> list[tuple[int, float]]:
    """(index, p) of every significant split of ``logs``, earliest first."""
    best = _best_split(_distances(logs))
    if best is None:
        return []
    at, statistic = best
    p = _p_value(_distances(logs), statistic, random)
    if p > ALPHA:
        return []
    before, after = _split(logs[:at], offset, random), _split(logs[at:], offset + at, random)
    return [*before, (offset + at, p), *after]


def _distances(logs):
    import numpy as np

    return np.abs(logs[:, None] - logs[None, :])


def _best_split(distances) -> tuple[int, float] | None:
    """(size of the first part, statistic) of the split with the largest energy distance; None for too few values.

    For parts X (n values) and Y (m): nm/(n + m) · (2·mean|x − y| − mean|x − x'| − mean|y − y'|), means within a part over its pairs.
    """
    import numpy as np

    total = len(distances)
    if total < 2 * SHORTEST:
        return None
    # Of each value the distances to those before it, and to all: their running sums give every split at once.
    before = np.einsum("ij,ij->i", distances, np.tri(total, k=-1))
    within = 2 * before.cumsum()  # each pair twice, as in the sum over ordered pairs
    touched = distances.sum(axis=1).cumsum()  # within X, and from X to Y
    at = np.arange(SHORTEST, total - SHORTEST + 1)
    n, m = at.astype(float), (total - at).astype(float)
    within_x = within[at - 1]
    across = touched[at - 1] - within_x
    within_y = touched[-1] - 2 * across - within_x
    energy = 2 * across / (n * m) - within_x / (n * (n - 1)) - within_y / (m * (m - 1))
    statistic = n * m / (n + m) * energy
    best = int(np.argmax(statistic))
    return int(at[best]), float(statistic[best])


def _p_value(distances, statistic: float, random) -> float:
    """Share of orders that reach ``statistic``, the order found counted as one; stops as soon as it can only be above ALPHA."""
    reached = 1
    for _ in range(PERMUTATIONS):
        order = random.permutation(len(distances))
        best = _best_split(distances.take(order, 0).take(order, 1))
        reached += best is not None and best[1] >= statistic - 1e-12
        if reached / (PERMUTATIONS + 1) > ALPHA:
            break
    return reached / (PERMUTATIONS + 1)
