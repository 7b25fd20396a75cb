"""What workers do to runs: claim, renew, finish, fail, put back.

Every write of a worker goes through ``Run.objects.held(run)``: it reaches the row only while the claim in the database is still this
worker's own. A worker that was frozen past its lease, or cut off from the database, changes nothing when it comes back; it is told so
by ``False``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from llmcompare.runs.models import Run, RunDocument, RunEvent, RunMetric
from llmcompare.runs.results import storable, summarise
from profiling.failures import without_paths

#: What the row of a run that nobody works on has in these columns.
NO_CLAIM = {"claim": None, "lease_until": None}
TEXT_LIMIT = 4000


def lease_end() -> datetime:
    return timezone.now() + timedelta(seconds=settings.RUN_LEASE_S)


def claim(*, run_id: int, worker: str) -> Run | None:
    """Take a queued run: it is this worker's for one lease. ``None`` when it is somebody else's, cancelled, or in the bin."""
    token = secrets.token_hex(16)
    taken = (
        Run.objects.waiting()
        .filter(pk=run_id)
        .update(
            state=Run.State.RUNNING,
            claim=token,
            worker=worker,
            lease_until=lease_end(),
            attempt=F("attempt") + 1,
            started=timezone.now(),
            stage="start",
            progress=0,
            message="",
        )
    )
    if not taken:
        return None
    run = Run.objects.get(pk=run_id)
    run.claim = token
    log(run=run, message=f"Attempt {run.attempt} of {Run.MAX_ATTEMPTS} begins on {host_of(worker)}.")
    return run


def host_of(worker: str) -> str:
    """The machine's part of a worker's name (``<host>:<process>``)."""
    return worker.rpartition(":")[0] or worker


def renew(*, run: Run) -> bool:
    """Extend the lease."""
    return bool(Run.objects.held(run).update(lease_until=lease_end()))


def cancel_wanted(*, run: Run) -> bool | None:
    """Whether the user cancelled the run; ``None`` when it is no longer this worker's."""
    return Run.objects.held(run).values_list("cancel_requested", flat=True).first()


def report(*, run: Run, stage: str, fraction: float, message: str) -> bool:
    """Show how far the run is; extends the lease too."""
    return bool(
        Run.objects.held(run).update(
            stage=stage[:40],
            progress=min(max(fraction, 0.0), 1.0),
            message=_text(message)[:300],
            lease_until=lease_end(),
        )
    )


def log(*, run: Run, message: str, level: str = "info", stage: str = "") -> bool:
    """Add a line to the run's log; extends the lease too."""
    with transaction.atomic():
        held = renew(run=run)
        if held:
            _add_event(run, message, level, stage)
    return held


def finish(*, run: Run, document: Mapping[str, Any]) -> bool:
    """Store the results and end the run as done, both or neither. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is no run document."""
    document = storable(document)
    summary = summarise(document)
    with transaction.atomic():
        held = _end(
            run, Run.State.DONE, progress=1, stage="done", message="", error="", error_phase="", **summary.columns
        )
        if held:
            RunDocument.objects.create(run=run, data=document)
            RunMetric.objects.bulk_create(RunMetric(run=run, **metric) for metric in summary.metrics)
            _add_event(run, "Done.", "info", "done")
    return held


def fail(*, run: Run, phase: str, message: str, partial: Mapping[str, Any] | None = None) -> bool:
    """End the run with a message for its owner; what was computed by then is kept as its document."""
    message = _text(message)
    with transaction.atomic():
        held = _end(run, Run.State.FAILED, error=message, error_phase=phase[:40], message="")
        if held:
            if partial:
                RunDocument.objects.create(run=run, data=storable(partial))
            _add_event(run, message, "error", phase)
    return held


def end_cancelled(*, run: Run) -> bool:
    """End a run that its owner cancelled."""
    with transaction.atomic():
        held = _end(run, Run.State.CANCELLED, message="Cancelled.")
        if held:
            _add_event(run, "Cancelled.", "info", "cancelled")
    return held


def put_back(*, run: Run) -> bool:
    """Return the run to the queue because this worker stops; the attempt does not count."""
    with transaction.atomic():
        held = _requeue(run, attempt=F("attempt") - 1)
        if held:
            _add_event(
                run,
                "The worker was stopped. The run waits for another one; this attempt does not count.",
                "warning",
                "",
            )
    return held


def put_back_lost(*, run: Run) -> bool:
    """Return a run to the queue whose worker was lost; the attempt counts."""
    with transaction.atomic():
        held = _requeue(run)
        if held:
            text = f"The worker on {host_of(run.worker)} was lost during the stage “{run.stage}”. The run waits for another attempt."
            _add_event(run, text, "warning", run.stage)
    return held


def _end(run: Run, state: str, **columns: Any) -> bool:
    return bool(Run.objects.held(run).update(state=state, finished=timezone.now(), **NO_CLAIM, **columns))


def _requeue(run: Run, **columns: Any) -> bool:
    columns |= {"stage": "", "progress": 0, "message": "", "started": None, "rung_at": None}
    return bool(Run.objects.held(run).update(state=Run.State.QUEUED, **NO_CLAIM, **columns))


def _add_event(run: Run, message: str, level: str, stage: str) -> None:
    RunEvent.objects.create(run=run, attempt=run.attempt, level=level[:10], stage=stage[:40], message=_text(message))


def _text(message: str) -> str:
    """What users may read: without the paths of this machine, and not without end."""
    return storable(without_paths(message))[:TEXT_LIMIT]
