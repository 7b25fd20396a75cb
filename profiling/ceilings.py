"""Rates that plain kernels reach on this machine: the measured roofs.

Each ceiling is the best of several timed calls, with the median beside it: other work can only make a kernel slower. Whatever reads
memory works on more than the last-level cache holds. Runs inside an engine process.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from profiling import host
from profiling.conditions import Snapshot
from profiling.spec import SpecError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Best and median further apart than this mean that something else was running.
CONTENDED_RATIO = 1.15
#: The system counts processor time in ticks of 10 ms, so over a tenth of a second less than this is no evidence.
FOREIGN_CORES = 0.25
#: A timed call takes at least this long, or the clock and the call itself would be part of the rate.
CALL_S = 0.002

#: (op_class, dtype) → function(Bench, dtype name) → row or None. A new kind of ceiling is one function here.
Kernel = Callable[["Bench", str], dict[str, Any] | None]
KERNELS: dict[tuple[str, str], Kernel] = {}


def kernel(op_class: str, *dtypes: str) -> Callable[[Kernel], Kernel]:
    def register(function: Kernel) -> Kernel:
        for dtype in dtypes:
            if (op_class, dtype) in KERNELS:
                raise ValueError(f"ceiling {op_class!r} {dtype} is registered twice")
            KERNELS[op_class, dtype] = function
        return function

    return register


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure: ``budget_s`` per kernel, ``beyond_cache`` bytes that no cache holds."""

    device: torch.device
    threads: int
    budget_s: float
    beyond_cache: int
    largest_gemm: int

    def row(
        self, op_class: str, dtype: str, unit: str, work: float, call: Callable[[], Any], **detail: Any
    ) -> dict[str, Any]:
        """Time ``call``, which does ``work`` (FLOPs or bytes), and say what rate that is."""
        seconds, quality = self._times(call)
        best, median = min(seconds), statistics.median(seconds)
        return {
            "op_class": op_class,
            "dtype": dtype,
            "threads": self.threads,
            "value": work / best,
            "unit": unit,
            "median": work / median,
            "quality": quality,
            "detail": detail | {"calls": len(seconds), "best_s": best},
            "measured_at": datetime.now(UTC).isoformat(),
        }

    def _times(self, call: Callable[[], Any]) -> tuple[list[float], str]:
        """Seconds per call, and whether they are undisturbed; disturbed ones get a second chance."""
        times, quality = self._round(call)
        if quality == "contended":
            again, quality = self._round(call)
            times = times + again if quality == "contended" else again
        return times, quality

    def _round(self, call: Callable[[], Any]) -> tuple[list[float], str]:
        self._timed(call, 1)
        single = self._timed(call, 1)
        repeat = max(1, math.ceil(CALL_S / max(single, 1e-7)))
        begin = Snapshot.now()
        times: list[float] = []
        while len(times) < 3 or (time.perf_counter() - begin.wall < self.budget_s and len(times) < 200):
            times.append(self._timed(call, repeat) / repeat)
            if time.perf_counter() - begin.wall > 4 * self.budget_s:
                break
        disturbed = statistics.median(times) > CONTENDED_RATIO * min(times) or self._others_ran(begin, Snapshot.now())
        return times, "contended" if disturbed else "ok"

    def _others_ran(self, begin: Snapshot, end: Snapshot) -> bool:
        """Whether other processes needed the cores too: a steady companion slows every call alike, so no spread shows it."""
        others = ((end.busy - begin.busy) - (end.process - begin.process)) / (end.wall - begin.wall)
        return self.device.type == "cpu" and others > FOREIGN_CORES and others + self.threads > host.cores()[1]

    def _timed(self, call: Callable[[], Any], repeat: int) -> float:
        if self.device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(repeat):
                call()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        started = time.perf_counter()
        for _ in range(repeat):
            call()
        if self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - started

    def tensor(self, *shape: int, dtype: str) -> torch.Tensor:
        """Values that are normal numbers everywhere; drawn at random on devices whose clock depends on the data."""
        tensor = torch.empty(*shape, dtype=DTYPES[dtype], device=self.device)
        return tensor.normal_() if self.device.type == "cuda" else tensor.fill_(0.5)


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


def _weight(bench: Bench, dtype: str) -> torch.Tensor:
    """A weight matrix [outputs, 4096] that no cache holds."""
    return bench.tensor(max(4096, bench.beyond_cache // (4096 * DTYPES[dtype].itemsize)), 4096, dtype=dtype)


@kernel("gemv", "fp32", "bf16", "fp16")
def gemv(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """One row times a weight matrix that no cache holds: what a decode step does. Bytes are those of the weights."""
    weight, x = _weight(bench, dtype), bench.tensor(1, 4096, dtype=dtype)
    size = weight.numel() * weight.element_size()
    call = partial(functional.linear, x, weight)
    return bench.row("gemv", dtype, "B/s", float(size), call, rows=weight.shape[0], columns=4096)


#: Row counts at which products with few rows are timed: where kernels change, and where the weights' traffic stops to decide.
FEW_ROWS = (2, 8, 64)


def _skinny(rows: int, bench: Bench, dtype: str) -> dict[str, Any] | None:
    """``rows`` rows times a weight matrix that no cache holds: decoding a batch, short prompts."""
    weight, x = _weight(bench, dtype), bench.tensor(rows, 4096, dtype=dtype)
    call = partial(functional.linear, x, weight)
    return bench.row(f"skinny-{rows}", dtype, "FLOP/s", 2.0 * rows * weight.numel(), call, rows=rows)


for _rows in FEW_ROWS:
    kernel(f"skinny-{_rows}", "fp32", "bf16")(partial(_skinny, _rows))


@kernel("copy", "")
def copy(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Copy of more than the caches hold; loads and stores both count."""
    source = bench.tensor(bench.beyond_cache // 4, dtype="fp32")
    target = torch.empty_like(source).copy_(source)
    size = source.numel() * 4
    return bench.row("copy", "", "B/s", 2.0 * size, lambda: target.copy_(source), bytes=size)


@kernel("attention", "fp32", "bf16")
def attention(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Fused attention over 512 tokens, 8 heads of 64, every pair computed: 4·S²·D FLOPs a head."""
    heads, tokens, width = 8, 512, 64
    q, k, v = (bench.tensor(1, heads, tokens, width, dtype=dtype) for _ in range(3))
    flops = 4.0 * heads * tokens**2 * width
    call = functional.scaled_dot_product_attention
    return bench.row(
        "attention", dtype, "FLOP/s", flops, lambda: call(q, k, v), heads=heads, tokens=tokens, width=width
    )


@kernel("elementwise", "fp32")
def elementwise(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Product of two vectors that fit a cache: one FLOP an element."""
    count = 1 << 16
    x, y = bench.tensor(count, dtype=dtype), bench.tensor(count, dtype=dtype)
    out = torch.empty_like(x)
    return bench.row("elementwise", dtype, "FLOP/s", float(count), lambda: torch.mul(x, y, out=out), elements=count)


#: Llama so narrow that its arithmetic takes no time: what remains of a decode step is what each operator costs to be called.
NARROW = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


@kernel("overhead", "")
def overhead(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Seconds that one operator costs beside its arithmetic: a decode step of a narrow model over the operators that the engine
    counts in it. It includes Python, modules and views, which a single call of a small operator (``plain_add_s``) leaves out."""
    from profiling.estimate import estimate
    from profiling.generation import Runner
    from profiling.loading import load, prepare_inputs
    from profiling.spec import HardwareSpec, ModelSpec, Workload

    model = ModelSpec(name="narrow", config=NARROW)
    workload = Workload(input_tokens=8, output_tokens=32, dtype="fp32")
    table = estimate(model, HardwareSpec(name="any"), workload)["operators"]
    at = {name: table["columns"].index(name) for name in ("stage", "calls", "bytes_read", "bytes_written")}
    moving = [
        row
        for row in table["rows"]
        if row[at["stage"]] == "decode" and row[at["bytes_read"]] + row[at["bytes_written"]]
    ]
    operators = sum(row[at["calls"]] for row in moving)
    with torch.inference_mode(False):
        loaded = load(model, workload, bench.device)
    runner = Runner(
        loaded,
        prepare_inputs(model, loaded, workload, bench.device),
        kind="decoder",
        logits="last",
        device=bench.device,
    )
    steps: list[float] = []
    runner.generate(workload.output_tokens)
    for _ in range(4):
        walls = [stamp.wall_ns for stamp in runner.generate(workload.output_tokens).stamps]
        steps += [(end - begin) / 1e9 for begin, end in itertools.pairwise(walls[1:])]
    x = bench.tensor(16, dtype="fp32")
    plain = bench.row("overhead", "", "s", 1.0, lambda: torch.add(x, x))
    best, median = min(steps) / operators, statistics.median(steps) / operators
    return plain | {
        "threads": 0,
        "value": best,
        "median": median,
        "quality": "contended" if median / best > CONTENDED_RATIO else "ok",
        "detail": {
            "method": "decode step of a narrow model",
            "operators": operators,
            "plain_add_s": 1 / plain["value"],
        },
    }


def measure_ceilings(
    *, quick: bool = True, threads: int | None = None, kind: str | None = None, progress: Any = None
) -> dict[str, Any]:
    """Ceilings of this machine: ``rows`` as ``hardware.models.Ceiling`` keeps them, ``duration_s``, ``device``, ``fingerprint``, ``skipped``.

    On a processor with the default thread count (physical cores) and with one thread, unless ``threads`` names one. ``kind`` ``"cpu"``
    measures the processor even where there is an accelerator. ``quick`` takes about 7 s, otherwise about five times as long.
    Kernels that this torch does not have are named in ``skipped`` with the reason.
    """
    report = progress or (lambda stage, fraction, message: None)
    started = time.perf_counter()
    benches = list(_benches(quick, threads, kind))
    jobs = [(bench, name, dtype) for bench in benches for name, dtype in KERNELS]
    rows, skipped = [], []
    for index, (bench, name, dtype) in enumerate(jobs):
        label = f"{name} {dtype}".strip()
        report("ceilings", index / len(jobs), f"{label}, {bench.threads} threads" if bench.threads else label)
        if name == "overhead" and bench is not benches[-1]:
            continue  # one thread is enough for operators on almost no data
        if bench.device.type == "cpu":
            torch.set_num_threads(bench.threads)
        try:
            with torch.inference_mode():
                row = KERNELS[name, dtype](bench, dtype)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            skipped.append({"op_class": name, "dtype": dtype, "reason": str(error).splitlines()[0][:200]})
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
    }


def _benches(quick: bool, threads: int | None, kind: str | None) -> Iterator[Bench]:
    budget = 0.12 if quick else 0.8
    if kind != "cpu" and torch.cuda.is_available():
        device = torch.device("cuda", 0)
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 64 << 20
        yield Bench(device, 0, budget, max(1 << 30, 8 * cache), 8192)
        return
    if kind != "cpu" and torch.backends.mps.is_available():
        yield Bench(torch.device("mps"), 0, budget, 256 << 20, 4096)
        return
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise SpecError("threads", "Enter a whole number of threads from 1, or leave it empty.")
    cache = host.cpu_info()["caches"].get("L3") or 32 << 20
    beyond = max(128 << 20, 4 * cache)
    default = host.cores()[0]
    for count in [threads] if threads else sorted({default, 1}, reverse=True):
        yield Bench(
            torch.device("cpu"), count, budget if count == default else budget / 2, beyond, 2048 if quick else 4096
        )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
