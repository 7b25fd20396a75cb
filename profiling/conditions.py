"""Under which conditions a measurement was made: load, processor time, time stolen by a hypervisor, other processes, clocks, heat.

The thresholds of everything that counts against a measurement are here, and nowhere else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import psutil

from profiling import device_state

#: Above these the measurement is called contended. Single-thread noise on a quiet machine stayed below 1.05.
WALL_OVER_CPU_LIMIT = 1.1
FOREIGN_LIMIT = 0.1
STEAL_LIMIT_PCT = 2.0
#: Below this part of the highest clock a processor or accelerator is called throttled. With all cores busy most stay above 0.75.
CLOCK_LIMIT = 0.7
#: More processes than none on the accelerator beside the measured one are contention, and every event of heat is throttling.
FOREIGN_PROCESSES_LIMIT = 0
THERMAL_EVENTS_LIMIT = 0


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
    def now(cls, others: Sequence[int] = ()) -> Self:
        """``others``: processes that belong to the measurement too; their processor time is its own."""
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
            time.perf_counter(),
            time.thread_time(),
            time.process_time() + sum(_spent(pid) for pid in others),
            total - idle - steal,
            steal,
            total,
            load,
        )


def _spent(pid: int) -> float:
    """Seconds of processor time of a process; none once it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


@dataclass(frozen=True)
class Sensors:
    """Readings at one moment, each None where it cannot be had (see :mod:`profiling.device_state`). Reading an accelerator takes tens of
    milliseconds, so they are taken before the first and after the last timed iteration, not between."""

    cpu_mhz: float | None = None
    cpu_max_mhz: float | None = None
    cpu_temperature_c: float | None = None
    thermal_events: int | None = None
    accelerator: dict[str, Any] | None = None
    foreign_processes: int | None = None

    @classmethod
    def now(cls, *, on_cpu: bool, others: Sequence[int] = ()) -> Self:
        """``others``: process numbers of further ranks, each with an accelerator of its own."""
        return cls(
            **device_state.cpu_clocks(),
            cpu_temperature_c=device_state.cpu_temperature(),
            thermal_events=device_state.thermal_throttles(),
            accelerator=None if on_cpu else device_state.accelerator_state(1 + len(others)),
            foreign_processes=None if on_cpu else device_state.foreign_processes(os.getpid(), others),
        )


def between(
    begin: Snapshot,
    end: Snapshot,
    *,
    threads: int,
    on_cpu: bool,
    steady: bool | None,
    sensors: tuple[Sensors, Sensors] | None = None,
    alone: bool = True,
) -> dict[str, Any]:
    """The document's ``conditions`` for the time between two snapshots; ``sensors`` were read before the first and after the second.

    ``wall_over_cpu``: wall time ÷ processor time of the thread that drives the model (null where it waits: for an accelerator,
    or, not ``alone``, for other ranks).
    ``foreign_cores``: cores' worth of processor time that others used. ``contended`` when they must have got in the way.
    ``throttled``: whether clocks were held down; null when nothing that tells can be read. Clocks and temperatures are those right after
    the last iteration; keys of an accelerator are absent where none was used.
    """
    wall = end.wall - begin.wall
    thread = end.thread - begin.thread
    machine = end.total - begin.total
    foreign = max(0.0, (end.busy - begin.busy) - (end.process - begin.process)) / wall if wall > 0 else 0.0
    steal = 100 * (end.steal - begin.steal) / machine if machine > 0 else 0.0
    ratio = wall / thread if on_cpu and alone and thread > 0 else None
    cores = os.cpu_count() or 1
    reasons = []
    if ratio is not None and ratio > WALL_OVER_CPU_LIMIT:
        reasons.append(f"The measuring thread ran for only {100 / ratio:.0f} % of the time.")
    if foreign > FOREIGN_LIMIT and foreign + threads > cores + FOREIGN_LIMIT:
        reasons.append(f"Other processes used {foreign:.1f} of {cores} cores.")
    if steal > STEAL_LIMIT_PCT:
        reasons.append(f"The hypervisor took {steal:.1f} % of the processor time.")
    readings, hindrances, throttled = _readings(sensors or (Sensors(), Sensors()), on_cpu)
    foreign_processes = readings.get("gpu_foreign_processes") or 0
    if foreign_processes > FOREIGN_PROCESSES_LIMIT:
        reasons.append(f"Other processes on the accelerator: {foreign_processes}.")
    contended = bool(reasons)
    reasons += hindrances
    if steady is False:
        reasons.append("Later iterations were faster or slower than earlier ones by a clear trend.")
    return {
        "load_avg": [round(value, 2) for value in begin.load],
        "wall_over_cpu": ratio,
        "foreign_cores": round(foreign, 3),
        "contended": contended,
        "throttled": throttled,
        **readings,
        "steal_pct": round(steal, 3),
        "steady": steady,
        "reasons": reasons,
    }


def _readings(sensors: tuple[Sensors, Sensors], on_cpu: bool) -> tuple[dict[str, Any], list[str], bool | None]:
    """(keys of ``conditions``, sentences on what held the clocks down, whether anything did; None when nothing that tells can be read)."""
    before, after = sensors
    events = None
    if before.thermal_events is not None and after.thermal_events is not None:
        events = after.thermal_events - before.thermal_events
    found: dict[str, Any] = {
        "cpu_mhz": after.cpu_mhz,
        "cpu_max_mhz": after.cpu_max_mhz,
        "cpu_temperature_c": after.cpu_temperature_c,
        "thermal_events": events,
    }
    reasons, known = [], events is not None
    if events is not None and events > THERMAL_EVENTS_LIMIT:
        reasons.append(f"Heat slowed cores down {events} times.")
    # A processor that waits for an accelerator lowers its clock: that is no throttling.
    ratio = _ratio(after.cpu_mhz, after.cpu_max_mhz) if on_cpu else None
    known = known or ratio is not None
    if ratio is not None and ratio < CLOCK_LIMIT:
        reasons.append(f"The processor ran at {100 * ratio:.0f} % of its highest clock.")
    if not on_cpu:
        state = after.accelerator or {}
        limits = state.get("throttle")
        found |= {
            "gpu_clock_mhz": state.get("clock_mhz"),
            "gpu_max_clock_mhz": state.get("max_clock_mhz"),
            "gpu_temperature_c": state.get("temperature_c"),
            "gpu_power_w": state.get("power_w"),
            "gpu_throttle": limits,
            "gpu_foreign_processes": after.foreign_processes,
        }
        known = known or limits is not None
        if limits:
            reasons.append(f"The accelerator's clock was held down by: {', '.join(limits)}.")
    return found, reasons, bool(reasons) if known or reasons else None


def _ratio(value: float | None, most: float | None) -> float | None:
    return value / most if value is not None and most else None
