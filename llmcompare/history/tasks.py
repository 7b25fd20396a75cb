"""The part of a worker that tells people about ended runs: a thread of its own, so that a slow mail server delays nothing."""

from __future__ import annotations

import logging
import threading

from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import close_old_connections, connections

from llmcompare.history import notices

logger = logging.getLogger(__name__)
_shutdown = threading.Event()


def keep_telling(shutdown: threading.Event) -> None:
    """Look every few seconds until shutdown. No fault ends it."""
    while not shutdown.is_set():
        for step in (notices.collect, notices.send_due):
            try:
                step()
            except Exception:
                logger.exception("Notices failed and are tried again")
            finally:
                close_old_connections()
        shutdown.wait(settings.RUN_SWEEP_S)
    connections.close_all()


@worker_ready.connect
def _begin(**_) -> None:
    threading.Thread(target=keep_telling, args=[_shutdown], name="worker_notices", daemon=True).start()


@worker_shutting_down.connect
def _end(**_) -> None:
    _shutdown.set()
