"""What workers do to operations: claim, note a request before it is sent and its name after, wait, end.

Every write goes through ``Operation.objects.held(operation)``: it reaches the row only while the claim in the database is still this worker's.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from llmcompare.cloud.models import Operation, claim_end
from profiling.failures import without_paths

logger = logging.getLogger(__name__)
State = Operation.State

FREE = {"claim": None, "claim_until": None}
TEXT_LIMIT = 2000


class Lost(Exception):
    """The operation is no longer this worker's: whoever has it now goes on with it."""


def claim(*, operation_id: int, worker: str) -> Operation | None:
    """Take an operation that is due, for one step; None when it is not to be had."""
    token = secrets.token_hex(16)
    taken = (
        Operation.objects.due(timezone.now())
        .filter(pk=operation_id)
        .update(state=State.RUNNING, claim=token, claim_until=claim_end(), worker=worker[:200])
    )
    if not taken:
        return None
    Operation.objects.filter(pk=operation_id, started=None).update(started=timezone.now())
    return Operation.objects.select_related("connection", "deployment__connection", "asked_by").get(pk=operation_id)


def write(operation: Operation, **columns: Any) -> None:
    """Write to the row. Raises :class:`Lost`."""
    if not Operation.objects.held(operation).update(**columns):
        raise Lost(f"{operation} is another worker's now")
    for name, value in columns.items():
        setattr(operation, name, value)


def begin(operation: Operation, stage: str, call: Callable[[], str]) -> None:
    """Send a request that begins something long: noted before it is sent, and its name as soon as it is known.

    An exception of ``call`` leaves nothing begun: Google said no. (A worker that is lost meanwhile leaves the note.)
    """
    write(operation, stage=stage, begun=timezone.now(), lro="", claim_until=claim_end())
    try:
        name = call()
    except Exception:
        write(operation, begun=None)
        raise
    write(operation, lro=name, troubles=0)


def wait(operation: Operation, seconds: float, message: str = "", **columns: Any) -> None:
    """Let go of it until it is due again."""
    due = timezone.now() + timedelta(seconds=seconds)
    write(operation, due_at=due, message=message[:300], **columns, **FREE)


def done(operation: Operation, result: Any = None) -> None:
    _end(operation, State.DONE, result=result, error="")


def fail(operation: Operation, sentence: str) -> None:
    _end(operation, State.FAILED, error=without_paths(sentence)[:TEXT_LIMIT])


def _end(operation: Operation, state: str, **columns: Any) -> None:
    write(operation, state=state, finished=timezone.now(), message="", begun=None, **columns, **FREE)
