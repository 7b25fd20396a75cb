"""What a worker process does beside executing runs of this machine: it registers it, sweeps, prepares it in the background, measures its
ceilings when somebody asks, and carries out runs of endpoints.

None of it keeps the worker from taking runs; a measurement alone waits while the machine is being prepared (``executor.MACHINE``).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from django.conf import settings
from django.db import close_old_connections, connections

from hardware import measurements
from hardware import services as hardware
from hardware.models import Host
from llmcompare.catalog import hub
from llmcompare.catalog import services as catalog
from llmcompare.catalog.models import LanguageModel
from llmcompare.runs.ceilings import carry_out
from llmcompare.runs.executor import MACHINE, execute
from llmcompare.runs.extract import make_missing
from llmcompare.runs.models import Run
from llmcompare.runs.queues import host_queue, host_slug, worker_queues
from llmcompare.runs.sweep import sweep
from profiling import weights
from profiling.client import EngineError, warm_child
from profiling.host import detect

logger = logging.getLogger(__name__)

TOUCH_S = 10.0
#: Runs of endpoints that one worker has under way at a time.
ENDPOINT_RUNS = 3
WEIGHTS_DIR = settings.DATA_DIR / "weights"


class Worker:
    """One worker process. ``shutdown`` is set once it has been asked to stop; everything here watches it. ``wanted`` is set when somebody
    asked for this machine's ceilings."""

    def __init__(self) -> None:
        self.shutdown = threading.Event()
        self.registered = threading.Event()
        self.wanted = threading.Event()
        self._bells = threading.Semaphore(0)
        self._asking: list[threading.Thread] = []
        self.host: Host | None = None
        self._touched = 0.0

    @property
    def name(self) -> str:
        return f"{host_slug()}:{os.getpid()}"

    def start(self) -> None:
        """Begin in the background; returns at once."""
        for target in (self._keep, self._prepare, *[self._ask_endpoints] * ENDPOINT_RUNS):
            thread = threading.Thread(target=target, name=f"worker{target.__name__}", daemon=True)
            thread.start()
            if target == self._ask_endpoints:
                self._asking.append(thread)

    def stop(self) -> None:
        self.shutdown.set()
        self.wanted.set()
        for _ in range(ENDPOINT_RUNS):
            self._bells.release()

    def wait(self, seconds: float = 10.0) -> None:
        """Until runs of endpoints that were under way are back in the queue; after ``stop``."""
        deadline = time.monotonic() + seconds
        for thread in self._asking:
            thread.join(max(0.0, deadline - time.monotonic()))

    def ring_for_endpoints(self) -> None:
        """A run of an endpoint waits."""
        self._bells.release()

    def _ask_endpoints(self) -> None:
        """Carry out runs of endpoints, beside the one run of this machine: they wait for another machine for minutes, and use little of this
        one. A bell that is lost costs one round of the sweep."""
        while not self.shutdown.is_set():
            self._bells.acquire(timeout=settings.RUN_SWEEP_S)
            try:
                waiting = Run.objects.waiting().filter(kind=Run.Kind.ENDPOINT, queue__in=worker_queues())
                for run_id in list(waiting.order_by("created", "pk").values_list("pk", flat=True)):
                    execute(run_id=run_id, worker=self.name, shutdown=self.shutdown)
            except Exception:
                logger.exception("Looking for runs of endpoints failed and is tried again")
            finally:
                close_old_connections()
        connections.close_all()

    def _keep(self) -> None:
        """Show that this machine is alive, and sweep, until shutdown. No fault ends it: without it, lost runs stay lost."""
        looked = time.time()
        while not self.shutdown.is_set():
            recovering: tuple[Callable[[], object], ...] = (sweep, measurements.recover_lost)
            if was_away(looked, time.time()):
                logger.warning(
                    "This machine slept, or its clock was set: leases may have ended unseen; one round is left out"
                )
                recovering = ()
            looked = time.time()
            for step in (self._show_alive, *recovering, _clear_processed_messages):
                try:
                    step()
                except Exception:
                    logger.exception("The worker's housekeeping failed and is tried again")
                finally:
                    close_old_connections()
            self.shutdown.wait(settings.RUN_SWEEP_S)
        connections.close_all()

    def _show_alive(self) -> None:
        if self.host is None:
            detected = detect() | {"queues": worker_queues()}
            self.host = hardware.register_host(detected=detected, queue=host_queue(host_slug()))
            logger.info("This machine is %s: %s", self.host, self.host.hardware)
            self.registered.set()
        elif time.monotonic() - self._touched > TOUCH_S:
            hardware.touch_host(host=self.host)
        else:
            return
        self._touched = time.monotonic()

    def _prepare(self) -> None:
        """Warm the engine, measure the ceilings once, convert real weights once: one after the other, or they disturb each other. Then
        measure ceilings whenever they are asked for."""
        while not self.registered.wait(0.5):
            if self.shutdown.is_set():
                return
        if self.host is None or not self.host.has_engine:
            logger.warning("This worker has no engine: %s", self.host.engine_note if self.host else "")
            return
        for step in (self._warm_engine, self._first_ceilings, self._prepare_weights):
            self._attempt(step)
        while not self.shutdown.is_set():
            self.wanted.wait(settings.RUN_SWEEP_S)
            self.wanted.clear()
            self._attempt(self._measure_ceilings)
            self._attempt(self._fetch_from_hub)
            self._attempt(self._older_extracts)
        connections.close_all()

    def _attempt(self, step: Callable[[], None]) -> None:
        if self.shutdown.is_set():
            return
        try:
            step()
        except Exception:
            logger.exception("Preparing this machine: %s failed", step.__name__.strip("_"))
        finally:
            close_old_connections()

    def _warm_engine(self) -> None:
        warm_child().request("ping", should_stop=self.shutdown.is_set)

    def _first_ceilings(self) -> None:
        """Quick ceilings, once per machine and per fingerprint."""
        host = Host.objects.get(slug=host_slug())
        if host.ceilings_state != "done":
            measurements.ask(host=host)
        self._measure_ceilings()

    def _measure_ceilings(self) -> None:
        if self.host is not None:
            carry_out(host=self.host, worker=self.name, shutdown=self.shutdown)

    def _older_extracts(self) -> None:
        """What comparisons read of runs that ended before extracts were kept. Not beside a measurement, which it would disturb."""
        while not self.shutdown.is_set() and not Run.objects.filter(state="running", host__slug=host_slug()).exists():
            if not make_missing():
                return

    def _prepare_weights(self) -> None:
        """Real weights of every installed package that the catalogue lists, ready to be loaded (a conversion takes 10-30 s, once)."""
        listed = LanguageModel.objects.filter(slug__in=weights.find_packages(), source=LanguageModel.Source.PACKAGE)
        for model in listed:
            if self.shutdown.is_set():
                return
            ready = weights.ready_folder(model.slug, WEIGHTS_DIR)
            if ready is not None and model.weights == model.Weights.LOCAL and model.weights_path == str(ready):
                continue
            # Nothing to convert, nothing to disturb: the machine is free at once.
            with nullcontext() if ready is not None else MACHINE:
                self._prepare_one(model.slug)

    def _fetch_from_hub(self) -> None:
        """Weights that somebody asked for, one model at a time: what runs meanwhile would be disturbed, so measurements wait."""
        while not self.shutdown.is_set() and (model := hub.wanted()) is not None:
            with MACHINE:
                hub.fetch(model=model, should_stop=self.shutdown.is_set)

    def _prepare_one(self, slug: str) -> None:
        try:
            path = weights.prepare(slug, WEIGHTS_DIR, should_stop=self.shutdown.is_set)
        except EngineError as error:
            logger.warning("Preparing the weights of %s: %s", slug, error)
            if error.kind != "cancelled":
                catalog.weights_failed(slug=slug, message=error.message)
        else:
            catalog.weights_ready(slug=slug, path=path)
            logger.info("The weights of %s are ready", slug)


def was_away(before: float, now: float) -> bool:
    """Whether so much time (of the wall clock, seconds) passed between two rounds of the sweep that leases ended without anybody's fault:
    the machine slept, was paused or overloaded, or its clock was set. Those who hold leases need a round to renew them."""
    return now - before > settings.RUN_SWEEP_S + settings.RUN_LEASE_S / 2


def _clear_processed_messages() -> None:
    """The filesystem broker moves a message that was taken to a folder and leaves it there."""
    if not settings.BROKER_URL.startswith("filesystem://"):
        return
    for message in (settings.BROKER_DIR / "taken").glob("*.msg"):
        message.unlink(missing_ok=True)
