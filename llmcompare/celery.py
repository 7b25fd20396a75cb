"""The Celery application: a doorbell and nothing more. Results, schedules and revocation live in the database (docs/architecture.md)."""

from __future__ import annotations

import logging
import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
# A worker serves no pages: Django's checks would import all of them before it takes its first run.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

from django.conf import settings

EMBEDDED = settings.BROKER_URL.startswith("filesystem://")

app = Celery("llmcompare")
app.conf.update(
    # The host plays no part in a folder, but kombu warns at every connection when there is none.
    broker_url="filesystem://localhost" if EMBEDDED else settings.BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A run goes on without the broker: its row and its lease are in the database.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    accept_content=["json"],
    task_serializer="json",
    task_publish_retry=False,
)
if EMBEDDED:
    for name in ("queue", "taken", "control"):
        (settings.BROKER_DIR / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(settings.BROKER_DIR / "queue"),
        "data_folder_out": str(settings.BROKER_DIR / "queue"),
        # A message that is not kept is moved through the shared temporary folder, where two installations could meet.
        # So they are kept in a folder of our own, and every worker empties it (runs/worker.py).
        "store_processed": True,
        "processed_folder": str(settings.BROKER_DIR / "taken"),
        "control_folder": str(settings.BROKER_DIR / "control"),
        "polling_interval": 0.3,
    }
else:
    # A request must not wait for a broker that is down (the sweep rings again). Workers reconnect by a rule of their own.
    app.conf.broker_transport_options = {
        "visibility_timeout": 43_200,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "max_retries": 0,
    }
app.autodiscover_tasks(
    ["llmcompare.endpoints", "llmcompare.runs", "llmcompare.history", "llmcompare.explore", "llmcompare.cloud"]
)


@setup_logging.connect
def _keep_logging(loglevel: int | str = "WARNING", **_) -> None:
    """Workers log as settings.LOGGING says; Celery's own lines follow its option ``-l``. Without a receiver here it would reset both."""
    logging.getLogger("celery").setLevel(loglevel)
