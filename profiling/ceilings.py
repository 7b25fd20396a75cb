"""Rates that plain kernels reach on this machine: the measured roofs.

Each ceiling is the best of several timed calls, with the median beside it: other work can only make a kernel slower. Whatever reads
memory works on more than the last-level cache holds. Runs inside an engine process.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from profiling import few_rows, host
from profiling.bench import CONTENDED_RATIO, KERNELS, SLOW_HALF, Bench, LeftOut, kernel
from profiling.device_state import accelerator_state
from profiling.overhead import overhead
from profiling.spec import SpecError

#: Variables that decide how threads run.
SHOWN_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: Seconds of one product after another, after which clocks and temperature of an accelerator have settled.
SUSTAINED_S = {True: 2.0, False: 10.0}


@kernel("gemm", "fp32", "bf16", "fp16")
def gemm(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Square matrix product; the side grows until one call takes 20 ms (fp16 on a processor may be 100 times slower than fp32)."""
    side = 256
    while True:
        left, right = bench.tensor(side, side, dtype=dtype), bench.tensor(side, side, dtype=dtype)
        call = partial(torch.mm, left, right, out=torch.empty_like(left))
        call()
        if side >= bench.largest_gemm or bench._timed(call, 1) > 0.02:
            return bench.row("gemm", dtype, "FLOP/s", 2.0 * side**3, call, side=side)
        side *= 2


@kernel("gemm", "int8")
def gemm_int8(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Square product of int8 matrices into int32, the right one column by column as kernels for weights want it; in operations."""
    side = 256
    while True:
        left = torch.ones(side, side, dtype=torch.int8, device=bench.device)
        right = torch.ones(side, side, dtype=torch.int8, device=bench.device).t()
        call = partial(torch._int_mm, left, right)
        call()
        if side >= bench.largest_gemm or bench._timed(call, 1) > 0.02:
            return bench.row("gemm", dtype, "OP/s", 2.0 * side**3, call, side=side)
        side *= 2


@kernel("gemm", "fp8")
def gemm_fp8(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Square product of E4M3 matrices into bf16 with one scale each. A processor without instructions for it converts on the way."""
    side, one = 256, torch.tensor(1.0, device=bench.device)
    while True:
        left, right = (bench.tensor(side, side, dtype="bf16").to(torch.float8_e4m3fn) for _ in range(2))
        call = partial(torch._scaled_mm, left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        call()
        if side >= bench.largest_gemm or bench._timed(call, 1) > 0.02:
            return bench.row("gemm", dtype, "FLOP/s", 2.0 * side**3, call, side=side)
        side *= 2


@kernel("gemm-sustained", "fp32", "bf16", "fp16")
def gemm_sustained(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """The same product on and on, rate of the second half of the time: what is left of the burst once an accelerator is warm and its
    power limit holds. Processors are timed for a moment only, so they have no such row."""
    if bench.device.type != "cuda":
        return None
    side = bench.largest_gemm
    left, right = bench.tensor(side, side, dtype=dtype), bench.tensor(side, side, dtype=dtype)
    call = partial(torch.mm, left, right, out=torch.empty_like(left))
    call()
    repeat = max(1, round(0.1 / max(bench._timed(call, 1), 1e-6)))
    before, started = accelerator_state(), time.perf_counter()
    times: list[float] = []
    while time.perf_counter() - started < bench.sustained_s or len(times) < 4:
        times.append(bench._timed(call, repeat) / repeat)
    settled = times[len(times) // 2 :]
    work = 2.0 * side**3
    row = bench.row("gemm-sustained", dtype, "FLOP/s", work, call, side=side)
    spread = max(settled) / min(settled)
    states = {"before": before, "after": accelerator_state()}
    return row | {
        "value": work * len(settled) / sum(settled),
        "median": work / statistics.median(settled),
        "quality": "ok" if spread < CONTENDED_RATIO else "contended",
        "detail": row["detail"] | {"seconds": bench.sustained_s, "states": states},
    }


few_rows.register()


@kernel("gemv", "int8")
def gemv_int8(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """One row of int8 times int8 weights that no cache holds, into int32."""
    rows = max(4096, bench.beyond_cache // 4096)
    weight = torch.ones(rows, 4096, dtype=torch.int8, device=bench.device)
    x = torch.ones(1, 4096, dtype=torch.int8, device=bench.device)
    call = partial(torch._int_mm, x, weight.t())
    return bench.row("gemv", dtype, "B/s", float(weight.numel()), call, rows=rows, columns=4096)


@kernel("copy", "")
def copy(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Copy of more than the caches hold; loads and stores both count."""
    source = bench.tensor(bench.beyond_cache // 4, dtype="fp32")
    target = torch.empty_like(source).copy_(source)
    size = source.numel() * 4
    return bench.row("copy", "", "B/s", 2.0 * size, lambda: target.copy_(source), bytes=size)


@kernel("read", "")
def read(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Sum over more than the caches hold: loads alone."""
    source = bench.tensor(bench.beyond_cache // 4, dtype="fp32")
    size = source.numel() * 4
    return bench.row("read", "", "B/s", float(size), lambda: torch.sum(source), bytes=size)


@kernel("triad", "")
def triad(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """a = b + s·c over more than the caches hold (STREAM's triad): two loads and a store an element."""
    b, c = (bench.tensor(bench.beyond_cache // 4, dtype="fp32") for _ in range(2))
    a = torch.empty_like(b)
    torch.add(b, c, alpha=0.5, out=a)
    size = a.numel() * 4
    return bench.row("triad", "", "B/s", 3.0 * size, lambda: torch.add(b, c, alpha=0.5, out=a), bytes=size)


@kernel("attention", "fp32", "bf16", "fp16")
def attention(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Fused attention over 512 tokens, 8 heads of 64, every pair computed: 4·S²·D FLOPs a head. So little is over on an accelerator
    before the next call is launched, and leaves most of it idle: there it is 2,048 tokens and 32 heads."""
    on_processor = bench.device.type == "cpu"
    if dtype == "fp16" and bench.quick and on_processor:
        raise LeftOut(SLOW_HALF)
    heads, tokens, width = (8, 512, 64) if on_processor else (32, 2048, 64)
    q, k, v = (bench.tensor(1, heads, tokens, width, dtype=dtype) for _ in range(3))
    flops = 4.0 * heads * tokens**2 * width
    call = functional.scaled_dot_product_attention
    return bench.row(
        "attention", dtype, "FLOP/s", flops, lambda: call(q, k, v), heads=heads, tokens=tokens, width=width
    )


@kernel("elementwise", "fp32")
def elementwise(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Product of two vectors that fit a cache: one FLOP an element.

    On an accelerator the same would time the launch, and longer vectors the memory, neither of which is arithmetic. There it is a matrix
    product in fp32 (not in TF32, which torch leaves off), which the same units compute.
    """
    if bench.device.type != "cpu":
        side = min(4096, bench.largest_gemm)
        left, right = bench.tensor(side, side, dtype=dtype), bench.tensor(side, side, dtype=dtype)
        call = partial(torch.mm, left, right, out=torch.empty_like(left))
        return bench.row("elementwise", dtype, "FLOP/s", 2.0 * side**3, call, side=side)
    count = 1 << 16
    x, y = bench.tensor(count, dtype=dtype), bench.tensor(count, dtype=dtype)
    out = torch.empty_like(x)
    return bench.row("elementwise", dtype, "FLOP/s", float(count), lambda: torch.mul(x, y, out=out), elements=count)


kernel("overhead", "")(overhead)


def measure_ceilings(
    *,
    quick: bool = True,
    threads: int | None = None,
    kind: str | None = None,
    only: Collection[Sequence[Any]] | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Ceilings of this machine as this one process reaches them: ``rows`` (see :meth:`profiling.bench.Bench.row`), ``duration_s``, ``device``,
    ``torch``, ``fingerprint``, ``affinity`` (processors it may use, or null), ``env_vars`` and ``skipped``.

    On a processor with the default thread count (physical cores) and with one thread, unless ``threads`` names one. ``kind`` ``"cpu"``
    measures the processor even where there is an accelerator. ``quick``: shorter timings.
    ``only``: ``(op_class, dtype, threads)`` of the rows that are wanted. Kernels that this torch does not have are named in ``skipped``
    with the reason. One process is no evidence: ``profiling.ceiling_processes`` asks several.
    """
    report = progress or (lambda stage, fraction, message: None)
    started = time.perf_counter()
    benches = list(_benches(quick, threads, kind))
    wanted = None if only is None else {tuple(key) for key in only}
    jobs = [(bench, *key) for bench in benches for key in KERNELS if _is_wanted(bench, key, benches, wanted)]
    rows, skipped = [], []
    for index, (bench, name, dtype) in enumerate(jobs):
        label = f"{name} {dtype}".strip()
        report("ceilings", index / len(jobs), f"{label}, {bench.threads} threads" if bench.threads else label)
        if bench.device.type == "cpu":
            torch.set_num_threads(bench.threads)
        try:
            with torch.inference_mode():
                row = KERNELS[name, dtype](bench, dtype)
        except (RuntimeError, NotImplementedError, TypeError, AttributeError, LeftOut) as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            reason = {"op_class": name, "dtype": dtype, "reason": text[:200]}
            skipped += [reason] if reason not in skipped else []
            continue
        if row is not None:
            rows.append(row)
    report("ceilings", 1.0, f"{len(rows)} ceilings measured")
    return {
        "rows": rows,
        "skipped": skipped,
        "duration_s": time.perf_counter() - started,
        "device": _device_name(benches[0].device),
        "torch": torch.__version__,
        "fingerprint": host.detect()["fingerprint"],
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "env_vars": {name: os.environ[name] for name in SHOWN_VARIABLES if name in os.environ},
    }


def _is_wanted(bench: Bench, key: tuple[str, str], benches: list[Bench], wanted: set[tuple[Any, ...]] | None) -> bool:
    if key[0] == "overhead":  # one thread is enough for operators on almost no data
        return bench is benches[-1] and (wanted is None or (*key, 0) in wanted)
    return wanted is None or (*key, bench.threads) in wanted


def _benches(quick: bool, threads: int | None, kind: str | None) -> Iterator[Bench]:
    budget = 0.12 if quick else 0.8
    if kind != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda", 0)
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 64 << 20
        yield Bench(device, 0, budget, max(1 << 30, 8 * cache), 8192, quick, SUSTAINED_S[quick])
        return
    if kind != "cpu" and torch.backends.mps.is_available():
        yield Bench(torch.device("mps"), 0, budget, 256 << 20, 4096, quick)
        return
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise SpecError("threads", "Enter a whole number of threads from 1, or leave it empty.")
    # All caches together: a process on many cores has the last-level cache of each group of them.
    beyond = max(128 << 20, 4 * (host.last_level_caches() or 32 << 20))
    beyond = min(beyond, (host.available_memory() or 16 * beyond) // 16)
    default = host.cores()[0]
    for count in [threads] if threads else sorted({default, 1}, reverse=True):
        yield Bench(
            torch.device("cpu"),
            count,
            budget if count == default else budget / 2,
            beyond,
            2048 if quick else 4096,
            quick,
        )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
