"""The Celery side of endpoints: one task that wakes up, and the threads that look at servers. Imported by workers only."""

from __future__ import annotations

import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.db import close_old_connections, connections

from llmcompare.celery import app
from llmcompare.endpoints import probing
from llmcompare.endpoints.carrying import carry_out

logger = logging.getLogger(__name__)

#: Servers that are looked at at once: most of the time is waiting.
AT_ONCE = 4
_shutdown = threading.Event()
_wanted = threading.Event()


@app.task(name=probing.TASK)
def look() -> None:
    """Somebody wishes for a look. Returns at once: threads of the worker carry it out."""
    _wanted.set()


def keep_looking(shutdown: threading.Event, wanted: threading.Event) -> None:
    """Take what waits until shutdown. No fault ends it."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    taken: set[int] = set()
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="worker_endpoints") as threads:
        while not shutdown.is_set():
            try:
                probing.sweep()
                for probe_id in set(probing.wanted()) - taken:
                    taken.add(probe_id)
                    threads.submit(_carry_out, probe_id, worker, shutdown, taken)
            except Exception:
                logger.exception("Looking for probes failed and is tried again")
            finally:
                close_old_connections()
            wanted.wait(settings.RUN_SWEEP_S)
            wanted.clear()
    connections.close_all()


def _carry_out(probe_id: int, worker: str, shutdown: threading.Event, taken: set[int]) -> None:
    try:
        carry_out(probe_id=probe_id, worker=worker, shutdown=shutdown)
    except Exception as error:
        logger.error("A probe failed and is tried again: %s", type(error).__name__)
    finally:
        connections.close_all()
        taken.discard(probe_id)


@worker_ready.connect
def _begin(**_) -> None:
    target, args = keep_looking, [_shutdown, _wanted]
    threading.Thread(target=target, args=args, name="worker_endpoints", daemon=True).start()


@worker_shutting_down.connect
def _end(**_) -> None:
    _shutdown.set()
    _wanted.set()
