"""One measurement in several fresh processes, one after the other, with the interface of :class:`profiling.client.EngineChild`.

Imports no torch. The parent blocks in ``poll`` while a process measures (see ``profiling.client``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from profiling.client import EngineChild, Log, Progress, TakeArtifact
from profiling.energy import energy_metrics
from profiling.failures import EngineError
from profiling.pooling import pool
from profiling.protocol import Protocol
from profiling.resources import ResourceSampler, of_the_first

#: No further process is begun when so many times the longest one so far no longer fits into the time limit.
MARGIN = 1.2


def measure_in_processes(
    spec: dict[str, Any],
    protocol: Protocol,
    *,
    on_progress: Progress | None = None,
    on_log: Log | None = None,
    should_stop: Callable[[], bool] | None = None,
    timeout_s: float | None = None,
    engine: Callable[[], Any] = EngineChild,
    on_artifact: TakeArtifact | None = None,
) -> dict[str, Any]:
    """The pooled run document of ``spec`` (kind ``measure``). ``engine`` makes one process, as a context manager.

    The time limit is for all processes: each may use what is left, divided by those that are to come; one that would not fit is not
    begun, and a warning says so. Raises :class:`EngineError` when a process fails, is killed or cancelled; ``partial`` then holds the
    processes before it and what it had measured itself.
    """
    protocol.check()
    began, longest = time.monotonic(), 0.0
    documents: list[dict[str, Any]] = []
    spare: dict[str, str] | None = None
    for index in range(protocol.processes):
        left = None if timeout_s is None else timeout_s - (time.monotonic() - began)
        if documents and left is not None and left < MARGIN * longest:
            spare = {
                "code": "time_limit",
                "message": f"The time limit allowed {index} of {protocol.processes} processes.",
            }
            break
        started = time.monotonic()
        documents.append(
            measure_in_one(
                spec,
                protocol,
                documents,
                protocol.processes - index,
                on_progress=_scaled(on_progress, index, protocol.processes),
                on_log=on_log,
                should_stop=should_stop,
                timeout_s=left,
                engine=engine,
                on_artifact=on_artifact,
            )
        )
        longest = max(longest, time.monotonic() - started)
    result = pool(documents, protocol=protocol.to_json(), workload=spec["workload"])
    if spare is not None:
        result["warnings"] = [*result["warnings"], spare]
    return result


def measure_in_one(
    spec: dict[str, Any],
    protocol: Protocol,
    before: Sequence[dict[str, Any]],
    left: int,
    *,
    on_progress: Progress | None,
    on_log: Log | None,
    should_stop: Callable[[], bool] | None,
    timeout_s: float | None,
    engine: Callable[[], Any],
    on_artifact: TakeArtifact | None = None,
) -> dict[str, Any]:
    """The document of one more fresh process after those of ``before``; each is sent the load; the first has the estimates and the files. ``left``:
    processes that share the time limit with it and after it.

    The ``partial`` of an :class:`EngineError` holds ``before`` and what this process had measured.
    """
    share = _shared(spec, timeout_s, left)
    if before:
        share = share | {"artifacts": None}
    payload = {"spec": share, "protocol": protocol.to_json(), "estimates": not before}
    sampler = ResourceSampler(accelerator=spec["hardware"].get("kind") != "cpu")
    try:
        with engine() as child:
            try:
                document: dict[str, Any] = child.request(
                    "measure",
                    payload,
                    on_progress=on_progress,
                    on_log=on_log,
                    should_stop=should_stop,
                    timeout_s=timeout_s,
                    on_wake=sampler,
                    **({"on_artifact": on_artifact} if share.get("artifacts") else {}),
                )
            finally:
                sampler.close()
        return _with_resources(document, sampler)
    except EngineError as error:
        if error.partial is not None:
            error.partial = _with_resources(error.partial, sampler)
        if before:
            part = error.partial or {}
            known = [*before, part] if "samples" in part else before
            error.partial = pool(known, protocol=protocol.to_json(), workload=spec["workload"])
        raise


def _with_resources(document: dict[str, Any], sampler: ResourceSampler) -> dict[str, Any]:
    section = sampler.section()
    if section is None:
        return document
    if not (document.get("parallel") or {}).get("shared_machine", True):
        section = of_the_first(section)
    found = document | {"resources": section}
    if "conditions" not in document:
        return found  # it ended early: its samples are fewer than the passes that the energy went to
    return found | {"metrics": document.get("metrics", {}) | energy_metrics(found)}


def _shared(spec: dict[str, Any], left: float | None, processes: int) -> dict[str, Any]:
    """``spec`` with the time limit that one of ``processes`` may use of the seconds that are ``left``."""
    if left is None:
        return spec
    limit = min(spec["workload"]["time_limit_s"], max(1.0, left / processes))
    return spec | {"workload": spec["workload"] | {"time_limit_s": limit}}


def _scaled(report: Progress | None, index: int, count: int) -> Progress | None:
    if report is None or count == 1:
        return report

    def scaled(stage: str, fraction: float, message: str) -> None:
        report(stage, (index + fraction) / count, f"Process {index + 1} of {count}: {message}")

    return scaled
