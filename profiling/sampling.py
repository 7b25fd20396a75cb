"""Memory by phase: resident memory of this process with its peak, and the device allocator's peaks."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from profiling.host import anonymous_memory

SAMPLE_S = 0.01
TIMELINE_LIMIT = 2000


def resident_bytes() -> int:
    """Resident memory of this process now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> bool:
    """Set the kernel's high-water mark of resident memory to the present value; false where that is not allowed or not offered."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """The kernel's high-water mark of resident memory, or ``None`` where it keeps none that can be reset."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def release_unused() -> None:
    """Give back what Python and the C allocator keep without using it (of loading, of earlier passes): it is nobody's memory,
    but would count as the model's."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # glibc alone has it


class MemoryRecord:
    """Memory of the phases of one run. The baseline of ``rss_delta_bytes`` is the process before the model was loaded.

    ``anonymous_delta_bytes`` leaves out pages of files: code of libraries that is read in when it first runs, and mapped weights,
    which the system can drop. Its peak is sampled; where the kernel's high-water mark can be reset, also that mark without the
    pages of files at the end of the phase (of which there are never fewer than at the peak), so that no short peak is missed.

    Phases with ``sample=True`` also get a timeline from a thread. It wakes 100 times a second, so phases whose latency is
    published are recorded without it and repeated with it.
    """

    def __init__(self, device: Any = None) -> None:
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._phases: dict[str, dict[str, Any]] = {}
        self.timeline: list[list[Any]] = []
        self._origin = time.perf_counter_ns()
        release_unused()
        self._baseline = resident_bytes()
        self._anonymous = anonymous_memory(os.getpid())
        self._rest: tuple[int, int] | None = None
        self._phases["start"] = self._row("start", self._baseline, self._baseline, self._anonymous)

    def again(self) -> MemoryRecord:
        """A record of other phases of the same process: what it held before, and loading, are as they were.

        Call it after :func:`release_unused`, with no pass under way. What the process holds by now and did not when this was called
        first, traces of estimates above all, is left by measurements before and no memory of the model: it counts to the baseline.
        """
        now = resident_bytes(), anonymous_memory(os.getpid())
        self._rest = self._rest or now
        other = copy.copy(self)
        other._baseline += max(0, now[0] - self._rest[0])
        other._anonymous += max(0, now[1] - self._rest[1])
        other._phases = {name: dict(row) for name, row in self._phases.items() if name in ("start", "load")}
        other.timeline, other._origin = [], time.perf_counter_ns()
        return other

    @contextlib.contextmanager
    def phase(self, name: str, *, sample: bool = True) -> Iterator[None]:
        """Record the phase in the block. A phase entered again keeps the higher peak and the later end."""
        can_reset = reset_peak()
        if self._cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._cuda)
        stop = threading.Event()
        sampled, anonymous = [resident_bytes()], [anonymous_memory(os.getpid())]
        thread = threading.Thread(target=self._sample, args=(name, stop, sampled, anonymous), daemon=True)
        if sample:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if sample:
                thread.join()
            end, held = resident_bytes(), anonymous_memory(os.getpid())
            high = peak_bytes() if can_reset else None
            without_files = high - (end - held) if high else 0
            self._merge(self._row(name, end, max(*sampled, end, high or 0), max(*anonymous, held, without_files)))

    def _sample(self, phase: str, stop: threading.Event, sampled: list[int], anonymous: list[int]) -> None:
        while not stop.wait(SAMPLE_S):
            value = resident_bytes()
            sampled.append(value)
            anonymous.append(anonymous_memory(os.getpid()))
            self.timeline.append([time.perf_counter_ns() - self._origin, phase, "rss", value])
            if self._cuda is not None:
                import torch

                allocated = torch.cuda.memory_allocated(self._cuda)
                self.timeline.append([time.perf_counter_ns() - self._origin, phase, "device_allocated", allocated])

    def _row(self, name: str, now: int, peak: int, anonymous: int) -> dict[str, Any]:
        row = {
            "phase": name,
            "rss_bytes": now,
            "rss_peak_bytes": peak,
            "rss_delta_bytes": peak - self._baseline,
            "anonymous_delta_bytes": anonymous - self._anonymous,
            "device_allocated_peak_bytes": None,
            "device_reserved_peak_bytes": None,
            "device_used_bytes": None,
        }
        if self._cuda is not None:
            import torch

            row["device_allocated_peak_bytes"] = torch.cuda.max_memory_allocated(self._cuda)
            row["device_reserved_peak_bytes"] = torch.cuda.max_memory_reserved(self._cuda)
            free, whole = torch.cuda.mem_get_info(self._cuda)
            row["device_used_bytes"] = whole - free
        return row

    def _merge(self, row: dict[str, Any]) -> None:
        before = self._phases.get(row["phase"])
        if before is not None:
            for key in (
                "rss_peak_bytes",
                "rss_delta_bytes",
                "anonymous_delta_bytes",
                "device_allocated_peak_bytes",
                "device_reserved_peak_bytes",
            ):
                if before[key] is not None:
                    row[key] = max(row[key], before[key])
        self._phases[row["phase"]] = row

    @property
    def on_device(self) -> bool:
        """Whether :meth:`peak` is of an accelerator's allocator, and not of this process's memory."""
        return self._cuda is not None

    def phases(self) -> list[dict[str, Any]]:
        """One row per phase, in the order in which they began."""
        return list(self._phases.values())

    def timeline_table(self) -> dict[str, Any]:
        """At most 2000 rows: of a longer one, the highest value of each stretch, so that no peak is lost."""
        rows = self.timeline
        if len(rows) > TIMELINE_LIMIT:
            kinds = sorted({row[2] for row in rows})
            size = -(-len(rows) // TIMELINE_LIMIT) * len(kinds)
            stretches = [rows[start : start + size] for start in range(0, len(rows), size)]
            rows = [
                max((row for row in stretch if row[2] == kind), key=lambda row: row[3])
                for stretch in stretches
                for kind in kinds
                if any(row[2] == kind for row in stretch)
            ]
        return {"columns": ["t_ns", "phase", "kind", "bytes"], "rows": rows}

    def peak(self) -> tuple[int, int] | None:
        """(highest memory of the model, highest of the whole process) in prefill and decode, or encode; None before them.

        On an accelerator what its allocator gave out and what it holds, else anonymous memory above the baseline and resident memory.
        """
        rows = [row for row in self._phases.values() if row["phase"] in ("prefill", "decode", "encode")]
        if not rows:
            return None
        if self._cuda is not None:
            allocated = max(row["device_allocated_peak_bytes"] for row in rows)
            return allocated, max(row["device_reserved_peak_bytes"] for row in rows)
        return max(row["anonymous_delta_bytes"] for row in rows), max(row["rss_peak_bytes"] for row in rows)
