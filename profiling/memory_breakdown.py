"""What the memory of a measured run was used for, by phase, beside the estimate: weights, cache, activations, and what is left.

Weights and cache are the storages behind the model's tensors and behind those of its cache, counted in this process. Activations are
the allocator's highest figure without the cache, from the profiled pass. The rest is what the process (on accelerators: the allocator)
held beyond these. What cannot be told apart is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiling.allocations import Peak, storages
from profiling.spec import Workload

COLUMNS = ["phase", "part", "measured_bytes", "estimated_bytes", "error_pct", "note"]
PARTS = ("weights", "cache", "activations", "other")
#: The stages that a pass consists of.
STAGES = ("encode", "prefill", "decode")


@dataclass
class Held:
    """What was found in the process: bytes of the weights, of the cache after each stage, and the allocator's peaks."""

    weights: int | None = None
    cache: dict[str, int] = field(default_factory=dict)
    peaks: dict[str, Peak] = field(default_factory=dict)


def held_by(tensors: Iterable[Any]) -> int:
    """Bytes of the different storages behind ``tensors``: tied weights and views count once."""
    return sum(storages(list(tensors)).values())


def table(
    held: Held, phases: Sequence[Mapping[str, Any]], memory: Mapping[str, Any], workload: Workload
) -> dict[str, Any]:
    """One row per phase and part. ``memory``: the section of the document, with its ``estimate`` where there is one."""
    rows: list[list[Any]] = []
    estimate = memory.get("estimate") or {}
    for phase in phases:
        name = str(phase["phase"])
        if name == "start":
            continue
        measured = _measured(name, held)
        estimated = _estimated(name, memory, estimate, workload)
        for part in PARTS[:-1]:
            value, guess = measured[part], estimated.get(part)
            error = 100 * (guess - value) / value if value and guess is not None else None
            rows.append([name, part, value, guess, error, _NOTES.get((name, part))])
        rows.append([name, "other", *_other(name, phase, measured)])
    return {"columns": COLUMNS, "rows": rows}


_NOTES = {
    ("load", "activations"): "no pass ran yet",
    ("load", "cache"): "no pass ran yet",
    ("warmup", "cache"): "not looked up between warm-up passes, which are like those measured",
    ("warmup", "activations"): "not profiled; warm-up passes are like those measured",
    (
        "decode",
        "activations",
    ): "highest of the first steps, which were profiled; what the loop still holds of the step before (its logits) is in it",
}


def _measured(phase: str, held: Held) -> dict[str, int | None]:
    if phase == "load":
        return {"weights": held.weights, "cache": 0, "activations": 0}
    peak = held.peaks.get(phase)
    return {
        "weights": held.weights,
        "cache": held.cache.get(phase),
        "activations": peak.activations if peak else None,
    }


def _estimated(
    phase: str, memory: Mapping[str, Any], estimate: Mapping[str, Any], workload: Workload
) -> dict[str, int | None]:
    """The estimate's figures for the end of ``phase``; a part that it does not tell for that phase is left out."""
    found: dict[str, int | None] = {"weights": estimate.get("weights_bytes")}
    if phase not in STAGES:
        return found
    cache, state = estimate.get("kv_cache_bytes"), estimate.get("state_bytes") or 0
    per_token = memory.get("kv_cache_bytes_per_token")
    if phase == "encode":
        found["cache"] = 0
    elif phase == "decode" or workload.output_tokens <= 1:
        found["cache"] = None if cache is None else cache + state
    elif cache is not None and per_token is not None:
        # What is cached after the prompt is known from the slope only where the cache grows evenly from the first token on.
        cached = workload.input_tokens + workload.output_tokens - 1
        even = cache == per_token * workload.batch_size * cached
        found["cache"] = round(per_token * workload.batch_size * workload.input_tokens) + state if even else None
    stage = (estimate.get("stages") or {}).get(phase) or {}
    found["activations"] = stage.get("activation_peak_bytes")
    return found


def _other(name: str, phase: Mapping[str, Any], measured: Mapping[str, int | None]) -> list[Any]:
    """Measured bytes of the rest, no estimate, no error, and what it is."""
    parts = [measured[part] for part in PARTS[:-1]]
    if any(part is None for part in parts):
        return [None, None, None, "unknown, as one of the parts is"]
    known = sum(part for part in parts if part is not None)
    on_device = phase.get("device_allocated_peak_bytes")
    whole = on_device if on_device is not None else phase.get("anonymous_delta_bytes")
    if whole is None:
        return [None, None, None, "the peak of this phase is unknown"]
    if whole < known:
        why = "weights are partly pages of their file" if on_device is None else "the parts peak at different moments"
        return [None, None, None, f"the peak is below the sum of the parts: {why}"]
    what = (
        "peak that the allocator gave out, less the parts: inputs and rounding"
        if on_device is not None
        else "peak of the process above what it held before loading, less the parts: buffers of libraries, and memory that the C "
        "allocator keeps"
    )
    return [whole - known, None, None, what]
