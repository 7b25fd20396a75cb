"""Everything that writes stored forms: asking for one, and what a worker does with it.

Every write of a worker goes through :func:`_held`: it reaches the row only while the claim in the database is still its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from llmcompare.accounts.models import User
from llmcompare.celery import app
from llmcompare.common.errors import QuotaExceeded
from llmcompare.explore.models import StoredForm
from llmcompare.runs.lifecycle import NO_CLAIM, lease_end
from llmcompare.runs.queues import ESTIMATE_QUEUE
from profiling.failures import without_paths
from profiling.forms.keys import form_key
from profiling.spec import ModelSpec, Workload, digest

logger = logging.getLogger(__name__)

TASK = "llmcompare.explore.make"
State = StoredForm.State

#: Forms that one user may have in the making at a time: each keeps a worker for seconds, at worst for two minutes.
MAX_ACTIVE = 6
#: Forms that are kept; beyond that, what was used longest ago goes.
MAX_STORED = 2000
#: Bytes of a form's JSON that are stored: far above the largest known (a few MB), far below what would hurt.
MAX_BYTES = 64_000_000

LIBRARIES = ("torch", "transformers")


def stored_key(model: ModelSpec, workload: Workload, kernel_threads: int | None) -> dict[str, Any]:
    """What a stored form depends on, as far as a process without the engine's libraries knows it."""
    key = form_key(model, workload, kernel_threads)
    return {name: value for name, value in key.items() if name not in LIBRARIES}


def ask(*, user: User, model: ModelSpec, workload: Workload, kernel_threads: int | None) -> StoredForm:
    """Have the form made, unless it is there, under way, or known not to exist. A failed or cancelled one is tried anew.

    Raises :class:`QuotaExceeded` when the user has too many in the making.
    """
    key = stored_key(model, workload, kernel_threads)
    name = digest(key)
    request = {"model": model.to_json(), "workload": workload.to_json(), "kernel_threads": kernel_threads}
    for _ in range(3):
        found = StoredForm.objects.defer("data").filter(digest=name).first()
        if found is not None and found.state not in (State.FAILED, State.CANCELLED):
            return found
        _check_quota(user)
        if found is not None:
            again = StoredForm.objects.filter(pk=found.pk, state=found.state)
            columns = {"reason": "", "attempt": 0, "cancel_requested": False, "progress": 0, "message": ""}
            again.update(state=State.QUEUED, request=request, asked_by=user, finished=None, **columns)
            break
        try:
            with transaction.atomic():
                StoredForm.objects.create(digest=name, key=key, request=request, asked_by=user)
            break
        except IntegrityError:
            continue  # somebody else was quicker
    form = StoredForm.objects.defer("data").get(digest=name)
    ring(form)
    return form


def remake(*, user: User, form: StoredForm, model: ModelSpec, workload: Workload) -> None:
    """Make a form anew that was made with other libraries; until it is there, there is none."""
    _check_quota(user)
    request = {
        "model": model.to_json(),
        "workload": workload.to_json(),
        "kernel_threads": form.key.get("kernel_threads"),
    }
    columns = {"data": None, "reason": "", "attempt": 0, "progress": 0, "message": "", "cancel_requested": False}
    rows = StoredForm.objects.filter(pk=form.pk, state__in=[State.READY, State.NONE])
    if rows.update(state=State.QUEUED, request=request, asked_by=user, finished=None, **columns):
        ring(form)


def _check_quota(user: User) -> None:
    active = StoredForm.objects.filter(asked_by=user, state__in=StoredForm.ACTIVE).count()
    if active >= MAX_ACTIVE:
        raise QuotaExceeded(
            gettext("%(count)s of your closed forms are in the making. Wait for one of them, or cancel it.")
            % {"count": active}
        )


def ring(form: StoredForm) -> bool:
    """Tell a worker. Never raises: every worker looks every few seconds anyway."""
    StoredForm.objects.filter(pk=form.pk).update(rung_at=timezone.now())
    try:
        app.send_task(TASK, args=[form.pk], queue=ESTIMATE_QUEUE, retry=False)
    except Exception as error:  # kombu raises whatever its transport raises
        logger.warning("The broker took no message for %s: %s", form, error)
        return False
    return True


def cancel(*, form: StoredForm) -> None:
    """End one that waits at once; ask the worker of one that is under way to stop."""
    rows = StoredForm.objects.filter(pk=form.pk)
    waiting = rows.filter(state=State.QUEUED)
    if not waiting.update(
        state=State.CANCELLED, finished=timezone.now(), message=gettext_noop("Cancelled."), request=None
    ):
        rows.filter(state=State.RUNNING).update(cancel_requested=True)


def note_use(form: StoredForm) -> None:
    """Remember that it was used, at most once an hour: reading must not become writing."""
    if timezone.now() - form.used > timedelta(hours=1):
        with contextlib.suppress(DatabaseError):  # an answer does not fail for it
            StoredForm.objects.filter(pk=form.pk).update(used=timezone.now())


# --- what workers do ---


def claim(*, form_id: int, worker: str) -> StoredForm | None:
    """Take a form that waits: it is this worker's for one lease. ``None`` when it is not to be had."""
    token = secrets.token_hex(16)
    taken = StoredForm.objects.filter(pk=form_id, state=State.QUEUED).update(
        state=State.RUNNING,
        claim=token,
        worker=worker[:200],
        lease_until=lease_end(),
        attempt=F("attempt") + 1,
        progress=0,
        message=gettext_noop("The engine starts."),
    )
    if not taken:
        return None
    form = StoredForm.objects.defer("data").get(pk=form_id)
    form.claim = token
    return form


def _held(form: StoredForm) -> QuerySet[StoredForm]:
    return StoredForm.objects.filter(pk=form.pk, state=State.RUNNING, claim=form.claim)


def cancel_wanted(*, form: StoredForm) -> bool | None:
    """Whether somebody wants it to stop; ``None`` when it is no longer this worker's."""
    return _held(form).values_list("cancel_requested", flat=True).first()


def report(*, form: StoredForm, fraction: float, message: str) -> bool:
    """Show how far it is; extends the lease."""
    columns = {"progress": min(max(fraction, 0.0), 1.0), "message": without_paths(message)[:300]}
    return bool(_held(form).update(lease_until=lease_end(), **columns))


def finish(*, form: StoredForm, answer: Mapping[str, Any]) -> bool:
    """Store what the child's operation ``form`` answered, and end it, both or neither."""
    if "no_form" in answer:
        return _end(form, State.NONE, reason=without_paths(str(answer["no_form"]))[:2000])
    text = json.dumps(answer["form"], separators=(",", ":"), allow_nan=False).encode()
    if len(text) > MAX_BYTES:
        return _end(
            form,
            State.NONE,
            reason=gettext_noop("The closed form has %(count)s bytes: more than is kept.")
            % {"count": f"{len(text):,}"},
        )
    versions = {name: answer["form"]["key"].get(name) for name in LIBRARIES}
    held = _end(form, State.READY, data=zlib.compress(text, 6), made_with=versions, reason="")
    if held:
        forget_oldest()
    return held


def fail(*, form: StoredForm, message: str) -> bool:
    return _end(form, State.FAILED, reason=without_paths(message)[:2000])


def end_cancelled(*, form: StoredForm) -> bool:
    return _end(form, State.CANCELLED)


def put_back(*, form: StoredForm, lost: bool = False) -> bool:
    """Back among those that wait: this worker stops (the attempt does not count), or it was ``lost``."""
    columns = {} if lost else {"attempt": F("attempt") - 1}
    return bool(
        _held(form).update(state=State.QUEUED, **NO_CLAIM, progress=0, message="", rung_at=None, worker="", **columns)
    )


def _end(form: StoredForm, state: str, **columns: Any) -> bool:
    columns = {"message": "", "request": None, **columns}
    return bool(_held(form).update(state=state, finished=timezone.now(), progress=1, **NO_CLAIM, **columns))


def forget_oldest(most: int = MAX_STORED) -> int:
    """Delete what was used longest ago beyond the ``most`` that are kept; returns how many."""
    ended = StoredForm.objects.exclude(state__in=StoredForm.ACTIVE)
    old = list(ended.order_by("-used", "-pk").values_list("pk", flat=True)[most:])
    return StoredForm.objects.filter(pk__in=old).delete()[0] if old else 0


def sweep() -> None:
    """Bring forms whose worker was lost on their way again, and ring for those whose bell was lost. Idempotent."""
    now = timezone.now()
    for form in StoredForm.objects.defer("data").filter(state=State.RUNNING, lease_until__lt=now):
        if form.cancel_requested:
            end_cancelled(form=form)
        elif form.attempt >= StoredForm.MAX_ATTEMPTS:
            text = gettext_noop(
                "The worker was lost %(attempt)s times while it made this form: most often its machine ran out of memory. "
                "Run an estimate of the point instead, or try again."
            )
            fail(form=form, message=text % {"attempt": form.attempt})
        elif put_back(form=form, lost=True):
            ring(form)
    old = now - timedelta(seconds=4 * settings.RUN_SWEEP_S)
    waiting = StoredForm.objects.defer("data").filter(state=State.QUEUED)
    for form in waiting.exclude(rung_at__gte=old).order_by("created", "pk")[:10]:
        if not ring(form):
            break
