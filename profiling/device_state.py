"""What sensors say of this machine at one moment: clocks, temperature, throttling, who else is on the accelerator.

Imports no torch. Every reading is null where it cannot be had; none is guessed. Accelerators are read through ``nvidia-smi`` where the
driver brought it: a call takes some tens of milliseconds, so nothing here belongs between timed iterations.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

CPU_FOLDER = Path("/sys/devices/system/cpu")
PROC_CPUINFO = Path("/proc/cpuinfo")
#: Bits of the driver's "clocks event reasons" (nvml.h) that mean a limit holds the clock down; idling and chosen clocks do not.
THROTTLE_BITS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


def cpu_clocks() -> dict[str, float | None]:
    """``cpu_mhz`` (mean of the processors that this process may use) and ``cpu_max_mhz`` (highest that they may reach)."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    folders = [CPU_FOLDER / f"cpu{cpu}" / "cpufreq" for cpu in allowed]
    now = [value for folder in folders if (value := _number(folder / "scaling_cur_freq")) is not None]
    most = [value for folder in folders if (value := _number(folder / "cpuinfo_max_freq")) is not None]
    if now:  # in kHz
        return {"cpu_mhz": sum(now) / len(now) / 1e3, "cpu_max_mhz": max(most) / 1e3 if most else None}
    listed = _listed_clocks()
    mine = [listed[cpu] for cpu in allowed if cpu < len(listed)]
    return {"cpu_mhz": sum(mine) / len(mine) if mine else None, "cpu_max_mhz": None}


def _listed_clocks() -> list[float]:
    """MHz of each processor from /proc/cpuinfo. A virtual machine may show the same nominal figure always."""
    try:
        lines = PROC_CPUINFO.read_text().splitlines()
        return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    except (OSError, ValueError):
        return []


def cpu_temperature() -> float | None:
    """The hottest sensor of the processor, °C; None without sensors (virtual machines have none)."""
    read = getattr(psutil, "sensors_temperatures", None)
    try:
        found = read() if read is not None else {}
    except (OSError, RuntimeError):
        return None
    values = [entry.current for name in _SENSORS for entry in found.get(name, ()) if entry.current]
    return float(max(values)) if values else None


def thermal_throttles() -> int | None:
    """How often a core was slowed down by heat since the machine started (Intel's kernel counter); None where it is not kept."""
    counts = [_number(path) for path in CPU_FOLDER.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [count for count in counts if count is not None]
    return int(sum(known)) if known else None


def driver_index() -> str:
    """How the driver calls the device that torch calls the first: what CUDA_VISIBLE_DEVICES names first, else 0. With several different
    devices and CUDA's own order (fastest first) they may differ: CUDA_DEVICE_ORDER=PCI_BUS_ID makes them agree."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


def driver_indices(devices: int) -> str:
    """The first ``devices`` as the driver calls them, with commas between: all of what it is asked is asked of each of them."""
    if devices == 1:
        return driver_index()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return ",".join((named or [str(index) for index in range(devices)])[:devices])


def accelerator_state(devices: int = 1) -> dict[str, Any] | None:
    """The first accelerator: ``clock_mhz, max_clock_mhz, temperature_c, power_w, throttle`` (names of limits that hold); None without
    a driver. A field that the driver does not tell is None. Of several ``devices``, that wait for each other, the slowest clock, the highest
    temperature and the limits of any; power is still of the first."""
    fields = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "power.draw")
    # The name of the last field changed with driver 535; either may be missing.
    for reasons in ("clocks_event_reasons.active", "clocks_throttle_reasons.active"):
        values = ask_driver([f"--query-gpu={','.join((*fields, reasons))}", "-i", driver_indices(devices)])
        if values:
            return _worst([_state(line) for line in values[:devices]], devices)
    return None


def _worst(states: list[dict[str, Any] | None], devices: int) -> dict[str, Any] | None:
    known = [state for state in states if state is not None]
    if devices == 1 or not known:
        return states[0]

    def every(name: str, pick: Any) -> Any:
        values = [state[name] for state in known]
        return pick(values) if len(values) == devices and None not in values else None

    limits = [state["throttle"] for state in known if state["throttle"] is not None]
    held = sorted(set().union(*limits))
    # That nothing holds them down is known only when all of them say so.
    return known[0] | {
        "clock_mhz": every("clock_mhz", min),
        "temperature_c": every("temperature_c", max),
        "throttle": held if held or len(limits) == devices else None,
    }


def _state(line: str) -> dict[str, Any] | None:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 5:
        return None
    clock, most, temperature, power = (_float(part) for part in parts[:4])
    return {
        "clock_mhz": clock,
        "max_clock_mhz": most,
        "temperature_c": temperature,
        "power_w": power,
        "throttle": throttle_reasons(parts[4]),
    }


def throttle_reasons(mask: str) -> list[str] | None:
    """The limits that the driver's bit mask ("0x0000000000000004") names; None when it is no mask ("[N/A]")."""
    try:
        bits = int(mask, 16)
    except ValueError:
        return None
    return [name for bit, name in THROTTLE_BITS.items() if bits & bit]


def foreign_processes(own: int, ranks: Sequence[int] = ()) -> int | None:
    """How many other processes compute on the accelerator, or on one of those of ``own`` and the further ``ranks`` of its measurement. None
    when that cannot be told: no driver, or a container whose process numbers are not the driver's (then ``own`` is not among those it
    lists)."""
    lines = ask_driver(["--query-compute-apps=pid", "-i", driver_indices(1 + len(ranks))])
    if lines is None:
        return None
    pids = {int(line) for line in lines if line.strip().isdigit()}
    return len(pids - {own, *ranks}) if own in pids else None


def ask_driver(arguments: list[str]) -> list[str] | None:
    """Lines of ``nvidia-smi``'s answer; None when there is no such program, or it refuses."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [program, *arguments, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
