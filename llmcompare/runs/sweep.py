"""The sweep: what every worker does every few seconds so that no run is forgotten. Idempotent; any number may sweep at once.

It needs no leader and no schedule: each step is a conditional UPDATE that succeeds for one sweeper only.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_noop

from llmcompare.runs import lifecycle
from llmcompare.runs.models import Run
from llmcompare.runs.queues import live_hosts, ring, send

logger = logging.getLogger(__name__)

#: Bells rung for one queue in one sweep, the oldest runs first.
BELLS_AT_ONCE = 10


@dataclass(frozen=True)
class Swept:
    """How many runs one sweep put back into the queue, failed, cancelled, and rang for again."""

    put_back: int = 0
    failed: int = 0
    cancelled: int = 0
    rung: int = 0


def sweep() -> Swept:
    """Bring every run whose worker was lost on its way again, end those that wait unwanted, and ring for those whose bell was lost."""
    outcomes = [_recover(run) for run in Run.objects.expired()]
    outcomes += ["cancelled" for run in Run.objects.unwanted() if lifecycle.end_unwanted(run=run)]
    return Swept(
        put_back=outcomes.count("queued"),
        failed=outcomes.count("failed"),
        cancelled=outcomes.count("cancelled"),
        rung=sum(_ring_again(queue) for queue in _waiting_queues()),
    )


def _recover(run: Run) -> str:
    """The state that an expired run was brought to; empty when another sweeper, or its worker, was quicker."""
    if not lifecycle.take_over(run=run):
        return ""
    if run.cancel_requested:
        return "cancelled" if lifecycle.end_cancelled(run=run) else ""
    if run.attempt >= Run.MAX_ATTEMPTS:
        return "failed" if lifecycle.fail(run=run, phase=run.stage or "start", message=_gave_up(run)) else ""
    if not lifecycle.put_back_lost(run=run):
        return ""
    logger.warning("Run %s: its worker %s was lost; back in the queue", run.public_id, run.worker)
    ring(run)
    return "queued"


def _gave_up(run: Run) -> str:
    return gettext_noop(
        "The worker was lost %(attempt)s times while it worked on this run, the last time on %(worker)s during the stage “%(stage)s”, so the run is not tried again. Most often the machine ran out of memory or disk space, or was switched off. Try a smaller model, batch or context, or look at the worker's log."
    ) % {"attempt": run.attempt, "worker": lifecycle.host_of(run.worker), "stage": run.stage or "start"}


def _waiting_queues() -> list[str]:
    return list(_unheard().order_by().values_list("queue", flat=True).distinct())


def _unheard():
    """Waiting runs whose bell rang so long ago that an idle worker must have missed it."""
    old = timezone.now() - timedelta(seconds=2 * settings.RUN_SWEEP_S)
    return Run.objects.waiting().filter(Q(rung_at=None) | Q(rung_at__lt=old))


def _ring_again(queue: str) -> int:
    """Ring for lost bells of a queue, but only while a worker listens and has nothing to do: else bells would pile up."""
    # Runs of endpoints are carried out beside those of the machine.
    running = Run.objects.filter(state="running", lease_until__gte=timezone.now()).exclude(kind=Run.Kind.ENDPOINT)
    busy = {lifecycle.host_of(worker) for worker in running.values_list("worker", flat=True)}
    if not any(host.slug not in busy for host in live_hosts(queue)):
        return 0
    rung = 0
    for run in _unheard().filter(queue=queue).order_by("created", "pk")[:BELLS_AT_ONCE]:
        mine = Run.objects.waiting().filter(pk=run.pk, rung_at=run.rung_at).update(rung_at=timezone.now())
        if mine and not send(run):
            break
        rung += mine
    return rung
