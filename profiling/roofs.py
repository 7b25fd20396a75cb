"""The roofs of a device as a run document lists them, for drawing. Standard library only."""

from __future__ import annotations

from typing import Any

from profiling.ceiling_rows import measured_bandwidth, measured_peak
from profiling.roofline import Ceilings
from profiling.spec import DTYPE_BYTES, HardwareSpec


def roofs(hardware: HardwareSpec, used: Ceilings, threads: int | None = None) -> list[dict[str, Any]]:
    """Every roof that is known of a device: first what the times stand on, then datasheet and measured ones by dtype."""
    found = [
        _roof(hardware, limits.level, limits.peak_dtype, limits.peak_flops, used.bandwidth, used.bandwidth_from)
        for limits in (used, used.quantised)
        if limits is not None
    ]
    if len(found) > 1 and found[1]["dtype"] in (None, found[0]["dtype"]):  # the ladder led to the same rate
        found.pop()
    standing = {(roof["level"], roof["dtype"]) for roof in found}
    count = len(found)
    for dtype in DTYPE_BYTES:
        peak = hardware.peak_flops.get(dtype)
        if peak:
            found.append(_roof(hardware, "datasheet", dtype, peak, hardware.memory_bandwidth, "datasheet"))
    for dtype in DTYPE_BYTES:
        peak = measured_peak(hardware, dtype, threads)
        bandwidth, source = measured_bandwidth(hardware, dtype, threads)
        if peak and bandwidth:
            found.append(_roof(hardware, "measured", dtype, peak, bandwidth, source))
    return [roof | {"used": True} for roof in found[:count]] + [
        roof | {"used": False} for roof in found[count:] if (roof["level"], roof["dtype"]) not in standing
    ]


def _roof(
    hardware: HardwareSpec,
    level: str,
    dtype: str | None,
    peak: float | None,
    bandwidth: float | None,
    source: str | None,
) -> dict[str, Any]:
    return {
        "name": hardware.name,
        "level": level,
        "dtype": dtype,
        "peak_flops": peak,
        "bandwidth": bandwidth,
        "bandwidth_from": source,
        "ridge": peak / bandwidth if peak and bandwidth else None,
    }
