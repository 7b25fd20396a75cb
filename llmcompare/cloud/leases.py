"""Stopping what must not go on: leases that ran out, deployments that nobody uses, everything once an administrator says so.

Needs the database alone, so that it works while Google cannot be reached: the undeploying then waits and is tried again.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from llmcompare.accounts.models import User
from llmcompare.cloud.deployments import note_use, stop
from llmcompare.cloud.models import Deployment, Guard

State, Stop = Deployment.State, Deployment.Stop


def stop_due() -> int:
    """Stop what is due; returns how many. Idempotent, any number of workers may do it at once.

    Between the look and the stop somebody may extend the lease or send a request: the row is stopped only where it is still due.
    """
    now = timezone.now()
    running = Deployment.objects.active().filter(stop_reason="").select_related("connection")
    if Guard.get().stopped_at is not None:
        return sum(stop(deployment=one, reason=Stop.KILL) for one in running)
    ended = Q(expires_at__lte=now)
    stopped = sum(stop(deployment=one, reason=Stop.EXPIRED, still=ended) for one in running.filter(ended))
    limited = running.filter(state=State.READY, idle_minutes__isnull=False)
    # Use is noted when a request begins, and one request may take longer than the limit.
    for pk in limited.filter(endpoint__runs__state="running").values_list("pk", flat=True).distinct():
        note_use(deployment_id=pk)
    idle = [one for one in limited if is_idle(one)]
    return stopped + sum(stop(deployment=one, reason=Stop.IDLE, still=Q(used_at=one.used_at)) for one in idle)


def is_idle(deployment: Deployment) -> bool:
    """Whether nothing of ours used it for as long as it may be idle. Requests that do not come through this portal are not seen."""
    since = max(moment for moment in (deployment.ready_at, deployment.used_at, deployment.created) if moment)
    return timezone.now() - since > timedelta(minutes=deployment.idle_minutes or 0)


def stop_everything(*, by: User, reason: str = "") -> int:
    """The kill switch: nothing new is deployed until :func:`open_again`, and everything that is deployed is undeployed. Returns how many."""
    with transaction.atomic():
        Guard.get()
        Guard.objects.filter(pk=1, stopped_at=None).update(
            stopped_at=timezone.now(), stopped_by=by, reason=reason.strip()[:200]
        )
    return stop_due()


def open_again() -> None:
    """Deploying is allowed again. What was undeployed stays so."""
    Guard.objects.filter(pk=1).update(stopped_at=None, stopped_by=None, reason="")
