"""What a workload needs in memory, whether it fits, and what would make it fit. Pure functions, standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable
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
) -> dict[str, Any]:
    """The ``memory.estimate`` object of the run document, of one device. ``fits`` is None when the capacity is unknown.

    ``more_devices``: capacity → a sentence that says how many devices hold it.
    """
    total = weights_bytes + kv_cache_bytes + state_bytes + activation_peak_bytes
    fits = None if capacity_bytes is None else total <= capacity_bytes
    result: dict[str, Any] = {
        "weights_bytes": weights_bytes,
        "kv_cache_bytes": kv_cache_bytes,
        "state_bytes": state_bytes,
        "activation_peak_bytes": activation_peak_bytes,
        "total_bytes": total,
        "capacity_bytes": capacity_bytes,
        "fits": fits,
        "shortfall_bytes": max(0, total - capacity_bytes) if capacity_bytes is not None else None,
        "suggestions": [],
    }
    if capacity_bytes is not None and not fits:
        result["suggestions"] = _suggestions(result, dtype, batch_size, capacity_bytes)
        result["suggestions"] += [more_devices(capacity_bytes)] if more_devices else []
    return result


def _suggestions(estimate: dict[str, Any], dtype: str, batch_size: int, capacity: int) -> list[str]:
    weights, total = estimate["weights_bytes"], estimate["total_bytes"]
    per_sequence = (total - weights) / batch_size
    found = []
    room = capacity - weights
    fitting = math.floor(room / per_sequence) if per_sequence else 0
    if 0 < fitting < batch_size:
        found.append(f"A batch of {fitting} fits: each sequence needs {say(per_sequence, 'B')} beside the weights.")
    if DTYPE_BYTES[dtype] > 2:
        half = total / 2
        found.append(
            f"In bf16 it needs about {say(half, 'B')}, "
            + ("which fits." if half <= capacity else f"still {say(half - capacity, 'B')} too much.")
        )
    for name in ("int8", "int4"):
        quantised = total - weights * (1 - DTYPE_BYTES[name] / DTYPE_BYTES[dtype])
        if quantised <= capacity:
            found.append(
                f"With {name} weights it needs about {say(quantised, 'B')} before scales and zero points, which fits."
            )
            break
    return found
