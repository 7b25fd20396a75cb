"""The Celery side of runs: one task, and the worker's start and end. Imported by workers only."""

from __future__ import annotations

from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from hardware import measurements
from llmcompare.celery import app
from llmcompare.runs import executor
from llmcompare.runs.models import Run
from llmcompare.runs.queues import TASK
from llmcompare.runs.worker import Worker

worker = Worker()


@app.task(name=TASK)
def execute(run_id: int) -> None:
    if Run.objects.filter(pk=run_id, kind=Run.Kind.ENDPOINT).exists():
        worker.ring_for_endpoints()  # threads of their own: the next run of this machine need not wait for them
        return
    executor.execute(run_id=run_id, worker=worker.name, shutdown=worker.shutdown)


@app.task(name=measurements.TASK)
def look() -> None:
    """Somebody wishes for the ceilings of this machine. Returns at once: a thread of the worker carries it out."""
    worker.wanted.set()


@worker_ready.connect
def _begin(**_) -> None:
    worker.start()


@worker_shutting_down.connect
def _end(**_) -> None:
    worker.stop()


@worker_shutdown.connect
def _ended(**_) -> None:
    worker.wait()
