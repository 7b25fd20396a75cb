"""Everything that writes probes: asking for one, and what a worker does with it.

Every write of a worker goes through :func:`_held`: it reaches the row only while the claim in the database is still its own. A bell wakes
a worker up; a lost one costs seconds, since all of them look every few seconds. A message names a row and nothing else.
"""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from hardware.models import Host
from llmcompare.accounts.models import User
from llmcompare.celery import app
from llmcompare.common.errors import WHOLE_FORM, FieldErrors, QuotaExceeded
from llmcompare.common.queues import ESTIMATE_QUEUE
from llmcompare.endpoints.models import Endpoint, Probe

logger = logging.getLogger(__name__)

TASK = "llmcompare.endpoints.look"
State = Probe.State

#: Looks of one user that may wait or be under way: each can keep a worker's thread for more than a minute.
MAX_ACTIVE = 6
#: Seconds after which a worker was lost: a look ends by itself before (``profiling.remote.look.LIMIT_S``, which is not imported because it
#: would bring an HTTP client into the web process).
LEASE_S = 110
#: Looks of an endpoint that are kept.
KEPT = 5
LOST = gettext_noop("The worker was lost while it looked. Look again.")
FAULT = gettext_noop("The worker failed by a fault of its own, which its log names. Look again.")
NO_CLAIM: dict[str, Any] = {"claim": None, "lease_until": None, "progress": 0, "message": "", "worker": ""}


def ask(*, endpoint: Endpoint, user: User) -> Probe:
    """Have the endpoint looked at; the look that is under way already, if there is one.

    Raises :class:`QuotaExceeded` when the user has too many under way, :class:`FieldErrors` for endpoints that are not looked at.
    """
    if not endpoint.is_openai:
        raise FieldErrors({WHOLE_FORM: _("What this endpoint can do is known from its deployment.")})
    for _try in range(3):
        found = Probe.objects.filter(endpoint=endpoint, state__in=Probe.ACTIVE).first()
        if found is not None:
            return found
        active = Probe.objects.filter(asked_by=user, state__in=Probe.ACTIVE).count()
        if active >= MAX_ACTIVE:
            text = _("{count} of your endpoints are being looked at. Wait for one of them.")
            raise QuotaExceeded(text.format(count=active))
        try:
            with transaction.atomic():
                probe = Probe.objects.create(endpoint=endpoint, asked_by=user)
        except IntegrityError:
            continue  # somebody else was quicker
        ring()
        return probe
    raise QuotaExceeded(_("The endpoint is being looked at again and again. Try in a minute."))


def ring() -> None:
    """Tell a worker. Never raises: every worker looks every few seconds anyway."""
    try:
        app.send_task(TASK, queue=ESTIMATE_QUEUE, retry=False)
    except Exception as error:  # kombu raises whatever its transport raises
        logger.warning("The broker took no message for a probe: %s", error)


def newest(endpoint: Endpoint) -> Probe | None:
    return Probe.objects.filter(endpoint=endpoint).first()


def waiting_note(probe: Probe) -> str:
    """Why a look has to wait, in one sentence; empty when a worker is there to take it."""
    if probe.state != State.QUEUED or Host.objects.online().exists():
        return ""
    return _("No worker is online. The look waits and starts by itself as soon as one is.")


# --- what workers do ---


def wanted() -> list[int]:
    """Looks that wait, the one that waits longest first."""
    return list(Probe.objects.filter(state=State.QUEUED).order_by("created", "pk").values_list("pk", flat=True)[:20])


def claim(*, probe_id: int, worker: str) -> Probe | None:
    """Take a look that waits; ``None`` when it is not to be had."""
    token = secrets.token_hex(16)
    taken = Probe.objects.filter(pk=probe_id, state=State.QUEUED).update(
        state=State.RUNNING,
        claim=token,
        worker=worker[:200],
        lease_until=timezone.now() + timedelta(seconds=LEASE_S),
        attempt=F("attempt") + 1,
        progress=0,
        message="",
    )
    if not taken:
        return None
    probe = Probe.objects.select_related("endpoint").get(pk=probe_id)
    probe.claim = token
    return probe


def _held(probe: Probe) -> QuerySet[Probe]:
    return Probe.objects.filter(pk=probe.pk, state=State.RUNNING, claim=probe.claim)


def report(*, probe: Probe, fraction: float, message: str) -> bool:
    """Show how far it is."""
    return bool(_held(probe).update(progress=min(max(fraction, 0.0), 1.0), message=message[:300]))


def finish(*, probe: Probe, found: dict[str, Any]) -> bool:
    """Store what was found, if it still is about the endpoint as it is now, and end the look."""
    endpoint = probe.endpoint
    with transaction.atomic():
        if not _end(probe, State.DONE):
            return False
        about = {name: getattr(endpoint, name) for name in Endpoint.SEEN_WITH}
        same = Endpoint.objects.filter(pk=endpoint.pk, **about)
        same.update(probe=found, probed_at=timezone.now())
        old = Probe.objects.filter(endpoint=endpoint).values_list("pk", flat=True)[KEPT:]
        Probe.objects.filter(pk__in=list(old)).delete()
    return True


def fail(*, probe: Probe, error: str) -> bool:
    return _end(probe, State.FAILED, error=error[:500])


def put_back(*, probe: Probe) -> bool:
    """Back among those that wait: this worker stops, and the attempt does not count."""
    return bool(_held(probe).update(state=State.QUEUED, attempt=F("attempt") - 1, **NO_CLAIM))


def _end(probe: Probe, state: str, **columns: Any) -> bool:
    columns = {**NO_CLAIM, "progress": 1, "finished": timezone.now(), **columns}
    return bool(_held(probe).update(state=state, **columns))


def sweep() -> None:
    """Bring looks whose worker was lost on their way again. Idempotent."""
    for probe in Probe.objects.filter(state=State.RUNNING, lease_until__lt=timezone.now()):
        if probe.attempt >= Probe.MAX_ATTEMPTS:
            fail(probe=probe, error=LOST)
        else:
            _held(probe).update(state=State.QUEUED, **NO_CLAIM)
