"""Timing one kernel: warm, for a while, with what disturbed it; and the registry of kernels. Runs inside an engine process."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from profiling import host
from profiling.conditions import Snapshot

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Best and median further apart than this mean that something else was running.
CONTENDED_RATIO = 1.15
#: The system counts processor time in ticks of 10 ms, so over a tenth of a second less than this is no evidence.
FOREIGN_CORES = 0.25
#: A timed call takes at least this long, or the clock and the call itself would be part of the rate.
CALL_S = 0.002

#: Reasons for kernels that a quick set leaves out.
SLOW_HALF = "left out of the quick set: most processors have no fast kernel for it, so it takes seconds"

#: (op_class, dtype) → function(Bench, dtype name) → row or None. A new kind of ceiling is one function here.
Kernel = Callable[["Bench", str], dict[str, Any] | None]
KERNELS: dict[tuple[str, str], Kernel] = {}


class LeftOut(Exception):
    """A kernel is not timed here; the text says why."""


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
    """Where and how long to measure: ``budget_s`` per kernel, ``beyond_cache`` bytes that no cache holds, ``sustained_s`` for what is
    timed until an accelerator is warm."""

    device: torch.device
    threads: int
    budget_s: float
    beyond_cache: int
    largest_gemm: int
    quick: bool = True
    sustained_s: float = 0.0
    _beyond: dict[str, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    def row(
        self,
        op_class: str,
        dtype: str,
        unit: str,
        work: float,
        call: Callable[[], Any],
        share: float = 1.0,
        **detail: Any,
    ) -> dict[str, Any]:
        """Time ``call``, which does ``work`` (FLOPs or bytes), and say what rate that is. ``share``: part of the budget that it gets."""
        seconds, quality = self._times(call, self.budget_s * share)
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

    def _times(self, call: Callable[[], Any], budget_s: float) -> tuple[list[float], str]:
        """Seconds per call, and whether they are undisturbed; disturbed ones get a second chance."""
        times, quality = self._round(call, budget_s)
        if quality == "contended":
            again, quality = self._round(call, budget_s)
            times = times + again if quality == "contended" else again
        return times, quality

    def _round(self, call: Callable[[], Any], budget_s: float) -> tuple[list[float], str]:
        self._timed(call, 1)
        single = self._timed(call, 1)
        repeat = max(1, math.ceil(CALL_S / max(single, 1e-7)))
        begin = Snapshot.now()
        times: list[float] = []
        while len(times) < 3 or (time.perf_counter() - begin.wall < budget_s and len(times) < 200):
            times.append(self._timed(call, repeat) / repeat)
            if time.perf_counter() - begin.wall > 4 * budget_s:
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

    def beyond_caches(self, dtype: str) -> torch.Tensor:
        """One-dimensional memory of ``beyond_cache`` bytes. That of the last format is kept: making it takes longer than to time a kernel."""
        if dtype not in self._beyond:
            self._beyond.clear()
            self._beyond[dtype] = self.tensor(self.beyond_cache // DTYPES[dtype].itemsize, dtype=dtype)
        return self._beyond[dtype]
