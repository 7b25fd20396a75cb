"""A device as it would be with other figures: what users ask of hardware that nobody has built. Pure functions, standard library only.

A rate measured on a host is multiplied by the factor of what limits it there. For most kernels their unit says what that is: B/s the memory,
FLOP/s the arithmetic. Of a product with few rows it does not: decode's are counted in FLOP/s from two rows on, and still wait for the memory.
Such a product keeps the part of its roofline that it reached: per byte of weights it needs max(2 · rows / bytes of a weight / peak,
1 / bandwidth) seconds there, by the roofs that were measured on that host, and its time changes as those do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from profiling.ceiling_rows import Row, base_class, few_rows, measured_bandwidth, measured_peak, with_threads
from profiling.spec import DTYPE_BYTES, HardwareSpec

#: Keys of a row whose rate was multiplied: by how much, and what limits its kernel, ``bandwidth`` or ``flops``.
FACTOR, LIMIT = "factor", "limit"
#: Kernels whose rate holds whatever the format of the workload.
ANY_FORMAT = ("copy", "elementwise")
_OF_UNIT = {"B/s": "bandwidth", "FLOP/s": "flops", "OP/s": "flops"}

#: (format, threads) → (FLOP/s, B/s), each None where it was not measured.
Roofs = Callable[[str, int | None], tuple[float | None, float | None]]


def scaled(hardware: HardwareSpec, *, bandwidth: float = 1.0, flops: float = 1.0, memory: float = 1.0) -> HardwareSpec:
    """A device with memory bandwidth, arithmetic (of every format) and memory times a factor each; rates measured on a host follow, which is
    a projection and no measurement (:func:`notes` says it). Links, caches and launch overhead stay."""
    factors = (("bandwidth", bandwidth), ("FLOP/s", flops), ("memory", memory))
    changed = [f"× {factor:g} {name}" for name, factor in factors if factor != 1]
    if not changed:
        return hardware

    @cache
    def roofs(dtype: str, threads: int | None) -> tuple[float | None, float | None]:
        return measured_peak(hardware, dtype, threads), measured_bandwidth(hardware, dtype, threads)[0]

    return replace(
        hardware,
        name=f"{hardware.name} ({', '.join(changed)})",
        memory_bytes=None if hardware.memory_bytes is None else round(hardware.memory_bytes * memory),
        memory_bandwidth=None if hardware.memory_bandwidth is None else hardware.memory_bandwidth * bandwidth,
        peak_flops={name: None if rate is None else rate * flops for name, rate in hardware.peak_flops.items()},
        ceilings=[_scaled(row, {"bandwidth": bandwidth, "flops": flops}, roofs) for row in hardware.ceilings],
    )


def _scaled(row: dict[str, Any], factors: dict[str, float], roofs: Roofs) -> dict[str, Any]:
    limit = _OF_UNIT.get(str(row.get("unit")))
    if limit is None or not row.get("value"):
        return row
    factor, rows, dtype = factors[limit], few_rows(str(row.get("op_class"))), str(row.get("dtype"))
    if rows is not None and dtype in DTYPE_BYTES:
        peak, bandwidth = roofs(dtype, row.get("threads"))
        if peak and bandwidth:
            # Seconds per byte of weights under either roof.
            times = {"flops": 2 * rows / DTYPE_BYTES[dtype] / peak, "bandwidth": 1 / bandwidth}
            limit = max(times, key=lambda name: times[name])
            factor = times[limit] / max(seconds / factors[name] for name, seconds in times.items())
    return {**row, "value": row["value"] * factor, FACTOR: factor, LIMIT: limit}


def notes(hardware: HardwareSpec, dtypes: Collection[str], threads: int | None) -> list[str]:
    """Which measured rates of a scaled device are hypothetical, and by how much: a sentence for the kernels that the memory limits, and one
    for those that arithmetic does. Of what estimates in the formats ``dtypes`` stand on; [] where no rate was changed."""
    by_class: dict[str, list[Row]] = {}
    for row in hardware.ceilings:
        op_class = str(row.get("op_class"))
        used = op_class in ANY_FORMAT or (
            row.get("dtype") in dtypes and (op_class in ("gemm", "attention") or few_rows(op_class) is not None)
        )
        if used and LIMIT in row:
            by_class.setdefault(op_class, []).append(row)
    rows = [row for of_class in by_class.values() for row in with_threads(of_class, threads)]
    found = []
    if here := _changed(rows, "bandwidth"):
        found.append(f"Measured rates of kernels that the memory limits, hypothetical: {here}.")
    if here := _changed(rows, "flops"):
        found.append(f"Measured rates of kernels that arithmetic limits, hypothetical: {here}.")
    return found


def _changed(rows: Sequence[Row], limit: str) -> str:
    """The factors of kernels with this limit, each with their names; "" where all rates are the measured ones."""
    by_factor: dict[str, set[str]] = {}
    for row in rows:
        if row[LIMIT] == limit and row[FACTOR] != 1:
            by_factor.setdefault(f"{row[FACTOR]:.3g}", set()).add(base_class(str(row["op_class"])))

    def names(some: set[str]) -> str:
        return ", ".join(sorted(some, key=lambda name: (few_rows(name) or 0, name)))

    ordered = sorted(by_factor.items(), key=lambda item: -float(item[0]))
    return ", ".join(f"× {factor} ({names(some)})" for factor, some in ordered)
