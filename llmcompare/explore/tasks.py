"""The Celery side of stored forms: one task, and the sweep beside it. Imported by workers only."""

from __future__ import annotations

import logging
import threading

from celery.signals import worker_ready
from django.conf import settings
from django.db import close_old_connections, connections

from llmcompare.celery import app
from llmcompare.explore import making
from llmcompare.explore.carrying import carry_out
from llmcompare.runs.tasks import worker

logger = logging.getLogger(__name__)


@app.task(name=making.TASK)
def make(form_id: int) -> None:
    carry_out(form_id=form_id, worker=worker.name, shutdown=worker.shutdown)


def _keep() -> None:
    """Sweep until shutdown; no fault ends it."""
    while not worker.shutdown.wait(settings.RUN_SWEEP_S):
        try:
            making.sweep()
        except Exception:
            logger.exception("The sweep of closed forms failed and is tried again")
        finally:
            close_old_connections()
    connections.close_all()


@worker_ready.connect
def _begin(**_) -> None:
    threading.Thread(target=_keep, name="worker_forms", daemon=True).start()
