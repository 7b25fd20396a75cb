"""FLOP/s of products with few rows of the left matrix, from rates that were timed at some row counts. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from profiling.demand import Routing

#: (rows, FLOP/s), fewest rows first.
Timed = Sequence[tuple[int, float]]


def peak_of_rows(rows: float, peak: float, timed: Timed) -> float:
    """FLOP/s of a product with ``rows`` rows, never above ``peak``, that of large ones.

    Its time grows in straight lines between the row counts that were timed, and beyond the last at the rate of large products.
    A single row is a matrix-vector product: its bandwidth decides.
    """
    if not timed or rows <= 1:
        return peak
    first, last = timed[0], timed[-1]
    if rows <= first[0]:
        return min(peak, first[1] * rows / first[0])
    if rows >= last[0]:
        return min(peak, rows / (last[0] / last[1] + (rows - last[0]) / peak))
    for (low, slow), (high, fast) in pairwise(timed):
        if rows <= high:
            part = (rows - low) / (high - low)
            return min(peak, rows / ((1 - part) * low / slow + part * high / fast))
    raise AssertionError("unreachable")


def peak_of_experts(routing: Routing, peak: float, timed: Timed, single: float | None) -> float:
    """FLOP/s of the products of a mixture's experts under uniform routing, those of all experts together.

    Each expert has a binomial number of rows, and time is no straight line in it: an expert with one row streams its weights
    (``single``: FLOP/s then; None: the bandwidth has that already), one with two may take twice as long. So it is the expected time of
    each, not the time of the expected rows.
    """
    mean = routing.tokens * min(1.0, routing.top_k / routing.experts)
    if not timed or not mean:
        return peak
    most = timed[-1][0]
    if mean - most > 8 * math.sqrt(mean) or routing.top_k >= routing.experts:  # next to none has so few
        return peak_of_rows(mean, peak, timed)
    seconds, left, rows_left = 0.0, 1.0, mean
    for rows, chance in enumerate(_chances(routing.experts, routing.top_k, routing.tokens, most)):
        left, rows_left = left - chance, rows_left - rows * chance
        if rows == 1:
            seconds += chance / single if single else 0.0
        elif rows:
            seconds += chance * rows / peak_of_rows(rows, peak, timed)
    beyond = max(0.0, most / timed[-1][1] - most / peak)
    seconds += max(0.0, left) * beyond + max(0.0, rows_left) / peak
    return mean / seconds if seconds else peak


@lru_cache(maxsize=4096)
def _chances(experts: int, top_k: float, tokens: int, most: int) -> tuple[float, ...]:
    """How likely an expert is to have 0, 1, … ``most`` of the tokens."""

    def found() -> Iterator[float]:
        yes, no = math.log(top_k / experts), math.log1p(-top_k / experts)
        whole = math.lgamma(tokens + 1)
        for rows in range(min(most, tokens) + 1):
            ways = whole - math.lgamma(rows + 1) - math.lgamma(tokens - rows + 1)
            yield math.exp(ways + rows * yes + (tokens - rows) * no)

    return tuple(found())
