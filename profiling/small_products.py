"""Products with weights smaller than any that were timed: how much of a stage stands on the rate of the smallest. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from profiling.quantities import say
from profiling.roofline import Ceilings
from profiling.spec import DTYPE_BYTES

if TYPE_CHECKING:
    from profiling.tables import Evaluated

#: Less of a stage's time than this is not worth a warning.
SHARE = 0.01


def small_products(items: Mapping[str, Evaluated], limits: Ceilings) -> list[dict[str, str]]:
    """The warning about the stages of an estimate. Larger products than were timed need none: the largest matrix is one that no cache
    holds, and from there on the rate no longer depends on the size."""
    return warning(small_shares(items, limits), limits)


def small_shares(items: Mapping[str, Evaluated], limits: Ceilings) -> dict[str, float]:
    """Part (0–1) of each stage's time that products with smaller weights, or shorter sums, than any that were timed take."""
    if limits.shapes is None:
        return {}
    smallest, _, shortest, _ = limits.shapes
    shares = {}
    for stage, item in items.items():
        total, small = item.time_s(), 0.0
        for work, time in zip(item.works, item.timings or (), strict=False):
            load = work.load()
            if load.weights and (load.weights < smallest or load.inner < shortest):
                small += work.times * time.time_s
        shares[stage] = small / total if total else 0.0
    return shares


def warning(shares: Mapping[str, float], limits: Ceilings) -> list[dict[str, str]]:
    """The warning that names the stages and their share, where there are any. ``shares``: part (0–1) of each stage's time that such
    products take; nan where a time is unknown."""
    if limits.shapes is None:
        return []
    smallest, _, shortest, _ = limits.shapes
    found = []
    for stage, share in shares.items():
        if share > SHARE:
            found.append(f"{say(share, 'ratio')} of {stage}")
    if not found:
        return []
    size = say(smallest * DTYPE_BYTES[limits.dtype], "B")
    message = (
        f"Products with weights of less than {size}, or with sums of less than {shortest} products, take {' and '.join(found)} in this "
        "estimate. Smaller ones were not timed on this host: they have the rate of the smallest that were, and may be slower."
    )
    return [{"code": "smaller_than_timed", "message": message}]
