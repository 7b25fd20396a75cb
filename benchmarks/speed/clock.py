"""Timings with what disturbed them, and facts about the machine. Imports no torch."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]

#: Part of all cores that other processes may take before a timing is called contended.
CONTENDED = 0.1
#: Below this the system's counters (hundredths of a second) say too little.
SHORTEST_S = 0.2


class Meter:
    """Wall time of a block, CPU time of this process (all threads), and ``others``: the part of all cores that other processes
    and the hypervisor took meanwhile (None where it was too short to say)."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        self.others: float | None = None

    def start(self) -> Self:
        self._busy, self._cpu, self._begin = _busy_s(), time.process_time(), time.perf_counter()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self, elsewhere_s: float = 0.0) -> Self:
        """``elsewhere_s``: CPU seconds that belong to the measured work but were spent in another process."""
        self.wall_s = time.perf_counter() - self._begin
        self.cpu_s = time.process_time() - self._cpu + elsewhere_s
        if self.wall_s >= SHORTEST_S:
            busy = _busy_s() - self._busy
            self.others = max(0.0, busy - self.cpu_s) / (self.wall_s * (os.cpu_count() or 1))
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "others": self.others,
            "contended": self.others is not None and self.others > CONTENDED,
        }


def _busy_s() -> float:
    """CPU seconds that this machine has spent on anything, and that its host has taken away."""
    times = psutil.cpu_times()._asdict()
    return sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def summary(values: Sequence[float]) -> dict[str, Any]:
    """n, median, quartiles' distance, extremes; 95th percentile where it takes no guessing (20 values)."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {
        "n": len(values),
        "median": median(values),
        "iqr": high - low,
        "min": min(values),
        "max": max(values),
        "p95": quantiles(values, n=20, method="inclusive")[-1] if len(values) >= 20 else None,
    }


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def versions(tools: Path | None) -> dict[str, str | None]:
    """Of what is timed. ``tools``: folder with packages that are not installed here."""
    import profiling

    names = ("torch", "transformers", "numpy", "calflops", "torchinfo", "accelerate")
    items = [*distributions(), *(distributions(path=[str(tools)]) if tools else ())]
    found: dict[str, Distribution] = {(item.name or "").lower(): item for item in items}
    return {
        "llmcompare": profiling.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: found[name].version if name in found else None for name in names},
    }


def _commit() -> str | None:
    try:
        asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return asked.stdout.strip() or None
