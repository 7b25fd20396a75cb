"""The worker's part: a thread that looks at the cloud's rows every few seconds, or at once when the bell rings, and does what is due.

What talks to Google runs in a few threads of its own, so that one project that does not answer delays no other's undeploying.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import close_old_connections, connections
from django.utils import timezone

from llmcompare.celery import app
from llmcompare.cloud import bell, carrying, leases, reading
from llmcompare.cloud.models import Operation

logger = logging.getLogger(__name__)

THREADS = 4
#: How often operations of long ago are forgotten, in seconds.
FORGET_S = 6 * 3600.0


class Keeper:
    """Does what is due until it is told to stop. ``wanted`` is set when somebody rang."""

    def __init__(self) -> None:
        self.shutdown, self.wanted = threading.Event(), threading.Event()
        self._at_work: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._forgot_at: float | None = None

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}"

    def keep(self) -> None:
        with ThreadPoolExecutor(THREADS, thread_name_prefix="worker_cloud") as pool:
            while not self.shutdown.is_set():
                try:
                    leases.stop_due()
                    self._hand_out(pool)
                    self._forget()
                except Exception:
                    logger.exception("Looking after the cloud failed and is tried again")
                finally:
                    close_old_connections()
                self.wanted.wait(self._pause_s())
                self.wanted.clear()
        connections.close_all()

    def _hand_out(self, pool: ThreadPoolExecutor) -> None:
        for pk in Operation.objects.due(timezone.now()).order_by("due_at", "pk").values_list("pk", flat=True)[:20]:
            self._submit(pool, "operation", pk, partial(carrying.carry_out, operation_id=pk, worker=self.name))
        for pk in reading.due():
            self._submit(pool, "connection", pk, partial(reading.read, connection_id=pk))

    def _forget(self) -> None:
        """When the worker begins and every few hours: rows that nobody looks at any more."""
        if self._forgot_at is None or time.monotonic() - self._forgot_at > FORGET_S:
            self._forgot_at = time.monotonic()
            carrying.forget_old()

    def _submit(self, pool: ThreadPoolExecutor, kind: str, pk: int, work: Callable[[], object]) -> None:
        """Have it done unless this process is at it; another process finds its claim."""
        with self._lock:
            if (kind, pk) in self._at_work:
                return
            self._at_work.add((kind, pk))

        def do() -> None:
            try:
                if not self.shutdown.is_set():
                    work()
            except Exception:
                logger.exception("%s %d failed and is tried again", kind, pk)
            finally:
                connections.close_all()
                with self._lock:
                    self._at_work.discard((kind, pk))
                self.wanted.set()

        pool.submit(do)

    def _pause_s(self) -> float:
        """Until the next operation is due, at most one sweep."""
        try:
            next_due = Operation.objects.active().filter(claim=None).order_by("due_at").values_list("due_at", flat=True)
            first = next_due.first()
        except Exception:
            return settings.RUN_SWEEP_S
        if first is None:
            return settings.RUN_SWEEP_S
        return min(settings.RUN_SWEEP_S, max(0.2, (first - timezone.now()).total_seconds()))


keeper = Keeper()


@app.task(name=bell.TASK)
def look() -> None:
    """Somebody asked for something in the cloud. Returns at once: the thread does it."""
    keeper.wanted.set()


@worker_ready.connect
def _begin(**_) -> None:
    if settings.CLOUD_WORKER:
        threading.Thread(target=keeper.keep, name="worker_cloud", daemon=True).start()


@worker_shutting_down.connect
def _end(**_) -> None:
    keeper.shutdown.set()
    keeper.wanted.set()
