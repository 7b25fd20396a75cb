"""What a measurement used over time, sampled by the parent of the measuring process, never by that process itself. Imports no torch.

The parent wakes four times a second anyway (:mod:`profiling.client`) and then takes a sample here: processor time of the child and of
the rest of the machine, memory, and where they can be read an accelerator (a stream of ``nvidia-smi``) and the energy counters of the
processor (RAPL). What cannot be read has no column, and ``unavailable`` says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from profiling import device_state, host

Row = list[Any]

INTERVAL_S = 0.25
#: The system counts processor time in ticks of 10 ms: over less time than this a share of it says nothing.
SHORTEST_S = 0.1
#: A reading of the accelerator stands for so long: its driver and we keep different time.
HELD_S = 1.0
#: Rows of one process; of more, neighbours are joined, so a longer run has coarser rows. And of a whole document.
PROCESS_ROWS, DOCUMENT_ROWS = 240, 1200
POWERCAP = Path("/sys/class/powercap")
#: Column → (unit, how neighbours are joined: mean over their time, highest, or lowest).
COLUMNS: dict[str, tuple[str, str]] = {
    "process_cores": ("cores", "mean"),
    "other_cores": ("cores", "mean"),
    "process_rss_bytes": ("B", "max"),
    "available_bytes": ("B", "min"),
    "gpu_utilisation_pct": ("%", "mean"),
    "gpu_memory_bytes": ("B", "max"),
    "gpu_power_w": ("W", "mean"),
    "package_power_w": ("W", "mean"),
}
#: Column of power → (source, what it is the power of).
POWER = {
    "gpu_power_w": ("nvidia-smi", "the whole board"),
    "package_power_w": ("RAPL", "the processor packages, with everything that ran on them"),
}

#: What the energy is of where several boards were used.
FIRST_BOARD = "the first board alone"


class ResourceSampler:
    """Samples of one measuring process. Call it with the process's number and its present phase whenever there is time; it takes a
    sample when one is due, and one at each change of phase (a phase shorter than SHORTEST_S counts to the next). It never raises: without samples there is still a measurement."""

    def __init__(self, *, accelerator: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wants_accelerator = accelerator
        self._process: psutil.Process | None = None
        self._rows: list[Row] = []
        self._columns: list[str] = []
        self._unavailable: list[dict[str, str]] = []
        self._phase = ""
        self._begun = self._at = 0.0
        self._last: dict[str, float] = {}
        self._spent: dict[int, float] = {}
        self._packages: list[Package] = []
        self._stream: DriverStream | None = None
        self._samples, self._cost_s = 0, 0.0

    def __call__(self, pid: int, phase: str) -> None:
        try:
            if self._process is None:
                self._begin(pid, phase)
                return
            now = self._clock()
            changed = phase != self._phase
            if now - self._at >= (SHORTEST_S if changed else 0.9 * INTERVAL_S):
                self._sample(self._process, now)
            self._phase = phase
        except (psutil.Error, OSError, ValueError):
            self._note("samples", "The process could no longer be observed.")

    def close(self) -> None:
        """Take what is left of the last interval, and end the driver's stream."""
        if self._process is not None:
            self(self._process.pid, "")
        if self._stream is not None:
            self._stream.close()

    def section(self) -> dict[str, Any] | None:
        """The document's ``resources`` of this process; None when there was no time for a sample."""
        if not self._rows:
            return None
        return {
            "sampled_by": "the parent process",
            "interval_s": INTERVAL_S,
            "units": {"t_s": "s", "seconds": "s"} | {name: COLUMNS[name][0] for name in self._columns},
            "timeline": {
                "columns": ["t_s", "seconds", "phase", *self._columns],
                "rows": thin(self._rows, self._columns, PROCESS_ROWS),
            },
            "energy": energy(self._rows, self._columns),
            "cost": {
                "samples": self._samples,
                "cpu_s": round(self._cost_s, 4),
                "cores": round(self._cost_s / max(self._at - self._begun, 1e-9), 5),
            },
            "unavailable": self._unavailable,
        }

    def _begin(self, pid: int, phase: str) -> None:
        self._process = psutil.Process(pid)
        self._phase = phase
        self._columns = ["process_cores", "other_cores", "process_rss_bytes", "available_bytes"]
        self._packages, reason = packages(POWERCAP)
        if self._packages:
            self._columns.append("package_power_w")
        else:
            self._note("package_power_w", reason)
        if self._wants_accelerator:
            self._stream = DriverStream.open()
            if self._stream is None:
                self._note("gpu", "nvidia-smi is not here or does not answer.")
            else:
                self._columns += ["gpu_utilisation_pct", "gpu_memory_bytes", "gpu_power_w"]
        # Now, not before: to ask the driver takes a while, and rates are of what the counters say from here on.
        self._at = self._begun = self._clock()
        self._last = self._counters(self._process)

    def _counters(self, process: psutil.Process) -> dict[str, float]:
        """Seconds and joules since some moment, to be subtracted."""
        for one in _family(process):
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                self._spent[one.pid] = times.user + times.system
        machine = psutil.cpu_times()
        guest = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        idle = machine.idle + getattr(machine, "iowait", 0.0) + getattr(machine, "steal", 0.0)
        # What a rank spent stays in the sum when it has ended, or its whole life would be taken off this interval.
        found = {"process": sum(self._spent.values()), "machine": sum(machine) - guest - idle}
        return found | {"joules": sum(package.joules() for package in self._packages)}

    def _sample(self, process: psutil.Process, now: float) -> None:
        began = time.thread_time()
        seconds = now - self._at
        counters = self._counters(process)
        used = {name: (counters[name] - self._last[name]) / seconds for name in counters}
        values: dict[str, float | None] = {
            "process_cores": round(used["process"], 3),
            "other_cores": round(max(0.0, used["machine"] - used["process"]), 3),
            "process_rss_bytes": _resident(process),
            "available_bytes": host.available_memory(),
            "package_power_w": round(used["joules"], 2),
        }
        if self._stream is not None:
            values |= self._stream.latest()
        self._rows.append(
            [
                round(self._at - self._begun, 3),
                round(seconds, 3),
                self._phase,
                *(values.get(name) for name in self._columns),
            ]
        )
        if len(self._rows) > 2 * PROCESS_ROWS:
            self._rows = thin(self._rows, self._columns, PROCESS_ROWS)
        self._last, self._at = counters, now
        self._samples += 1
        self._cost_s += time.thread_time() - began

    def _note(self, what: str, reason: str) -> None:
        note = {"what": what, "reason": reason}
        if note not in self._unavailable:
            self._unavailable.append(note)


def of_the_first(section: dict[str, Any]) -> dict[str, Any]:
    """``section`` of a measurement on several accelerators, of which the first is read: it says so, or its energy would look like that of all."""
    source, _ = POWER["gpu_power_w"]
    energies = [entry | {"of": FIRST_BOARD} if entry["source"] == source else entry for entry in section["energy"]]
    note = {"what": "gpu", "reason": "Of the GPUs of this measurement the first alone is read."}
    return section | {"energy": energies, "unavailable": [*section["unavailable"], note]}


def _resident(process: psutil.Process) -> int:
    """Bytes of main memory of the measuring process and its ranks. Raises :class:`psutil.Error` when it is gone itself."""
    found = int(process.memory_info().rss)
    for one in _family(process)[1:]:
        with contextlib.suppress(psutil.Error):
            found += int(one.memory_info().rss)
    return found


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The measuring process, and the ranks of its other devices where it has any."""
    found = [process]
    for pid in host.family(process.pid)[1:]:
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def thin(rows: Sequence[Row], columns: Sequence[str], most: int) -> list[Row]:
    """At most ``most`` rows where phases allow it: neighbours of the same phase are joined in pairs until there are few enough.

    Means are weighted by time, memory keeps its extremes. Rows of different phases are never joined."""
    found = list(rows)
    while len(found) > most:
        joined: list[Row] = []
        for row in found:
            # Only a row that was not itself joined in this round: so all of them become coarser together.
            if joined and len(joined[-1]) == len(row) and joined[-1][2] == row[2]:
                joined[-1] = [*_join(joined[-1], row, columns), None]
            else:
                if joined and len(joined[-1]) > len(row):
                    joined[-1] = joined[-1][:-1]
                joined.append(row)
        if joined and len(joined[-1]) > len(found[0]):
            joined[-1] = joined[-1][:-1]
        if len(joined) == len(found):
            break
        found = joined
    return found


def _join(first: Row, second: Row, columns: Sequence[str]) -> Row:
    whole = first[1] + second[1]
    row: Row = [first[0], round(whole, 3), first[2]]
    for index, name in enumerate(columns, start=3):
        values = [(part[index], part[1]) for part in (first, second) if part[index] is not None]
        how = COLUMNS[name][1]
        if not values or (name in POWER and len(values) < 2):
            row.append(None)  # of power, a part would be taken for the energy of the whole
        elif how == "mean":
            row.append(round(sum(value * seconds for value, seconds in values) / sum(s for _, s in values), 3))
        else:
            row.append((max if how == "max" else min)(value for value, _ in values))
    return row


def energy(rows: Sequence[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Joules of each phase, for every kind of power that was read: the sum of power × time. A phase with a gap has none."""
    found = []
    for name, (source, scope) in POWER.items():
        if name not in columns:
            continue
        index = list(columns).index(name) + 3
        for phase in dict.fromkeys(row[2] for row in rows):
            mine = [row for row in rows if row[2] == phase]
            if any(row[index] is None for row in mine):
                continue
            joules, seconds = sum(row[index] * row[1] for row in mine), sum(row[1] for row in mine)
            entry = {"source": source, "of": scope, "phase": phase}
            found.append(entry | {"joules": round(joules, 2), "seconds": round(seconds, 3)})
    return found


def pool_resources(sections: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """One section of those of the processes in their order: ``timeline`` with ``process`` first, times one after the other (without
    what lies between two processes). One whose columns differ has no rows there; its energy and cost count all the same."""
    known = [(index, section) for index, section in enumerate(sections) if section]
    if not known:
        return None
    first = known[0][1]
    columns = first["timeline"]["columns"]
    rows: list[Row] = []
    end, most = 0.0, max(1, DOCUMENT_ROWS // len(known))
    energies: dict[tuple[str, str], dict[str, Any]] = {}
    notes: list[Any] = []
    whole = 0.0
    for index, section in known:
        last = section["timeline"]["rows"][-1]
        whole += last[0] + last[1]
        if section["timeline"]["columns"] == columns:
            own = thin(section["timeline"]["rows"], columns[3:], most)
            rows += [[index, round(end + row[0], 3), *row[1:]] for row in own]
            end += own[-1][0] + own[-1][1]
        # Tokens of all processes are what energy is divided by, whatever else could be read in each of them.
        notes += [note for note in section["unavailable"] if note not in notes]
        for entry in section["energy"]:
            total = energies.setdefault((entry["source"], entry["phase"]), entry | {"joules": 0.0, "seconds": 0.0})
            for name in ("joules", "seconds"):
                total[name] = round(total[name] + entry[name], 3)
    cost = {name: sum(section["cost"][name] for _, section in known) for name in ("samples", "cpu_s")}
    return dict(first) | {
        "timeline": {"columns": ["process", *columns], "rows": rows},
        "energy": list(energies.values()),
        "cost": cost | {"cores": round(cost["cpu_s"] / max(whole, 1e-9), 5)},
        "unavailable": notes,
    }


class Package:
    """The energy counter of one processor package, in microjoules, which begins anew after ``range_uj``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._last = int(self._path.read_text())
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._sum = 0

    def joules(self) -> float:
        """Since the first reading."""
        now = int(self._path.read_text())
        self._sum += now - self._last if now >= self._last else now + self._range - self._last
        self._last = now
        return self._sum / 1e6


def packages(folder: Path) -> tuple[list[Package], str]:
    """(the packages' counters, why there are none). All or none: a part of the machine would look like a frugal one."""
    found = []
    try:
        # The top level alone: core, uncore and memory below it are parts of it, or are not there everywhere.
        for path in sorted(folder.glob("intel-rapl:*")):
            if path.name.count(":") == 1 and (path / "name").read_text().strip().startswith("package"):
                found.append(Package(path))
    except PermissionError:
        return [], "The processor's energy counters (RAPL) may be read by the administrator alone."
    except (OSError, ValueError):
        return [], "The processor's energy counters (RAPL) cannot be read."
    return found, "" if found else "There are no energy counters of the processor (RAPL) here."


class DriverStream:
    """What ``nvidia-smi`` says of the first accelerator, over and over: one process for all samples, since starting one takes long."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise ValueError("The driver's answers need a pipe.")
        self._process = process
        self._descriptor = process.stdout.fileno()
        os.set_blocking(self._descriptor, False)
        self._rest = b""
        self._read: tuple[float, dict[str, float | None]] = (-HELD_S, {})

    @classmethod
    def open(cls) -> DriverStream | None:
        program = shutil.which("nvidia-smi")
        if program is None:
            return None
        query = f"--query-gpu=utilization.gpu,memory.used,{_power_field()}"
        arguments = [program, query, "-i", device_state.driver_index(), "--format=csv,noheader,nounits"]
        try:
            return cls(
                subprocess.Popen(  # noqa: S603 - fixed arguments
                    [*arguments, "-lms", str(int(1000 * INTERVAL_S))],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
        except OSError:
            return None

    def latest(self) -> dict[str, float | None]:
        """The newest reading by column; nothing once it is older than HELD_S."""
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        now = time.monotonic()
        if lines:
            self._read = (now, reading(lines[-1].decode(errors="replace")))
        at, values = self._read
        return values if now - at <= HELD_S else {}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _power_field() -> str:
    """What the driver calls the power of now. ``power.draw`` alone is on newer devices the mean of the last second: over a shorter phase, that
    of the one before. Older drivers know no other."""
    now = "power.draw.instant"
    return now if device_state.ask_driver([f"--query-gpu={now}", "-i", device_state.driver_index()]) else "power.draw"


def reading(line: str) -> dict[str, float | None]:
    """``"93, 71234, 640.12"`` → per cent, MiB as bytes, watts; None for a field that is not a number ("[N/A]")."""
    parts = [part.strip() for part in line.split(",")]
    numbers = [float(part) if part.replace(".", "", 1).isdigit() else None for part in parts]
    if len(numbers) != 3:
        return {}
    utilisation, memory, power = numbers
    size = None if memory is None else int(memory * 1024**2)
    return {"gpu_utilisation_pct": utilisation, "gpu_memory_bytes": size, "gpu_power_w": power}
