"""What workers do to runs: claim, renew, finish, fail, put back.

Every write of a worker goes through ``Run.objects.held(run)``: it reaches the row only while the claim in the database is still this
worker's own. A worker that was frozen past its lease, or cut off from the database, changes nothing when it comes back; it is told so
by ``False``.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_noop

from llmcompare.runs.extract import VERSION as EXTRACT_VERSION
from llmcompare.runs.extract import extract_of
from llmcompare.runs.models import Artifact, Run, RunDocument, RunEvent, RunExtract, RunMetric
from llmcompare.runs.results import storable, summarise
from profiling.failures import without_paths

logger = logging.getLogger(__name__)

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
    log(
        run=run,
        message=gettext_noop("Attempt %(attempt)s of %(max_attempts)s begins on %(worker)s.")
        % {"attempt": run.attempt, "max_attempts": Run.MAX_ATTEMPTS, "worker": host_of(worker)},
    )
    return run


def host_of(worker: str) -> str:
    """The machine's part of a worker's name (``<host>:<process>``)."""
    return worker.rpartition(":")[0] or worker


def take_over(*, run: Run) -> bool:
    """Take the claim of a run whose lease ended, to bring it on its way; false when its worker renewed it in the meantime, or another
    sweeper was quicker. Whoever had it is told that it is lost."""
    token = secrets.token_hex(16)
    ended = Run.objects.held(run).filter(lease_until__lt=timezone.now())
    taken = bool(ended.update(claim=token, lease_until=lease_end()))
    if taken:
        run.claim = token
    return taken


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


def keep_artifact(*, run: Run, kind: str, data: bytes, facts: Mapping[str, Any]) -> bool:
    """Store a file that the engine made; that of an earlier attempt goes. Extends the lease too."""
    with transaction.atomic():
        held = renew(run=run)
        if held:
            Artifact.objects.update_or_create(
                run=run,
                kind=kind,
                defaults={
                    "text_bytes": facts["bytes"],
                    "stored_bytes": len(data),
                    "sha256": facts["sha256"],
                    "cut": (facts.get("cut") or "")[:300],
                    "data": data,
                },
            )
    return held


def finish(*, run: Run, document: Mapping[str, Any]) -> bool:
    """Store the results and end the run as done, both or neither. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is no run document."""
    document = storable(document)
    summary, extract = summarise(document), _extract(document)
    with transaction.atomic():
        held = _end(
            run, Run.State.DONE, progress=1, stage="done", message="", error="", error_phase="", **summary.columns
        )
        if held:
            RunDocument.objects.create(run=run, data=document)
            if extract is not None:
                RunExtract.objects.create(run=run, version=EXTRACT_VERSION, data=extract)
            RunMetric.objects.bulk_create(RunMetric(run=run, **metric) for metric in summary.metrics)
            _add_event(run, gettext_noop("Done."), "info", "done")
    return held


def _extract(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """What comparisons read. A table that cannot be folded costs them their roles, never the run its result."""
    try:
        return extract_of(document)
    except Exception:
        logger.exception("No extract could be made of a run document")
        return None


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


def end_cancelled(*, run: Run, partial: Mapping[str, Any] | None = None) -> bool:
    """End a run that its owner cancelled; what was measured by then is kept as its document."""
    with transaction.atomic():
        held = _end(run, Run.State.CANCELLED, message=gettext_noop("Cancelled."))
        if held:
            if partial:
                RunDocument.objects.create(run=run, data=storable(partial))
            _add_event(run, gettext_noop("Cancelled."), "info", "cancelled")
    return held


def end_unwanted(*, run: Run) -> bool:
    """End a run that waits although it was cancelled or deleted, as an earlier version could leave one: nobody takes it, and it would
    count as under way for ever."""
    with transaction.atomic():
        unwanted = Run.objects.unwanted().filter(pk=run.pk)
        ended = bool(
            unwanted.update(state=Run.State.CANCELLED, finished=timezone.now(), message=gettext_noop("Cancelled."))
        )
        if ended:
            _add_event(run, gettext_noop("Cancelled while waiting."), "info", "cancelled")
    return ended


def put_back(*, run: Run) -> bool:
    """Return the run to the queue because this worker stops; the attempt does not count."""
    with transaction.atomic():
        held = _requeue(run, attempt=F("attempt") - 1)
        if held:
            _add_event(
                run,
                gettext_noop("The worker was stopped. The run waits for another one; this attempt does not count."),
                "warning",
                "",
            )
    return held or _ended_instead(run)


def put_back_lost(*, run: Run) -> bool:
    """Return a run to the queue whose worker was lost; the attempt counts."""
    with transaction.atomic():
        held = _requeue(run)
        if held:
            text = gettext_noop(
                "The worker on %(worker)s was lost during the stage “%(stage)s”. The run waits for another attempt."
            ) % {"worker": host_of(run.worker), "stage": run.stage}
            _add_event(run, text, "warning", run.stage)
    return held or _ended_instead(run)


def _ended_instead(run: Run) -> bool:
    """End a run that was cancelled in the moment in which it would have been put back; always false: it does not wait."""
    if cancel_wanted(run=run):
        end_cancelled(run=run)
    return False


def _end(run: Run, state: str, **columns: Any) -> bool:
    return bool(Run.objects.held(run).update(state=state, finished=timezone.now(), **NO_CLAIM, **columns))


def _requeue(run: Run, **columns: Any) -> bool:
    columns |= {"stage": "", "progress": 0, "message": "", "started": None, "rung_at": None}
    # A cancelled one would wait for ever: nobody takes it.
    wanted = Run.objects.held(run).filter(cancel_requested=False)
    return bool(wanted.update(state=Run.State.QUEUED, **NO_CLAIM, **columns))


def _add_event(run: Run, message: str, level: str, stage: str) -> None:
    RunEvent.objects.create(run=run, attempt=run.attempt, level=level[:10], stage=stage[:40], message=_text(message))


def _text(message: str) -> str:
    """What users may read: without the paths of this machine, and not without end."""
    return storable(without_paths(message))[:TEXT_LIMIT]
