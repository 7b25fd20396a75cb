"""Everything that writes measurements of ceilings: asking for one, and what the host's worker does with it.

Every write of a worker goes through :func:`_held`: it reaches the row only while the claim in the database is still its own.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext

from hardware.models import CeilingMeasurement, Host
from hardware.services import set_ceilings_state, store_ceilings
from llmcompare.celery import app
from llmcompare.common.engine_texts import engine_text, stored
from profiling.failures import without_paths

logger = logging.getLogger(__name__)

#: The message that makes the workers of a host look for a wish at once; without it they do every few seconds.
TASK = "llmcompare.hardware.look"
State = CeilingMeasurement.State


def active(host: Host) -> CeilingMeasurement | None:
    """The measurement of the host's ceilings that waits or is under way."""
    return CeilingMeasurement.objects.filter(host=host, state__in=CeilingMeasurement.ACTIVE).first()


def ask(*, host: Host, user: Any = None, quick: bool = True) -> tuple[CeilingMeasurement, bool]:
    """Wish for a new measurement of the host's ceilings; the one that is under way already, if there is one, and false then.

    Raises ``ValueError`` with the reason when the host cannot measure.
    """
    if not host.has_engine:
        raise ValueError(
            gettext("%(host)s cannot measure: %(engine_note)s")
            % {"host": host, "engine_note": engine_text(host.engine_note) or gettext("its worker has no engine.")}
        )
    for _ in range(3):
        if found := active(host):
            return found, False
        try:
            with transaction.atomic():
                made = CeilingMeasurement.objects.create(host=host, asked_by=user, quick=quick)
        except IntegrityError:
            continue  # somebody else was quicker
        ring(host)
        return made, True
    raise RuntimeError("Measurements of this host's ceilings begin and end too quickly.")


def ring(host: Host) -> None:
    """Tell the host's workers to look. Never raises: they look every few seconds anyway."""
    try:
        app.send_task(TASK, queue=host.queue, retry=False)
    except Exception as error:  # kombu raises whatever its transport raises
        logger.warning("The broker took no message for %s: %s", host, error)


def cancel(*, measurement: CeilingMeasurement) -> None:
    """End one that waits at once; ask the worker of one that is under way to stop."""
    rows = CeilingMeasurement.objects.filter(pk=measurement.pk)
    waiting = rows.filter(state=State.QUEUED).update(
        state=State.CANCELLED, finished=timezone.now(), message=stored("Cancelled.")
    )
    if not waiting:
        rows.filter(state=State.RUNNING).update(cancel_requested=True)
    measurement.refresh_from_db()


# --- what workers do ---


def lease_end() -> datetime:
    return timezone.now() + timedelta(seconds=settings.RUN_LEASE_S)


def claim(*, measurement: CeilingMeasurement, worker: str) -> bool:
    """Take a measurement that waits: it is this worker's for one lease. False when it is no longer to be had."""
    token = secrets.token_hex(16)
    with transaction.atomic():
        taken = CeilingMeasurement.objects.filter(pk=measurement.pk, state=State.QUEUED).update(
            state=State.RUNNING,
            claim=token,
            worker=worker[:150],
            lease_until=lease_end(),
            started=timezone.now(),
            message="",
            progress=0,
        )
        if taken:
            set_ceilings_state(host=measurement.host, state="measuring")
    measurement.refresh_from_db()
    return bool(taken)


def _held(measurement: CeilingMeasurement) -> QuerySet[CeilingMeasurement]:
    return CeilingMeasurement.objects.filter(pk=measurement.pk, state=State.RUNNING, claim=measurement.claim)


def cancel_wanted(*, measurement: CeilingMeasurement) -> bool | None:
    """Whether somebody wants it to stop; ``None`` when it is no longer this worker's."""
    return _held(measurement).values_list("cancel_requested", flat=True).first()


def report(*, measurement: CeilingMeasurement, fraction: float, message: str) -> bool:
    """Show how far it is; extends the lease."""
    columns = {"progress": min(max(fraction, 0.0), 1.0), "message": without_paths(message)[:300]}
    return bool(_held(measurement).update(lease_until=lease_end(), **columns))


@transaction.atomic
def finish(*, measurement: CeilingMeasurement, document: Mapping[str, Any]) -> bool:
    """Store the rows of :func:`profiling.ceiling_processes.measure_ceilings_in_processes` and end it as done, both or neither."""
    context = {key: document.get(key) for key in ("versions", "affinity", "env_vars", "processes", "device")}
    rows = [dict(row) | {"detail": dict(row.get("detail") or {}) | context} for row in document["rows"]]
    counts = Counter("accepted" if row.get("quality") == "ok" else "contended" for row in rows)
    outcome = context | {
        "accepted": counts["accepted"],
        "contended": counts["contended"],
        "skipped": document.get("skipped") or [],
        "duration_s": document.get("duration_s"),
    }
    if not _end(measurement, State.DONE, message="", progress=1):
        return False
    kept = store_ceilings(host=measurement.host, rows=rows)
    outcome["kept"] = [str(ceiling) for ceiling in kept]
    CeilingMeasurement.objects.filter(pk=measurement.pk).update(outcome=outcome)
    return True


def fail(*, measurement: CeilingMeasurement, message: str) -> bool:
    """End it with the reason; the rates that the host had stay as they were."""
    return _end_without_rows(measurement, State.FAILED, without="failed", error=without_paths(message)[:2000])


def end_cancelled(*, measurement: CeilingMeasurement) -> bool:
    return _end_without_rows(measurement, State.CANCELLED, without="missing", message=stored("Cancelled."))


@transaction.atomic
def put_back(*, measurement: CeilingMeasurement) -> bool:
    """Back among those that wait: this worker stops, or the machine is not free."""
    held = bool(
        _held(measurement).update(
            state=State.QUEUED, claim=None, lease_until=None, started=None, worker="", progress=0, message=""
        )
    )
    if held:
        _restore_state(measurement.host, "missing")
    return held


def recover_lost() -> int:
    """Fail the measurements whose worker was lost. Idempotent; returns how many."""
    lost = CeilingMeasurement.objects.filter(state=State.RUNNING, lease_until__lt=timezone.now()).select_related("host")
    text = stored(
        "The worker that measured was lost (killed, or cut off from the database). Ask again once it is online."
    )
    return sum(_take_over(measurement) and fail(measurement=measurement, message=text) for measurement in lost)


def _take_over(measurement: CeilingMeasurement) -> bool:
    """Take the claim of one whose lease ended; false when its worker renewed it in the meantime."""
    token = secrets.token_hex(16)
    ended = _held(measurement).filter(lease_until__lt=timezone.now())
    taken = bool(ended.update(claim=token, lease_until=lease_end()))
    if taken:
        measurement.claim = token
    return taken


def under_way_elsewhere(*, queue: str, worker: str, before: datetime | None) -> bool:
    """Whether another worker of the host with that queue measures ceilings, and began before that moment."""
    if before is None:
        return False
    others = CeilingMeasurement.objects.filter(
        host__queue=queue, state=State.RUNNING, lease_until__gte=timezone.now(), started__lt=before
    )
    return others.exclude(worker=worker).exists()


@transaction.atomic
def _end_without_rows(measurement: CeilingMeasurement, state: str, *, without: str, **columns: Any) -> bool:
    held = _end(measurement, state, **columns)
    if held:
        _restore_state(measurement.host, without)
    return held


def _end(measurement: CeilingMeasurement, state: str, **columns: Any) -> bool:
    return bool(
        _held(measurement).update(state=state, finished=timezone.now(), claim=None, lease_until=None, **columns)
    )


def _restore_state(host: Host, without: str) -> None:
    """The state of the host's ceilings as its rows say; ``without`` when there are none."""
    set_ceilings_state(host=host, state="done" if host.ceilings.exists() else without)
