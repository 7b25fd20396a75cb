"""Ceilings of products with few rows, as decode steps have them: by rows, and by the shape of the weights.

A step comes to each of its weights when a pass over all others has driven it out of the caches. So here a matrix is never used twice in a
row: those of one shape lie side by side in more memory than the last-level cache holds, and each call takes the next. Small matrices reach
less than large ones where threads start and end at every call; matrices with short rows reach less because each result is a sum that begins
and ends, and fetching ahead stops with it. What it takes to call the operator at all (microseconds) is part of the time. That is all of it for
such small ones on accelerators, so there only the largest matrix is timed. Runs inside an engine process.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

from torch.nn import functional

from profiling.bench import DTYPES, SLOW_HALF, Bench, LeftOut, kernel
from profiling.ceiling_rows import shaped_names

#: Row counts: where kernels change, and where the weights' traffic stops to decide. One row is a matrix-vector product.
ROWS = (1, 2, 8, 64)
#: Part of the time of other kernels that each shape gets: there are many of them.
SHARE = 1 / 6
#: Weights that one result adds up, in the largest matrix.
LONGEST = 4096


def register() -> None:
    """Add these kernels to :data:`profiling.bench.KERNELS`."""
    for dtype in DTYPES:
        for rows in ROWS:
            name = "gemv" if rows == 1 else f"skinny-{rows}"
            kernel(name, dtype)(partial(_largest, name, rows))
            for shaped, (nbytes, inner) in shaped_names(rows).items():
                kernel(shaped, dtype)(partial(_shaped, shaped, rows, nbytes, inner))


def _largest(name: str, rows: int, bench: Bench, dtype: str) -> dict[str, Any] | None:
    """``rows`` rows times a matrix that no cache holds."""
    if rows > 1 and _is_slow(bench, dtype):
        raise LeftOut(SLOW_HALF)
    inner = min(LONGEST, math.isqrt(bench.beyond_caches(dtype).numel()))
    return _product(name, rows, bench.beyond_caches(dtype).numel() // inner, inner, 1.0, bench, dtype)


def _shaped(name: str, rows: int, nbytes: int, inner: int, bench: Bench, dtype: str) -> dict[str, Any] | None:
    """``rows`` rows times a matrix of ``nbytes``, of which each result adds up ``inner``."""
    item = DTYPES[dtype].itemsize
    if bench.device.type != "cpu":
        return None  # over before the next is launched: that would be timed, and the overhead has it already
    if _is_slow(bench, dtype):
        return None  # said once, of the largest matrix
    if 2 * nbytes > bench.beyond_caches(dtype).numel() * item:
        return None  # so little memory is free here that a cache could hold it
    return _product(name, rows, nbytes // item // inner, inner, SHARE, bench, dtype)


def _is_slow(bench: Bench, dtype: str) -> bool:
    return dtype == "fp16" and bench.quick and bench.device.type == "cpu"


def _product(name: str, rows: int, results: int, inner: int, share: float, bench: Bench, dtype: str) -> dict[str, Any]:
    """The row of a product with matrices [``results``, ``inner``]; ``bytes`` and ``inner`` in it are those of one matrix."""
    memory = bench.beyond_caches(dtype)
    count = memory.numel() // (results * inner)
    following = itertools.cycle(memory[: count * results * inner].view(count, results, inner).unbind()).__next__
    x = bench.tensor(rows, inner, dtype=dtype)
    size = results * inner * DTYPES[dtype].itemsize
    unit, work = ("B/s", float(size)) if rows == 1 else ("FLOP/s", 2.0 * rows * results * inner)
    row = bench.row(
        name,
        dtype,
        unit,
        work,
        lambda: functional.linear(x, following()),
        share=share,
        rows=rows,
        results=results,
        matrices=count,
    )
    return row | {"bytes": size, "inner": inner}
