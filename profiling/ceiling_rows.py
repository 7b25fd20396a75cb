"""What the stored rates of a host say about a kind of kernel. Pure functions over rows of ``profiling.ceilings``, standard library only.

Products of few rows are timed with matrices of several shapes, each of them out of memory: ``gemv`` and ``skinny-8`` are of one that no
cache holds, ``gemv-1MiB-768`` of one of 1 MiB, of which each result adds up 768 weights. ``bytes`` and ``inner`` of such a row say the
same; rows stored before shapes were timed have neither.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from profiling.spec import DTYPE_BYTES, HardwareSpec

#: Integer formats are counted in operations, the others in floating-point operations.
PEAK_UNITS = ("FLOP/s", "OP/s")

MIB = 1 << 20
#: Bytes of the weights that products are timed with, beside one matrix that is larger than all caches.
SIZES = (1 * MIB, 16 * MIB)
#: How many weights one result adds up, by rows of the left matrix; of other row counts those of ``None``. Short ones cost most where a
#: result is one dot product. The largest matrix has the longest.
INNER: dict[int | None, tuple[int, ...]] = {1: (256, 768, 4096), None: (768, 4096)}
_KIND = re.compile(r"(?:gemv|skinny-(?P<rows>\d+))(?P<shape>-\d+MiB-\d+)?")

Row = Mapping[str, Any]
#: (elements of the weights, rate) of one kernel, smallest first.
Curve = tuple[tuple[float, float], ...]
#: (weights that one result adds up, curve), shortest first.
Surface = tuple[tuple[int, Curve], ...]


def shaped_names(rows: int) -> dict[str, tuple[int, int]]:
    """Class of each product of ``rows`` rows with a shape of its own → (bytes of the weights, how many one result adds up)."""
    kind = "gemv" if rows == 1 else f"skinny-{rows}"
    shapes = [(size, inner) for size in SIZES for inner in INNER.get(rows, INNER[None])]
    return {f"{kind}-{size // MIB}MiB-{inner}": (size, inner) for size, inner in shapes}


def few_rows(op_class: str) -> int | None:
    """Rows of the left matrix of a product by its class: 1 for ``gemv`` and ``gemv-1MiB-768``, 8 for ``skinny-8``; None for others."""
    found = _KIND.fullmatch(op_class)
    return int(found["rows"] or 1) if found else None


def has_shape(op_class: str) -> bool:
    """Is it a product with a shape of its own, in place of the largest matrix?"""
    found = _KIND.fullmatch(op_class)
    return bool(found and found["shape"])


def base_class(op_class: str) -> str:
    """The class without the shape of its weights: ``gemv`` of ``gemv-1MiB-768``."""
    found = _KIND.fullmatch(op_class)
    return op_class.removesuffix(found["shape"] or "") if found else op_class


def rate_at(curve: Curve, elements: float) -> float:
    """The rate of a product with that many weights. Time grows in straight lines between the sizes that were timed; smaller and larger
    matrices have the rate of the nearest size."""
    if elements <= curve[0][0]:
        return curve[0][1]
    if elements >= curve[-1][0]:
        return curve[-1][1]
    place = bisect_right(curve, elements, key=lambda point: point[0])
    (low, slow), (high, fast) = curve[place - 1], curve[place]
    part = (elements - low) / (high - low)
    return elements / ((1 - part) * low / slow + part * high / fast)


def rate_of(surface: Surface, elements: float, inner: float) -> float:
    """The rate of a product with ``elements`` weights, of which each result adds up ``inner``.

    Of matrices of one size, those with short sums have more results; what each of them costs is a straight line in their number, so in
    1/``inner``. Shorter and longer sums than were timed have the rate of the nearest.
    """
    rates = [(length, rate_at(curve, elements)) for length, curve in surface]
    if inner <= rates[0][0]:
        return rates[0][1]
    if inner >= rates[-1][0]:
        return rates[-1][1]
    place = bisect_right(rates, inner, key=lambda point: point[0])
    (short, slow), (long, fast) = rates[place - 1], rates[place]
    part = (1 / inner - 1 / long) / (1 / short - 1 / long)
    return 1 / (part / slow + (1 - part) / fast)


def least_of(surface: Surface) -> tuple[float, int]:
    """(fewest elements, shortest sums) that were timed."""
    return min(elements for _, curve in surface for elements, _ in curve), min(inner for inner, _ in surface)


def measured_rate(
    hardware: HardwareSpec, op_class: str, units: tuple[str, ...], dtype: str | None, threads: int | None
) -> float | None:
    """The best rate of a kind of kernel among the ceilings of ``hardware``: with ``threads`` threads where that was timed."""
    found = [
        r
        for r in hardware.ceilings
        if r.get("op_class") == op_class
        and r.get("unit") in units
        and dtype in (None, r.get("dtype"))
        and r.get("value")
    ]
    return max((float(r["value"]) for r in with_threads(found, threads)), default=None)


def with_threads(rows: Sequence[Row], threads: int | None) -> Sequence[Row]:
    """Those that were timed with so many threads; all of them where none was."""
    exact = [r for r in rows if threads is not None and r.get("threads") == threads]
    return exact or rows


def of_one_count(rows: Sequence[Row], threads: int | None) -> Sequence[Row]:
    """Those that were timed with so many threads; where none was, those with the most, which is what a process takes that is not told.

    The best of all counts would be of one thread for a shape that was not accepted with all of them.
    """
    exact = with_threads(rows, threads)
    most = max((r.get("threads") or 0 for r in exact), default=0)
    return [r for r in exact if (r.get("threads") or 0) == most]


def surfaces(hardware: HardwareSpec, dtype: str, threads: int | None) -> dict[int, Surface]:
    """Rows of the left matrix → rates by the shape of the weights: B/s for one row, FLOP/s (or OP/s) for more.

    All from one number of threads, and accepted ones alone: beside other work, a product of a few microseconds waits for its threads many
    times as long. A row count that was not timed with several shapes is left out: the rate of its largest matrix holds for all.
    """
    found: dict[int, dict[int, dict[float, float]]] = {}
    for row in of_one_count(_shaped(hardware, dtype), threads):
        rows = few_rows(str(row["op_class"]))
        if rows is None or row.get("quality") == "contended":
            continue
        if row.get("unit") not in (("B/s",) if rows == 1 else PEAK_UNITS):
            continue
        points = found.setdefault(rows, {}).setdefault(int(row["inner"]), {})
        elements = float(row["bytes"]) / DTYPE_BYTES[dtype]
        points[elements] = max(points.get(elements, 0.0), float(row["value"]))
    return {
        rows: tuple((inner, tuple(sorted(points.items()))) for inner, points in sorted(lengths.items()))
        for rows, lengths in sorted(found.items())
        if sum(map(len, lengths.values())) > 1
    }


def _shaped(hardware: HardwareSpec, dtype: str) -> list[Row]:
    return [
        r
        for r in hardware.ceilings
        if few_rows(str(r.get("op_class")))
        and r.get("dtype") == dtype
        and r.get("value")
        and r.get("bytes")
        and r.get("inner")
    ]


def skinny(hardware: HardwareSpec, dtype: str, threads: int | None) -> tuple[tuple[int, float], ...]:
    """(rows, FLOP/s) of the products with few rows that were timed with the largest matrix, fewest rows first."""
    names = {str(r.get("op_class")) for r in hardware.ceilings}
    counts = sorted(rows for name in names if (rows := few_rows(name)) and name == f"skinny-{rows}")
    found = [(count, measured_rate(hardware, f"skinny-{count}", PEAK_UNITS, dtype, threads)) for count in counts]
    return tuple((count, value) for count, value in found if value)


def measured_peak(hardware: HardwareSpec, dtype: str, threads: int | None) -> float | None:
    """The highest rate of arithmetic that any kernel reached in ``dtype``; None without a large matrix product."""
    product = measured_rate(hardware, "gemm", PEAK_UNITS, dtype, threads)
    attention = measured_rate(hardware, "attention", PEAK_UNITS, dtype, threads)
    few = [value for _, value in skinny(hardware, dtype, threads)]
    for rows, surface in surfaces(hardware, dtype, threads).items():
        few += [value for _, curve in surface for _, value in curve if rows > 1]
    return max(product, attention or 0.0, *few) if product else None


def measured_bandwidth(hardware: HardwareSpec, dtype: str, threads: int | None) -> tuple[float | None, str]:
    """(B/s, which kernel) of the fastest stream from memory: copy, or a matrix-vector product in ``dtype``. None without a copy."""
    copy = measured_rate(hardware, "copy", ("B/s",), dtype, threads) or measured_rate(
        hardware, "copy", ("B/s",), None, threads
    )
    if not copy:
        return None, "copy"
    streams = [measured_rate(hardware, "gemv", ("B/s",), dtype, threads) or 0.0]
    streams += [value for _, curve in surfaces(hardware, dtype, threads).get(1, ()) for _, value in curve]
    best = max(streams)
    return (best, f"gemv {dtype}") if best > copy else (copy, "copy")


def sized_rates(
    hardware: HardwareSpec, dtype: str, used: str | None, threads: int | None
) -> tuple[tuple[int, Surface], ...]:
    """Rates by shape: of one row in the format of the weights (``dtype``), of more in that of the arithmetic (``used``)."""
    found = {rows: surface for rows, surface in surfaces(hardware, dtype, threads).items() if rows == 1}
    if used is not None:
        found |= {rows: surface for rows, surface in surfaces(hardware, used, threads).items() if rows > 1}
    return tuple(found.items())


def contended_among(rows: Sequence[Row], used: Sequence[tuple[str, str | None, float | None]]) -> list[str]:
    """Names of the rates in use, (class, format, rate), that were not accepted."""
    shaky = {(r.get("op_class"), r.get("value")) for r in rows if r.get("quality") == "contended"}
    return [f"{name} {dtype}".strip() for name, dtype, rate in used if (name, rate) in shaky]


def shapes_left_out(hardware: HardwareSpec, dtype: str, used: str | None, threads: int | None) -> tuple[int, int]:
    """(how many, of how many) rates of products by shape that were not accepted, so that a neighbouring shape stands for them: of those
    that :func:`sized_rates` takes."""
    found = []
    for name, single in ((dtype, True), (used, False)):
        for row in of_one_count(_shaped(hardware, name), threads) if name else ():
            kind = str(row["op_class"])
            if has_shape(kind) and (few_rows(kind) == 1) == single:
                found.append(row)
    return sum(r.get("quality") == "contended" for r in found), len(found)
