"""Carrying out one run: claim it, have the engine work on it in child processes, watch all, and write the outcome.

Runs in a thread of the worker. All waiting happens inside ``EngineChild.request``, which asks ``Watch.should_stop`` at least four times a
second: there the lease is renewed, and cancellation, shutdown and the loss of the lease are noticed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, close_old_connections
from django.utils.translation import gettext_noop

from hardware import measurements
from llmcompare.catalog.folders import is_active
from llmcompare.runs import lifecycle
from llmcompare.runs.endpointengine import EndpointEngine, is_here, target_of
from llmcompare.runs.models import Run
from llmcompare.runs.queues import host_queue, host_slug, ring
from llmcompare.runs.replayengine import ReplayEngine
from llmcompare.runs.watch import LeaseWatch
from profiling.client import EngineChild, EngineError, warm_child
from profiling.failures import describe
from profiling.fresh import FreshProcesses
from profiling.protocol import Protocol as Repetition

logger = logging.getLogger(__name__)

MAX_LOG_LINES = 500

#: An estimate takes a second or two; one that takes this long was made to keep the others waiting.
MAX_ESTIMATE_S = 300.0

#: Held while this worker measures or prepares its machine (ceilings, weights): the two would spoil each other's figures.
MACHINE = threading.Lock()


class Engine(Protocol):
    """What the executor needs of :class:`profiling.client.WarmChild` and :class:`profiling.fresh.FreshProcesses`."""

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        *,
        on_progress: Callable[[str, float, str], None],
        on_log: Callable[[str, str], None],
        should_stop: Callable[[], bool],
        timeout_s: float,
    ) -> dict[str, Any]: ...


OpenEngine = Callable[[Run, "Watch"], AbstractContextManager[Engine]]


class Watch(LeaseWatch):
    """The link between a run's row and its engine child: relays progress and log, and says when to stop and why."""

    def __init__(self, run: Run, shutdown: threading.Event) -> None:
        super().__init__(f"Run {run.public_id}", shutdown)
        self.run = run
        self.stage = "start"
        self._lines = 0

    def cancel_wanted(self) -> bool | None:
        return lifecycle.cancel_wanted(run=self.run)

    def renew(self) -> bool:
        return lifecycle.renew(run=self.run)

    def progress(self, stage: str, fraction: float, message: str) -> None:
        """Relay the engine's progress: every new stage, and within one about once a second."""
        if not self.may_report(at_once=stage != self.stage):
            return
        if stage != self.stage:
            self.log("info", message or stage, stage=stage)
        self.stage = stage
        self.write(lambda: lifecycle.report(run=self.run, stage=stage, fraction=fraction, message=message))

    def log(self, level: str, message: str, *, stage: str = "") -> None:
        """Relay a line of the engine's log, up to a limit: a library that prints without end must not fill the database."""
        self._lines += 1
        if self.reason or self._lines > MAX_LOG_LINES:
            return
        if self._lines == MAX_LOG_LINES:
            message = gettext_noop("The log is cut here: it has more than %(max_log_lines)s lines.") % {
                "max_log_lines": MAX_LOG_LINES
            }
        self.write(lambda: lifecycle.log(run=self.run, level=level, message=message, stage=stage or self.stage))

    def artifact(self, kind: str, data: bytes, facts: dict[str, Any]) -> None:
        """Store a file of the measurement. One that cannot be stored (a full disk, say) costs a line in the log, not the run."""
        if self.reason:
            return
        error = self.write(lambda: lifecycle.keep_artifact(run=self.run, kind=kind, data=data, facts=facts))
        if error is not None:
            self.log(
                "warning",
                gettext_noop("The file %(file)s could not be stored: %(error)s")
                % {"file": facts["file"], "error": describe(error)},
            )


@contextmanager
def open_engine(run: Run, watch: Watch) -> Iterator[Engine]:
    """The warm child for an estimate; for a measurement fresh ones, on a machine that does nothing else for us, and so where an estimate's
    operators are timed. Requests to a server elsewhere leave this machine alone; one that runs here is measured like a model of ours."""
    if run.replays:
        with quiet_machine(run, watch):
            yield ReplayEngine(run.spec["replay"])
        return
    if run.is_estimate:
        yield warm_child()
        return
    if run.of_endpoint:
        target = target_of(run)
        with quiet_machine(run, watch) if is_here(target) else nullcontext():
            yield EndpointEngine(target)
        return
    protocol = Repetition.from_json(run.spec.get("protocol") or {"processes": 1})
    with quiet_machine(run, watch):
        yield FreshProcesses(protocol, EngineChild, watch.artifact)


@contextmanager
def quiet_machine(run: Run, watch: Watch) -> Iterator[None]:
    """Wait until nothing else of ours runs on this machine: its preparation, or a measurement that began earlier."""
    while not MACHINE.acquire(timeout=0.25):
        _wait(
            watch,
            gettext_noop(
                "Waiting until this machine has been prepared: its ceilings are measured, or weights converted."
            ),
        )
    try:
        while _measured_earlier(run):
            _wait(watch, gettext_noop("Waiting for another measurement on this machine to end."))
            time.sleep(0.25)
        yield
    finally:
        MACHINE.release()


def _wait(watch: Watch, message: str) -> None:
    watch.progress("waiting", 0, message)
    if watch.should_stop():
        raise EngineError(
            phase="waiting", kind="cancelled", message=gettext_noop("The run was stopped while it waited.")
        )


def _measured_earlier(run: Run) -> bool:
    """Whether another worker of the same host measures a run or ceilings, and began before this one. A lease that ran out does not count."""
    queue = host_queue(host_slug()) if run.of_endpoint else run.queue
    order = Run.objects.taking_machine(queue).exclude(pk=run.pk).values_list("started", "pk")
    if any((started, pk) < (run.started, run.pk) for started, pk in order):
        return True
    return measurements.under_way_elsewhere(queue=queue, worker=run.worker, before=run.started)


def execute(*, run_id: int, worker: str, shutdown: threading.Event, open_engine: OpenEngine = open_engine) -> None:
    """Carry out a run if it is still to be had. Returns when its row says how it ended, or when it is somebody else's."""
    if shutdown.is_set():
        return  # the sweep rings again for whoever comes next
    run = lifecycle.claim(run_id=run_id, worker=worker)
    if run is None:
        return
    watch = Watch(run, shutdown)
    if not _folders_are_active(run):
        message = gettext_noop(
            "The registered folder that the model lies in is not used any more: an administrator took it away. Choose another model."
        )
        lifecycle.fail(run=run, phase="load", message=message)
        return
    try:
        with open_engine(run, watch) as engine:
            document = engine.request(
                run.kind,
                {"spec": run.spec},
                on_progress=watch.progress,
                on_log=watch.log,
                should_stop=watch.should_stop,
                timeout_s=_time_limit(run),
            )
    except EngineError as error:
        _end_early(run, watch, error)
    except Exception as error:
        logger.exception("Run %s", run.public_id)
        lifecycle.fail(
            run=run,
            phase=watch.stage,
            message=gettext_noop("The worker failed by a fault of its own. %(error)s") % {"error": describe(error)},
        )
    else:
        if run.of_endpoint and watch.reason:
            kept = document if document["requests"]["rows"] else None
            _end_early(run, watch, EngineError(phase=watch.stage, kind="cancelled", message="", partial=kept))
        elif run.of_endpoint and not document["load"]["served"]:
            lifecycle.fail(run=run, phase="requests", message=_nothing_served(document), partial=document)
        else:
            _finish(run, document)


def _nothing_served(document: dict[str, Any]) -> str:
    """Why no request of an endpoint's run was answered: the reason that most of them had."""
    failed = document["failures"]
    if not failed:
        return gettext_noop("No request was answered within the time limit.")
    reason = failed[0]["message"]
    due = document["load"]["due"]
    if due == 1:
        return reason
    return gettext_noop("None of %(due)s requests was answered. %(reason)s") % {"due": due, "reason": reason}


def _folders_are_active(run: Run) -> bool:
    """Asked when the run begins: it may have waited since its model was chosen."""
    if run.is_estimate:
        return True
    sides = [run.spec, run.spec.get("against") or {}]
    roots = {root for side in sides if (root := (side.get("model") or {}).get("weights_root"))}
    return all(is_active(root) for root in roots)


def _time_limit(run: Run) -> float:
    longest = float(settings.MAX_RUN_SECONDS)
    if run.is_estimate and not run.replays:
        longest = min(longest, MAX_ESTIMATE_S)
    return min(longest, float(run.spec["workload"]["time_limit_s"]))


def _finish(run: Run, document: dict[str, Any]) -> None:
    """Store the results. A database that is away is waited for while the lease lasts: the work of minutes is in our hands."""
    deadline = time.monotonic() + settings.RUN_LEASE_S
    while True:
        try:
            if not lifecycle.finish(run=run, document=document):
                logger.warning("Run %s: the results are dropped, another worker has the run", run.public_id)
            return
        except Exception as error:
            if not isinstance(error, DatabaseError) or isinstance(error, DataError | IntegrityError):
                # It would be the same at every attempt.
                logger.exception("Run %s: the engine's document cannot be used", run.public_id)
                message = gettext_noop(
                    "The engine's result cannot be stored: %(error)s. This is a fault of the portal; please report it."
                ) % {"error": describe(error)}
                lifecycle.fail(run=run, phase="result", message=message)
                return
            logger.warning("Run %s: the results cannot be stored yet: %s", run.public_id, error)
            if time.monotonic() > deadline:
                raise
            close_old_connections()
            time.sleep(0.5)


def _end_early(run: Run, watch: Watch, error: EngineError) -> None:
    """The engine gave no result: because we stopped it, or by itself."""
    match watch.reason:
        case "cancelled":
            lifecycle.end_cancelled(run=run, partial=error.partial)
        case "shutdown":
            if lifecycle.put_back(run=run):
                ring(run)
        case "lost":
            logger.warning("Run %s: the lease was lost, another worker has the run", run.public_id)
        case _:
            lifecycle.fail(run=run, phase=error.phase, message=_said_of(error), partial=error.partial)


def _said_of(error: EngineError) -> str:
    """The engine's sentence, and which input it is about: in a form it stands beside that, in a row nothing says so."""
    if error.kind != "spec" or not error.field:
        return error.message
    text = gettext_noop("The input “%(field)s” cannot be used. %(message)s")
    return text % {"field": error.field, "message": error.message}
