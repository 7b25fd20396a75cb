"""Carrying out one run: claim it, have the engine work on it in child processes, watch all, and write the outcome.

Runs in a thread of the worker. All waiting happens inside ``EngineChild.request``, which asks ``Watch.should_stop`` at least four times a
second: there the lease is renewed, and cancellation, shutdown and the loss of the lease are noticed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, close_old_connections
from django.utils import timezone

from hardware import measurements
from llmcompare.runs import lifecycle
from llmcompare.runs.models import Run
from llmcompare.runs.queues import ring
from profiling.client import EngineChild, EngineError, warm_child
from profiling.failures import describe
from profiling.fresh import FreshProcesses
from profiling.protocol import Protocol as Repetition

logger = logging.getLogger(__name__)

#: Seconds between looks at the row, and between writes of progress within one stage.
LOOK_S = 0.5
PROGRESS_S = 1.0
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


class Watch:
    """The link between a run's row and its engine child: relays progress and log, and says when to stop and why.

    ``reason`` is ``""`` while the run goes on, then ``cancelled``, ``shutdown`` or ``lost`` (the run is no longer this worker's).
    """

    def __init__(self, run: Run, shutdown: threading.Event) -> None:
        self.run, self.shutdown = run, shutdown
        self.reason = ""
        self.stage = "start"
        self._looked = self._reported = 0.0
        self._held = time.monotonic()
        self._lines = 0

    def should_stop(self) -> bool:
        """Look at the row now and then; true once the run must end early."""
        if not self.reason and self.shutdown.is_set():
            self.reason = "shutdown"
        now = time.monotonic()
        if self.reason or now - self._looked < LOOK_S:
            return bool(self.reason)
        self._looked = now
        try:
            cancelled = lifecycle.cancel_wanted(run=self.run)
            if cancelled:
                self.reason = "cancelled"
            elif cancelled is None:
                self.reason = "lost"
            elif now - self._held > settings.RUN_LEASE_S / 4:
                self._keep(lifecycle.renew(run=self.run))
        except DatabaseError as error:
            self._database_away(error)
        return bool(self.reason)

    def progress(self, stage: str, fraction: float, message: str) -> None:
        """Relay the engine's progress: every new stage, and within one about once a second."""
        now = time.monotonic()
        if self.reason or (stage == self.stage and now - self._reported < PROGRESS_S):
            return
        try:
            if stage != self.stage:
                self.log("info", message or stage, stage=stage)
            self.stage, self._reported = stage, now
            self._keep(lifecycle.report(run=self.run, stage=stage, fraction=fraction, message=message))
        except DatabaseError as error:
            self._database_away(error)

    def log(self, level: str, message: str, *, stage: str = "") -> None:
        """Relay a line of the engine's log, up to a limit: a library that prints without end must not fill the database."""
        self._lines += 1
        if self.reason or self._lines > MAX_LOG_LINES:
            return
        if self._lines == MAX_LOG_LINES:
            message = f"The log is cut here: it has more than {MAX_LOG_LINES} lines."
        try:
            self._keep(lifecycle.log(run=self.run, level=level, message=message, stage=stage or self.stage))
        except DatabaseError as error:
            self._database_away(error)

    def _keep(self, held: bool) -> None:
        if held:
            self._held = time.monotonic()
        else:
            self.reason = "lost"

    def _database_away(self, error: DatabaseError) -> None:
        """Without the database the run goes on for as long as the lease lasts: then another worker may have it."""
        logger.warning("Run %s: the database does not answer: %s", self.run.public_id, error)
        close_old_connections()
        if time.monotonic() - self._held > settings.RUN_LEASE_S:
            self.reason = "lost"


@contextmanager
def open_engine(run: Run, watch: Watch) -> Iterator[Engine]:
    """The warm child for an estimate; for a measurement fresh ones, on a machine that does nothing else for us."""
    if run.is_estimate:
        yield warm_child()
        return
    protocol = Repetition.from_json(run.spec.get("protocol") or {"processes": 1})
    with quiet_machine(run, watch):
        yield FreshProcesses(protocol, EngineChild)


@contextmanager
def quiet_machine(run: Run, watch: Watch) -> Iterator[None]:
    """Wait until nothing else of ours runs on this machine: its preparation, or a measurement that began earlier."""
    while not MACHINE.acquire(timeout=0.25):
        _wait(watch, "Waiting until this machine has been prepared: its ceilings are measured, or weights converted.")
    try:
        while _measured_earlier(run):
            _wait(watch, "Waiting for another measurement on this machine to end.")
            time.sleep(0.25)
        yield
    finally:
        MACHINE.release()


def _wait(watch: Watch, message: str) -> None:
    watch.progress("waiting", 0, message)
    if watch.should_stop():
        raise EngineError(phase="waiting", kind="cancelled", message="The run was stopped while it waited.")


def _measured_earlier(run: Run) -> bool:
    """Whether another worker of the same host measures a run or ceilings, and began before this one. A lease that ran out does not count."""
    others = Run.objects.filter(state="running", kind=run.kind, queue=run.queue, lease_until__gte=timezone.now())
    order = others.exclude(pk=run.pk).values_list("started", "pk")
    if any((started, pk) < (run.started, run.pk) for started, pk in order):
        return True
    return measurements.under_way_elsewhere(queue=run.queue, worker=run.worker, before=run.started)


def execute(*, run_id: int, worker: str, shutdown: threading.Event, open_engine: OpenEngine = open_engine) -> None:
    """Carry out a run if it is still to be had. Returns when its row says how it ended, or when it is somebody else's."""
    if shutdown.is_set():
        return  # the sweep rings again for whoever comes next
    run = lifecycle.claim(run_id=run_id, worker=worker)
    if run is None:
        return
    watch = Watch(run, shutdown)
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
            run=run, phase=watch.stage, message=f"The worker failed by a fault of its own. {describe(error)}"
        )
    else:
        _finish(run, document)


def _time_limit(run: Run) -> float:
    longest = min(settings.MAX_RUN_SECONDS, MAX_ESTIMATE_S) if run.is_estimate else settings.MAX_RUN_SECONDS
    return min(float(longest), float(run.spec["workload"]["time_limit_s"]))


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
                message = f"The engine's result cannot be stored: {describe(error)}. This is a fault of the portal; please report it."
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
            lifecycle.end_cancelled(run=run)
        case "shutdown":
            if lifecycle.put_back(run=run):
                ring(run)
        case "lost":
            logger.warning("Run %s: the lease was lost, another worker has the run", run.public_id)
        case _:
            lifecycle.fail(run=run, phase=error.phase, message=error.message, partial=error.partial)
