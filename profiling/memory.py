"""What a workload needs in memory, whether it fits, and what would make it fit. Pure functions, standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from profiling.quantities import say
from profiling.spec import DTYPE_BYTES


def memory_estimate(
    *,
    dtype: str,
    batch_size: int,
    weights_bytes: int,
    kv_cache_bytes: int,
    state_bytes: int,
    activation_peak_bytes: int,
    capacity_bytes: int | None,
    more_devices: Callable[[int], str] | None = None,
    widened_bytes: int = 0,
    quantised_share: float = 0.0,
    logical_weights_bytes: int | None = None,
    smaller: Callable[[], Iterable[tuple[str, int]]] | None = None,
    cache_in_dtype: bool = True,
    replicas: int = 1,
) -> dict[str, Any]:
    """The ``memory.estimate`` object of the run document, of one device. ``fits`` is None when the capacity is unknown.

    ``more_devices``: capacity → a sentence that says how many devices hold it. ``weights_bytes``, ``kv_cache_bytes``: as they are stored;
    ``logical_weights_bytes``: the weights in ``dtype``; ``quantised_share`` (0–1) of the stored ones are in a scheme, scales included;
    ``widened_bytes``: the largest copy in ``dtype`` that is made of what is stored otherwise. ``smaller``: gives (formats in words, bytes
    that they save). ``cache_in_dtype``: are keys and values stored in ``dtype``? ``batch_size``: sequences of each of ``replicas``.
    """
    total = weights_bytes + kv_cache_bytes + state_bytes + activation_peak_bytes + widened_bytes
    quantised = round(weights_bytes * quantised_share)
    fits = None if capacity_bytes is None else total <= capacity_bytes
    result: dict[str, Any] = {
        "weights_bytes": weights_bytes,
        "quantised_weights_bytes": quantised,
        "other_weights_bytes": weights_bytes - quantised,
        "logical_weights_bytes": weights_bytes if logical_weights_bytes is None else logical_weights_bytes,
        "kv_cache_bytes": kv_cache_bytes,
        "state_bytes": state_bytes,
        "activation_peak_bytes": activation_peak_bytes,
        "widened_bytes": widened_bytes,
        "total_bytes": total,
        "capacity_bytes": capacity_bytes,
        "fits": fits,
        "shortfall_bytes": max(0, total - capacity_bytes) if capacity_bytes is not None else None,
        "suggestions": [],
    }
    if capacity_bytes is not None and not fits:
        kept = quantised + (0 if cache_in_dtype else kv_cache_bytes)
        result["suggestions"] = _suggestions(result, dtype, batch_size, replicas, capacity_bytes, kept)
        result["suggestions"] += _formats(smaller(), total, capacity_bytes) if smaller else []
        result["suggestions"] += [more_devices(capacity_bytes)] if more_devices else []
    return result


def _suggestions(
    estimate: dict[str, Any], dtype: str, batch_size: int, replicas: int, capacity: int, kept: int
) -> list[str]:
    """``kept``: bytes of what is stored in a format of its own, which another ``dtype`` does not change."""
    total = estimate["total_bytes"]
    # A copy of weights is as large for one sequence as for many.
    weights = estimate["weights_bytes"] + estimate["widened_bytes"]
    per_sequence = (total - weights) / batch_size
    found = []
    room = capacity - weights
    fitting = math.floor(room / per_sequence) if per_sequence else 0
    if 0 < fitting < batch_size:
        found.append(
            f"A batch of {fitting * replicas} fits: each sequence needs {say(per_sequence, 'B')} beside the weights."
        )
    if DTYPE_BYTES[dtype] > 2:
        half = (total - kept) / 2 + kept
        found.append(
            f"In bf16 it needs about {say(half, 'B')}, "
            + ("which fits." if half <= capacity else f"still {say(half - capacity, 'B')} too much.")
        )
    return found


def _formats(smaller: Iterable[tuple[str, int]], total: int, capacity: int) -> list[str]:
    """The first format of the weights that makes it fit, and that of the cache; if none does, the first of both, or the smallest."""
    needed = [(words, total - saved) for words, saved in smaller]
    alone = [(words, size) for words, size in needed if " and " not in words and size <= capacity]
    cache = [item for item in alone if "cache" in item[0]]
    weights = [item for item in alone if "cache" not in item[0]]
    both = [(words, size) for words, size in needed if " and " in words and size <= capacity]
    chosen = weights[:1] + cache[:1] or both[:1]
    if chosen or not needed:
        return [f"With {words} it needs about {say(size, 'B')}, scales included, which fits." for words, size in chosen]
    words, size = min(needed, key=lambda item: item[1])
    return [f"Even with {words} it needs about {say(size, 'B')}, {say(size - capacity, 'B')} too much."]
