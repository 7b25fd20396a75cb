"""The engine of an estimate whose operators are timed alone on this host: the estimate, then the replay, in one fresh process.

What was timed is kept in a table of this machine, torch version and device (:mod:`profiling.replay.table`) in the worker's data folder: it
grows with every model that is replayed here, whoever asked for it, and never leaves this module but for the times that follow from it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_noop

from profiling import host
from profiling.client import EngineChild, EngineError
from profiling.failures import describe, without_paths
from profiling.replay import table as tables
from profiling.replay.section import beside
from profiling.spec import SpecError

logger = logging.getLogger(__name__)

#: The share of the progress that the estimate has; the rest is the replay's.
ESTIMATE_SHARE = 0.1

Progress = Callable[[str, float, str], None]
OpenChild = Callable[[], AbstractContextManager[EngineChild]]


def folder() -> Path:
    """Where this worker keeps its tables."""
    return Path(settings.DATA_DIR) / "replay"


class ReplayEngine:
    """Answers like :class:`profiling.client.EngineChild`. ``device``: of torch, ``cpu`` or ``cuda``."""

    def __init__(self, device: str, open_child: OpenChild = EngineChild) -> None:
        self._device, self._open_child = device, open_child

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        *,
        on_progress: Progress,
        on_log: Callable[[str, str], None],
        should_stop: Callable[[], bool],
        timeout_s: float,
    ) -> dict[str, Any]:
        """The estimate's document with what replay predicts. Raises :class:`EngineError`, with the estimate as ``partial`` once it is made."""
        deadline = time.monotonic() + timeout_s
        spec = payload["spec"]

        def ask(
            child: EngineChild, what: str, content: dict[str, Any], progress: Progress | None = None
        ) -> dict[str, Any]:
            left = max(0.0, deadline - time.monotonic())
            return child.request(
                what, content, on_progress=progress, on_log=on_log, should_stop=should_stop, timeout_s=left
            )

        with self._open_child() as child:
            document = ask(child, op, payload, _part(on_progress, "estimate", 0.0, ESTIMATE_SHARE))
            try:
                device = ask(child, "replay_device", {"device": self._device})["device"]
                threads = 0 if device != tables.CPU else spec["workload"]["threads"] or host.cores()[0]
                path, table, damage = _opened(threads, device)
                if damage:
                    on_log("warning", damage)
                request = {"model": spec["model"], "workloads": [spec["workload"]], "table": table.to_json()}
                answer = ask(child, "replay", request, _part(on_progress, "replay", ESTIMATE_SHARE, 1.0))
            except EngineError as error:
                error.partial = document
                raise
        (prediction,) = answer["predictions"]
        notes = [_warning("replay_table_damaged", damage)] if damage else []
        kept, more = _keep(tables.Table.from_json(answer["table"]), path, prediction["conditions"])
        for note in more:
            on_log("warning", note["message"])
        together = beside(document, prediction, {"operators": len(table.rows), "kept": kept})
        return together | {"warnings": [*document["warnings"], *notes, *more]}


def _part(on_progress: Progress, name: str, begin: float, end: float) -> Progress:
    """Progress of one of several requests as part of the whole; it never goes back."""
    reached = begin

    def report(stage: str, fraction: float, message: str) -> None:
        nonlocal reached
        reached = max(reached, begin + (end - begin) * fraction)
        # “done” of a part is not that of the run.
        on_progress(name if stage == "done" else stage, reached, message)

    return report


def _opened(threads: int, device: str) -> tuple[Path, tables.Table, str]:
    """Path and content of this machine's table. One that cannot be used is put aside, an empty one takes its place, and the third value
    says so."""
    found = host.detect()
    fingerprint, torch = found["fingerprint"], found["packages"]["torch"] or ""
    path = folder() / tables.file_name(fingerprint, threads, device)
    try:
        return path, tables.read(path, fingerprint, torch, threads, device), ""
    except SpecError as error:
        logger.warning("A table of replayed operators is put aside: %s", error)
        aside = path.with_suffix(".damaged")
        try:
            os.replace(path, aside)
        except OSError as problem:
            logger.warning("%s cannot be put aside: %s", path, problem)
        message = gettext_noop(
            "The table of operators that were timed on this host cannot be used. It was put aside, and all were timed anew. %(reason)s"
        ) % {"reason": without_paths(str(error))}
        return path, tables.Table(fingerprint, torch, threads, device=device), message


def _keep(table: tables.Table, path: Path, conditions: dict[str, Any]) -> tuple[bool, list[dict[str, str]]]:
    """Store what was timed for later predictions, unless other work disturbed it; whether it was, and warnings."""
    if conditions["contended"]:
        message = gettext_noop(
            "Other work disturbed this machine while operators were timed, so what replay predicts may be too long. None of these times is "
            "kept for later predictions."
        )
        return False, [_warning("replay_contended", message)]
    try:
        tables.write(table.undisturbed(), path)
    except OSError as error:
        message = gettext_noop("What was timed could not be kept for later predictions: %(error)s") % {
            "error": without_paths(describe(error))
        }
        return False, [_warning("replay_not_kept", message)]
    return True, []


def _warning(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}
