"""Which queue a run waits in, which queues this machine serves, and the bell that wakes a worker up.

The database row is the truth about a run. A message carries a run's number and nothing else; losing one costs seconds (the sweep
rings again), receiving one twice costs nothing (the claim succeeds once).
"""

from __future__ import annotations

import logging
import socket

from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext

from hardware.models import Host
from hardware.services import HOST_QUEUE_PREFIX
from llmcompare.celery import app
from llmcompare.common.queues import ESTIMATE_QUEUE
from llmcompare.env import env_list, env_str
from llmcompare.runs.models import Run

logger = logging.getLogger(__name__)

TASK = "llmcompare.runs.execute"


def host_slug() -> str:
    """The stable name of this machine, from its host name; ``LLMCOMPARE_HOST`` overrides it (containers get random names)."""
    return slugify(env_str("LLMCOMPARE_HOST") or socket.gethostname())[:90] or "host"


def host_queue(slug: str) -> str:
    """The queue of the measurements on one host."""
    return f"{HOST_QUEUE_PREFIX}{slug}"


def worker_queues() -> list[str]:
    """The queues a worker on this machine serves; ``LLMCOMPARE_WORKER_QUEUES`` (comma separated) overrides them."""
    return env_list("LLMCOMPARE_WORKER_QUEUES") or [ESTIMATE_QUEUE, host_queue(host_slug())]


def served_by(host: Host) -> list[str]:
    """The queues that the worker on ``host`` said it serves."""
    return list(host.details.get("queues") or [ESTIMATE_QUEUE, host.queue])


def live_hosts(queue: str) -> list[Host]:
    """Hosts whose worker was heard of lately and serves ``queue``."""
    return [host for host in Host.objects.online() if queue in served_by(host)]


def waiting_note(run: Run) -> str:
    """Why a queued run has to wait, in one sentence; empty when a worker is there to take it."""
    if run.state != Run.State.QUEUED or live_hosts(run.queue):
        return ""
    if run.queue == ESTIMATE_QUEUE:
        return gettext(
            "No worker is online for estimates and endpoints. The run waits and starts by itself as soon as one is."
        )
    return gettext(
        "No worker is online for the host %(host)s. The run waits and starts by itself as soon as one is."
    ) % {"host": run.host or run.queue.removeprefix(HOST_QUEUE_PREFIX)}


def ring(run: Run) -> bool:
    """Tell the workers of the run's queue that it waits. Never raises: a broker that is down must not fail a request."""
    Run.objects.filter(pk=run.pk).update(rung_at=timezone.now())
    return send(run)


def send(run: Run) -> bool:
    """The message alone; false when the broker did not take it."""
    try:
        app.send_task(TASK, args=[run.pk], queue=run.queue, retry=False)
    except Exception as error:  # kombu raises whatever its transport raises; the sweep rings again
        logger.warning("The broker took no message for run %s: %s", run.public_id, error)
        return False
    return True
