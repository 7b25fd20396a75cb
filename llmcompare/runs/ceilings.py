"""The worker's part in measuring the ceilings of its machine: when the machine is free, in fresh processes, with progress and cancel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext_noop

from hardware import measurements
from hardware.models import CeilingMeasurement, Host
from llmcompare.runs.executor import MACHINE
from llmcompare.runs.models import Run
from llmcompare.runs.watch import LeaseWatch
from profiling.ceiling_processes import measure_ceilings_in_processes
from profiling.client import EngineError
from profiling.failures import describe

logger = logging.getLogger(__name__)

#: For all processes together, by whether the set is the quick one; on a machine that nobody disturbs it takes a tenth of it.
TIMEOUT_S = {True: 600.0, False: 1800.0}


def carry_out(
    *,
    host: Host,
    worker: str,
    shutdown: threading.Event,
    measure: Callable[..., dict[str, Any]] = measure_ceilings_in_processes,
) -> bool:
    """Measure the ceilings of this machine if that was asked for; returns whether it was done (well or not).

    Waits until no run is measured here. It never holds the machine while it waits for another worker: that one may wait for us.
    """
    while not shutdown.is_set():
        measurement = _waiting(host)
        if measurement is None:
            return False
        if not MACHINE.acquire(timeout=0.25):
            continue
        try:
            if _take(measurement, worker):
                _measure(measurement, shutdown, measure)
                return True
        finally:
            MACHINE.release()
        shutdown.wait(0.5)
    return False


def _waiting(host: Host) -> CeilingMeasurement | None:
    waiting = CeilingMeasurement.objects.filter(host__slug=host.slug, state=CeilingMeasurement.State.QUEUED)
    return waiting.select_related("host").first()


def _take(measurement: CeilingMeasurement, worker: str) -> bool:
    """Claim it, unless another worker of this host measures a run; of two that begin at the same time the earlier one goes on."""
    if _run_elsewhere(measurement.host, worker) or not measurements.claim(measurement=measurement, worker=worker):
        return False
    if _run_elsewhere(measurement.host, worker, started__lt=measurement.started):
        measurements.put_back(measurement=measurement)
        return False
    return True


def _run_elsewhere(host: Host, worker: str, **more: Any) -> bool:
    """Whether another worker process of this machine measures a run. Our own cannot: we hold the machine."""
    return Run.objects.taking_machine(host.queue).filter(**more).exclude(worker=worker).exists()


def _measure(
    measurement: CeilingMeasurement, shutdown: threading.Event, measure: Callable[..., dict[str, Any]]
) -> None:
    watch = _Watch(measurement, shutdown)
    try:
        document = measure(
            quick=measurement.quick,
            on_progress=watch.progress,
            should_stop=watch.should_stop,
            timeout_s=TIMEOUT_S[measurement.quick],
        )
        if not measurements.finish(measurement=measurement, document=document):
            logger.warning("The ceilings of %s are dropped: the lease was lost", measurement.host)
    except EngineError as error:
        match watch.reason:
            case "cancelled":
                measurements.end_cancelled(measurement=measurement)
            case "shutdown":
                measurements.put_back(measurement=measurement)
            case "lost":
                logger.warning("Measuring the ceilings of %s: the lease was lost", measurement.host)
            case _:
                logger.warning("Measuring the ceilings of %s: %s", measurement.host, error)
                measurements.fail(measurement=measurement, message=error.message)
    except Exception as error:
        logger.exception("Measuring the ceilings of %s", measurement.host)
        measurements.fail(
            measurement=measurement,
            message=gettext_noop("The worker failed by a fault of its own. %(error)s") % {"error": describe(error)},
        )


class _Watch(LeaseWatch):
    """Relays progress to the row, and says when to stop and why."""

    def __init__(self, measurement: CeilingMeasurement, shutdown: threading.Event) -> None:
        super().__init__(f"Ceilings of {measurement.host}", shutdown)
        self.measurement = measurement
        self._said = (0.0, gettext_noop("The engine starts."))

    def cancel_wanted(self) -> bool | None:
        return measurements.cancel_wanted(measurement=self.measurement)

    def renew(self) -> bool:
        fraction, message = self._said
        return measurements.report(measurement=self.measurement, fraction=fraction, message=message)

    def progress(self, stage: str, fraction: float, message: str) -> None:
        self._said = (fraction, message)
        if self.may_report():
            self.write(self.renew)
