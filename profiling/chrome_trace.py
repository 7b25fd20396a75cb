"""The profiler's trace as a file for Perfetto and chrome://tracing, of nothing but what an allow-list names.

What torch writes also holds the host's name, process and thread numbers, times of day, addresses in memory, the path of the file and
arguments of operators; none of that is copied. A field that a later version of torch adds stays out until it is named here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profiling.allocations import MEMORY, MODULE, STAGE
from profiling.failures import without_paths

#: Kinds of events that are kept, as torch names them.
CATEGORIES = (
    "cpu_op",
    "user_annotation",
    "gpu_user_annotation",
    "cpu_instant_event",
    "kernel",
    "gpu_memcpy",
    "gpu_memset",
    "cuda_runtime",
    "cuda_driver",
    "ac2g",
)
#: Arguments that are kept: shapes, formats and sizes, never values.
ARGUMENTS = (
    *(
        "Input Dims",
        "Input type",
        "Input Strides",
        "bytes",
        "Bytes",
        "Total Allocated",
        "Total Reserved",
        "Device Type",
    ),
    *("device", "stream", "correlation", "grid", "block", "registers per thread", "shared memory", "External id"),
    *("est. achieved occupancy %", "memory bandwidth (GB/s)"),
)
_NAME_LIMIT = 400


def cleaned(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The events that are kept, in order of time, with numbers in place of processes and threads and times (µs) since the first."""
    kept = [e for e in events if e.get("cat") in CATEGORIES and isinstance(e.get("ts"), int | float)]
    kept.sort(key=lambda event: (event["ts"], -(event.get("dur") or 0)))
    origin = kept[0]["ts"] if kept else 0.0
    lanes = _Lanes()
    found = []
    for event in kept:
        process, thread = lanes.of(event)
        clean: dict[str, Any] = {
            "ph": str(event.get("ph"))[:1],
            "cat": event["cat"],
            "name": _name(event.get("name")),
            "pid": process,
            "tid": thread,
            "ts": round(event["ts"] - origin, 3),
        }
        if "dur" in event:
            clean["dur"] = event["dur"]
        for name in ("id", "bp", "s"):  # arrows from a call on the host to its kernel; reach of an instant
            if isinstance(event.get(name), int) or event.get(name) in ("e", "t", "p", "g"):
                clean[name] = event[name]
        given = event.get("args") or {}
        arguments = {name: given[name] for name in ARGUMENTS if name in given}
        if arguments:
            clean["args"] = arguments
        found.append(clean)
    return lanes.names() + found


def _name(name: Any) -> str:
    """Names of modules are ours and of operators torch's; whatever else there is loses its paths."""
    text = str(name)
    return (text if text.startswith((MODULE, STAGE, MEMORY)) else without_paths(text))[:_NAME_LIMIT]


class _Lanes:
    """Small numbers for (process, thread), in order of appearance."""

    def __init__(self) -> None:
        self._processes: dict[Any, tuple[int, bool]] = {}
        self._threads: dict[tuple[Any, Any], int] = {}

    def of(self, event: Mapping[str, Any]) -> tuple[int, int]:
        process, thread = event.get("pid"), (event.get("pid"), event.get("tid"))
        on_device = str(event["cat"]).startswith(("gpu", "kernel"))
        number, _ = self._processes.setdefault(process, (len(self._processes) + 1, on_device))
        return number, self._threads.setdefault(thread, len(self._threads) + 1)

    def names(self) -> list[dict[str, Any]]:
        rows = [
            {
                "ph": "M",
                "name": "process_name",
                "pid": number,
                "tid": 0,
                "args": {"name": "device" if device else "host"},
            }
            for number, device in self._processes.values()
        ]
        for (process, _), number in self._threads.items():
            holder, device = self._processes[process]
            name = {"name": f"{'stream' if device else 'thread'} {number}"}
            rows.append({"ph": "M", "name": "thread_name", "pid": holder, "tid": number, "args": name})
        return rows


def as_text(
    events: Sequence[Mapping[str, Any]], about: Mapping[str, Any], limit: int, notes: list[str | None]
) -> Iterator[str]:
    """The file in pieces: a JSON object with ``traceEvents``. Of more than ``limit`` characters, the events that began first, and a
    sentence in ``otherData`` (at the end of the file) and in ``notes`` that says so; the file is valid JSON in any case."""
    head = '{"schemaVersion": 1, "displayTimeUnit": "ms", "traceEvents": [\n'
    yield head
    length, kept = len(head), 0
    for event in events:
        piece = (",\n" if kept else "") + json.dumps(event, allow_nan=False, separators=(",", ":"))
        if length + len(piece) > limit:
            break
        yield piece
        length += len(piece)
        kept += 1
    cut = cut_note(kept, len(events))
    notes.append(cut)
    yield "\n], " + f'"otherData": {json.dumps({**about, **({"cut": cut} if cut else {})})}' + "}\n"


def cut_note(kept: int, of: int) -> str | None:
    """What was left out, or None when nothing was."""
    return (
        None
        if kept == of
        else f"The trace is cut: it holds the first {kept:,} of {of:,} events, the others came later."
    )
