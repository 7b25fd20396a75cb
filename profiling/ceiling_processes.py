"""Ceilings from several fresh processes, and which of them can be trusted. Imports no torch.

Other work can only make a kernel slower, so a ceiling is the highest rate that was *reproduced*: it is accepted when so many processes
as were asked for came within ``TOLERANCE`` of the best of them all. Kernels that disagree are asked again, alone, in further processes,
unless they are more than half of all.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from profiling import __version__, host
from profiling.client import EngineChild, Log, Progress
from profiling.failures import EngineError
from profiling.spec import SpecError

Document = dict[str, Any]
Key = tuple[str, str, int]

PROCESSES = 3
#: Further processes for the kernels that disagree.
EXTRA_PROCESSES = 2
#: Bests of processes further apart than this disagree. Maxima of quiet machines stayed within 4 %.
TOLERANCE = 0.10


def key_of(row: Mapping[str, Any]) -> Key:
    return (str(row["op_class"]), str(row["dtype"]), int(row["threads"]))


def agree(rows: Sequence[Mapping[str, Any]], needed: int) -> Document:
    """One row of the same ceiling as several processes measured it (at least one; in their order).

    ``value``: the best of all; ``median``: the median of the processes' medians; ``quality`` ``ok`` when at least ``needed`` of them are
    within ``TOLERANCE`` of the best and more than half of those were undisturbed by their own account, else ``contended``. ``detail`` has
    ``values`` (the best of each process), ``agreed``, ``needed``, ``tolerance_pct`` and ``spread_pct`` (best to worst).
    """
    values = [float(row["value"]) for row in rows]
    lower_is_better = rows[0]["unit"] == "s"
    best, worst = (min(values), max(values)) if lower_is_better else (max(values), min(values))
    near = [row for row in rows if _apart(best, float(row["value"])) <= TOLERANCE]
    quiet = sum(row["quality"] == "ok" for row in near)
    accepted = len(near) >= needed and 2 * quiet > len(near)
    first = next(row for row in rows if float(row["value"]) == best)
    detail = {
        "values": values,
        "agreed": len(near),
        "undisturbed": quiet,
        "needed": needed,
        "tolerance_pct": 100 * TOLERANCE,
        "spread_pct": round(100 * _apart(best, worst), 2),
    }
    return dict(first) | {
        "median": statistics.median(float(row["median"]) for row in rows),
        "quality": "ok" if accepted else "contended",
        "detail": dict(first["detail"]) | detail,
    }


def _apart(best: float, other: float) -> float:
    """How much worse the other is, as a part of the better one."""
    return abs(best - other) / max(min(abs(best), abs(other)), 1e-300)


def pool_ceilings(documents: Sequence[Document], needed: int) -> Document:
    """One document of those of the processes, in their order; a row for every ceiling that any of them has."""
    groups: dict[Key, list[Document]] = {}
    for document in documents:
        for row in document["rows"]:
            groups.setdefault(key_of(row), []).append(row)
    return documents[0] | {"rows": [agree(rows, needed) for rows in groups.values()]}


def measure_ceilings_in_processes(
    *,
    quick: bool = True,
    threads: int | None = None,
    kind: str | None = None,
    processes: int = PROCESSES,
    on_progress: Progress | None = None,
    on_log: Log | None = None,
    should_stop: Callable[[], bool] | None = None,
    timeout_s: float | None = None,
    engine: Callable[[], Any] = EngineChild,
) -> Document:
    """Ceilings of this machine: ``rows`` (see :func:`agree`), ``skipped``, and what they depend on: ``created, duration_s, processes,
    device, fingerprint, affinity, env_vars, versions``.

    ``quick``: shorter timings, without kernels that take seconds on most processors. The time limit is for all. Raises
    :class:`EngineError` (``cancelled``, ``timeout``, …); nothing is kept then: a part of the ceilings of one process is no result.
    """
    if isinstance(processes, bool) or not isinstance(processes, int) or not 1 <= processes <= 20:
        raise SpecError("processes", "Enter a whole number from 1 to 20.")
    began, created = time.monotonic(), datetime.now(UTC).isoformat()
    documents: list[Document] = []
    result: Document = {}
    extra = EXTRA_PROCESSES if processes > 1 else 0
    for index in range(processes + extra):
        only = None
        if index >= processes:
            only = [key_of(row) for row in result["rows"] if row["quality"] != "ok"]
            if not only or 2 * len(only) > len(result["rows"]):
                break  # nothing to ask again, or so much that the machine is busy: asking again would only take its time
        options: Document = {"quick": quick, "threads": threads, "kind": kind, "only": only}
        left = None if timeout_s is None else timeout_s - (time.monotonic() - began)
        if left is not None and left <= 0:
            message = f"The time limit of {timeout_s:.3g} s was reached after {index} processes."
            raise EngineError(phase="ceilings", kind="timeout", message=message)
        with engine() as child:
            document = child.request(
                "ceilings",
                options,
                on_progress=_scaled(on_progress, index, processes, extra),
                on_log=on_log,
                should_stop=should_stop,
                timeout_s=left,
            )
        documents.append(document)
        result = pool_ceilings(documents, processes)
    if on_progress:
        accepted = sum(row["quality"] == "ok" for row in result["rows"])
        on_progress("done", 1.0, f"{accepted} of {len(result['rows'])} ceilings accepted")
    packages = host.package_versions()
    return result | {
        "created": created,
        "duration_s": time.monotonic() - began,
        "processes": len(documents),
        "quick": quick,
        "versions": {
            "llmcompare": __version__,
            "python": platform.python_version(),
            "torch": packages["torch"],
            "kernel": f"{platform.system()} {platform.release()}",
        },
    }


def _scaled(report: Progress | None, index: int, processes: int, extra: int) -> Progress | None:
    """Progress of one of the processes; those that may not be needed share the last tenth."""
    if report is None:
        return None
    begin, part = (0.9 * index / processes, 0.9 / processes)
    text = f"Process {index + 1} of {processes}"
    if index >= processes:
        begin, part = 0.9 + 0.1 * (index - processes) / extra, 0.1 / extra
        text = "Once more what disagreed"

    def scaled(stage: str, fraction: float, message: str) -> None:
        report(stage, begin + part * fraction, f"{text}: {message}")

    return scaled
