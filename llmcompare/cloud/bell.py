"""The bell that makes workers look at the cloud's rows at once. The rows are the truth: a lost bell costs seconds."""

from __future__ import annotations

import logging

from django.db import transaction

from llmcompare.celery import app

logger = logging.getLogger(__name__)

TASK = "llmcompare.cloud.look"
#: The queue that every ordinary worker serves (``runs.queues.ESTIMATE_QUEUE``; runs are above this app).
QUEUE = "estimate"


def ring() -> None:
    """Tell a worker to look, once the transaction at hand is stored. Never raises: workers look every few seconds anyway."""
    transaction.on_commit(_send)


def _send() -> None:
    try:
        app.send_task(TASK, queue=QUEUE, retry=False)
    except Exception as error:  # kombu raises whatever its transport raises
        logger.warning("The broker took no message for the cloud: %s", error)
