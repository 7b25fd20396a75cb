"""Looking how far something is that Google runs: by its name, from any worker, after any restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.models import Operation

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud

#: Seconds between looks: short at first, a twentieth of what it has taken so far, never longer than the last.
FIRST_S, LAST_S = 1.0, 15.0


class StillRunning(Exception):
    """Nothing to do for now: look again after ``pause_s`` seconds."""

    def __init__(self, pause_s: float, message: str) -> None:
        super().__init__(message)
        self.pause_s, self.message = pause_s, message


class OperationFailed(CloudError):
    """What Google ran has ended with an error: asking again changes nothing."""

    @property
    def again(self) -> bool:
        return False


def poll(operation: Operation, cloud: Cloud, message: str) -> dict[str, Any]:
    """What it made, once it has ended. Raises :class:`StillRunning`, :class:`OperationFailed` with what went wrong, or another :class:`CloudError`
    when that could not be found out."""
    if not operation.lro:
        text = _(
            "The worker was lost in the moment in which it asked for this. Read the project anew; ask again if nothing came of it."
        )
        raise CloudError("failed", text)
    state = cloud.operation(operation.lro)
    if not state.done:
        raise StillRunning(pause_of(operation), message)
    if state.error:
        raise OperationFailed(str(state.error.get("code") or "failed"), str(state.error.get("sentence") or ""))
    return dict(state.response or {})


def pause_of(operation: Operation) -> float:
    took = (timezone.now() - (operation.begun or operation.created)).total_seconds()
    return min(LAST_S, max(FIRST_S, took / 20))
