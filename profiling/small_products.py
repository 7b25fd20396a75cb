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
    shares = {}
    for stage, item in items.items():
        total, small = item.time_s(), 0.0
        for work, time in zip(item.works, item.timings or (), strict=False):
            load = work.load()
            smallest, shortest = limits.least_timed(load.rows)
            if load.weights and (load.weights < smallest or load.inner < shortest):
                small += work.times * time.time_s
        shares[stage] = small / total if total else 0.0
    return shares


def warning(shares: Mapping[str, float], limits: Ceilings) -> list[dict[str, str]]:
    """The warning that names the stages and their share, where there are any. ``shares``: part (0–1) of each stage's time that such
    products take; nan where a time is unknown."""
    if limits.shapes is None:
        return []
    least = [limits.least_timed(rows) for rows, _ in limits.sized]
    found = []
    for stage, share in shares.items():
        if share > SHARE:
            found.append(f"{say(share, 'ratio')} of {stage}")
    if not found:
        return []
    sizes = sorted({few for few, _ in least})
    size = "–".join(say(few * DTYPE_BYTES[limits.dtype], "B") for few in dict.fromkeys((sizes[0], sizes[-1])))
    sums = sorted({short for _, short in least})
    shortest = "–".join(str(short) for short in dict.fromkeys((sums[0], sums[-1])))  # by the number of rows
    message = (
        f"Products with weights of less than {size}, or with sums of less than {shortest} products, take {' and '.join(found)} in this "
        "estimate. Smaller ones were not timed on this host: they have the rate of the smallest that were, and may be slower."
    )
    return [{"code": "smaller_than_timed", "message": message}]
