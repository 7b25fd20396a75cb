"""The worker's part in making a form: in the warm engine child, with progress and cancel, under a lease."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

from django.utils.translation import gettext_noop

from llmcompare.explore import making
from llmcompare.explore.models import StoredForm
from llmcompare.runs.watch import LeaseWatch
from profiling.client import EngineError, warm_child
from profiling.failures import describe

logger = logging.getLogger(__name__)

#: The engine itself gives up after two minutes of its own time; a busy machine needs longer for them.
TIMEOUT_S = 300.0


class Engine(Protocol):
    """What is needed of :class:`profiling.client.WarmChild`."""

    def request(self, op: str, payload: dict[str, Any], **how: Any) -> dict[str, Any]: ...


def carry_out(*, form_id: int, worker: str, shutdown: threading.Event, engine: Engine | None = None) -> None:
    """Make the form if it is still to be had. Returns when its row says how it ended, or when it is somebody else's."""
    if shutdown.is_set():
        return
    form = making.claim(form_id=form_id, worker=worker)
    if form is None:
        return
    watch = _Watch(form, shutdown)
    try:
        answer = (engine or warm_child()).request(
            "form",
            form.request or {},
            on_progress=watch.progress,
            should_stop=watch.should_stop,
            timeout_s=TIMEOUT_S,
        )
        if not making.finish(form=form, answer=answer):
            logger.warning("%s is dropped: the lease was lost", form)
    except EngineError as error:
        _end_early(form, watch, error)
    except Exception as error:
        logger.exception("Making %s", form)
        making.fail(
            form=form,
            message=gettext_noop("The worker failed by a fault of its own. %(error)s") % {"error": describe(error)},
        )


def _end_early(form: StoredForm, watch: _Watch, error: EngineError) -> None:
    match watch.reason:
        case "cancelled":
            making.end_cancelled(form=form)
        case "shutdown":
            if making.put_back(form=form):
                making.ring(form)
        case "lost":
            logger.warning("Making %s: the lease was lost", form)
        case _:
            making.fail(form=form, message=error.message)


class _Watch(LeaseWatch):
    """Relays progress to the row, and says when to stop and why."""

    def __init__(self, form: StoredForm, shutdown: threading.Event) -> None:
        super().__init__(str(form), shutdown)
        self.form = form
        self._said = (0.0, gettext_noop("The engine starts."))

    def cancel_wanted(self) -> bool | None:
        return making.cancel_wanted(form=self.form)

    def renew(self) -> bool:
        fraction, message = self._said
        return making.report(form=self.form, fraction=fraction, message=message)

    def progress(self, stage: str, fraction: float, message: str) -> None:
        self._said = (fraction, message)
        if self.may_report():
            self.write(self.renew)
