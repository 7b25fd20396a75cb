"""Two measurements in turns, so that a drift of the machine meets both alike: A B, then B A, then A B, each in a fresh process.

Imports no torch. What may be said of the difference is in :mod:`profiling.verdicts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from profiling.client import EngineChild, Log, Progress, TakeArtifact
from profiling.failures import EngineError
from profiling.judgements import verdict_on
from profiling.pooling import pool
from profiling.processes import MARGIN, measure_in_one
from profiling.protocol import Protocol

Document = dict[str, Any]

#: What is kept of the base's document: its figures, and what they were measured of and under.
BASE_KEPT = (
    "model",
    "hardware",
    "workload",
    "protocol",
    "processes",
    "metrics",
    "load",
    "samples",
    "module_times",
    "conditions",
    "warnings",
)


def order_of(processes: int) -> str:
    """Who runs when, with so many processes a side: "ABBAAB" for three. Each side is first as often as the other, or once more."""
    return "".join("AB" if turn % 2 == 0 else "BA" for turn in range(processes))


def measure_in_turns(
    base: Document,
    other: Document,
    protocol: Protocol,
    *,
    on_progress: Progress | None = None,
    on_log: Log | None = None,
    should_stop: Callable[[], bool] | None = None,
    timeout_s: float | None = None,
    engine: Callable[[], Any] = EngineChild,
    on_artifact: TakeArtifact | None = None,
) -> Document:
    """The run document of ``other`` with ``in_turns``: ``order``, what is kept of the document of the ``base``, and ``verdicts`` (metric → verdict).

    ``base``, ``other``: run specifications of kind ``measure``, measured in ``protocol.processes`` processes each. The time limit is for
    all: a round that would not fit is not begun. Raises :class:`EngineError` as :func:`measure_in_processes` does, ``partial`` holding
    what is known of the side that failed.
    """
    protocol.check()
    order, began, longest = order_of(protocol.processes), time.monotonic(), 0.0
    known: dict[str, list[Document]] = {"A": [], "B": []}
    specs = {"A": base, "B": other}
    for turn, side in enumerate(order):
        left = None if timeout_s is None else timeout_s - (time.monotonic() - began)
        if turn and turn % 2 == 0 and left is not None and left < 2 * MARGIN * longest:
            order = order[:turn]
            break
        started = time.monotonic()
        try:
            document = measure_in_one(
                specs[side],
                protocol,
                known[side],
                len(order) - turn,
                on_progress=_scaled(on_progress, turn, len(order), side),
                on_log=on_log,
                should_stop=should_stop,
                timeout_s=left,
                engine=engine,
                on_artifact=on_artifact if side == "B" else None,
            )
        except EngineError as error:
            error.message = (
                f"Turn {turn + 1} of {len(order)}, of {'the base' if side == 'A' else 'the other'}: {error.message}"
            )
            raise
        known[side].append(document)
        longest = max(longest, time.monotonic() - started)
    sides = {
        name: pool(known[name], protocol=protocol.to_json(), workload=specs[name]["workload"]) for name in ("A", "B")
    }
    result = sides["B"]
    kept = {name: sides["A"][name] for name in BASE_KEPT if name in sides["A"]}
    result["in_turns"] = {"order": order, "base": kept, "verdicts": verdicts(sides["A"], result, order)}
    if len(order) < 2 * protocol.processes:
        message = f"The time limit allowed {len(order) // 2} of {protocol.processes} rounds."
        result["warnings"] = [*result["warnings"], {"code": "time_limit", "message": message}]
    return result


def verdicts(base: Mapping[str, Any], other: Mapping[str, Any], order: str | None = None) -> Document:
    """metric → verdict (as JSON) of ``other`` against ``base``, for every metric that iterations tell of."""
    found = {}
    for key in other["metrics"]:
        verdict = verdict_on(key, base, other, order=order)
        if verdict is not None:
            found[key] = verdict.to_json()
    return found


def _scaled(report: Progress | None, turn: int, count: int, side: str) -> Progress | None:
    if report is None:
        return None

    def scaled(stage: str, fraction: float, message: str) -> None:
        report(stage, (turn + fraction) / count, f"Turn {turn + 1} of {count} ({side}): {message}")

    return scaled
