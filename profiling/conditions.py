"""Under which conditions a measurement was made: load, processor time, time stolen by a hypervisor, other processes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Self

import psutil

#: Above these the measurement is called contended. Single-thread noise on a quiet machine stayed below 1.05.
WALL_OVER_CPU_LIMIT = 1.1
FOREIGN_LIMIT = 0.1
STEAL_LIMIT_PCT = 2.0


@dataclass(frozen=True)
class Snapshot:
    """Clocks at one moment, in seconds: wall, this thread's and this process's processor time, the machine's busy and stolen time."""

    wall: float
    thread: float
    process: float
    busy: float
    steal: float
    total: float
    load: tuple[float, float, float]

    @classmethod
    def now(cls) -> Self:
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        steal = getattr(machine, "steal", 0.0)
        # guest time is contained in user time on Linux, so the sum of all fields would count it twice
        total = sum(machine) - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
        try:
            load = os.getloadavg()
        except OSError:
            load = (0.0, 0.0, 0.0)
        return cls(
            time.perf_counter(), time.thread_time(), time.process_time(), total - idle - steal, steal, total, load
        )


def between(begin: Snapshot, end: Snapshot, *, threads: int, on_cpu: bool, steady: bool | None) -> dict[str, Any]:
    """The document's ``conditions`` for the time between two snapshots.

    ``wall_over_cpu``: wall time ÷ processor time of the thread that drives the model (null on an accelerator, where it waits).
    ``foreign_cores``: cores' worth of processor time that others used. ``contended`` when they must have got in the way.
    """
    wall = end.wall - begin.wall
    thread = end.thread - begin.thread
    machine = end.total - begin.total
    foreign = max(0.0, (end.busy - begin.busy) - (end.process - begin.process)) / wall if wall > 0 else 0.0
    steal = 100 * (end.steal - begin.steal) / machine if machine > 0 else 0.0
    ratio = wall / thread if on_cpu and thread > 0 else None
    cores = os.cpu_count() or 1
    reasons = []
    if ratio is not None and ratio > WALL_OVER_CPU_LIMIT:
        reasons.append(f"The measuring thread ran for only {100 / ratio:.0f} % of the time.")
    if foreign > FOREIGN_LIMIT and foreign + threads > cores + FOREIGN_LIMIT:
        reasons.append(f"Other processes used {foreign:.1f} of {cores} cores.")
    if steal > STEAL_LIMIT_PCT:
        reasons.append(f"The hypervisor took {steal:.1f} % of the processor time.")
    contended = bool(reasons)
    if steady is False:
        reasons.append("Later iterations were faster or slower than earlier ones by a clear trend.")
    return {
        "load_avg": [round(value, 2) for value in begin.load],
        "wall_over_cpu": ratio,
        "foreign_cores": round(foreign, 3),
        "contended": contended,
        "steal_pct": round(steal, 3),
        "steady": steady,
        "reasons": reasons,
    }
