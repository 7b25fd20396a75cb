"""The worker's part in a look: in threads of its own, so that a server that is silent keeps no run waiting."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from llmcompare.endpoints import probing
from llmcompare.endpoints.models import Probe
from llmcompare.endpoints.targets import Target, Unavailable, resolve
from profiling.remote import look as looking

logger = logging.getLogger(__name__)

#: Seconds between writes of the progress.
SAY_S = 0.5


def carry_out(*, probe_id: int, worker: str, shutdown: threading.Event) -> None:
    """Look if it is still to be had. Returns when the row says how it ended, or when it is somebody else's."""
    if shutdown.is_set():
        return
    probe = probing.claim(probe_id=probe_id, worker=worker)
    if probe is None:
        return
    try:
        found = _look(probe, resolve(probe.endpoint), shutdown)
    except Unavailable as error:
        probing.fail(probe=probe, error=str(error))
    except Exception as error:
        # Without its traceback: frames below know the key.
        logger.error("Looking at endpoint %s: %s", probe.endpoint.public_id, type(error).__name__)
        probing.fail(probe=probe, error=probing.FAULT)
    else:
        if found is None:
            probing.put_back(probe=probe)
        elif not probing.finish(probe=probe, found=found):
            logger.warning("What was found of endpoint %s is dropped: it took too long", probe.endpoint.public_id)


def _look(probe: Probe, target: Target, shutdown: threading.Event) -> dict[str, Any] | None:
    """The network in one thread, the database in this one. ``None`` when the worker stops first."""
    said: tuple[float, str] = (0.0, "")
    shown = said

    def say(fraction: float, message: str) -> None:
        nonlocal said
        said = (fraction, message)

    key = target.headers().get("Authorization", "").removeprefix("Bearer ") or None
    place = looking.Place(target.url_base, target.model, target.api, key, target.networks, target.hide)
    network = ThreadPoolExecutor(1, thread_name_prefix="endpoint-look")
    try:
        answer: Future[dict[str, Any] | None] = network.submit(looking.look, place, say, shutdown)
        while not shutdown.is_set():
            try:
                return answer.result(timeout=SAY_S)
            except NotYet:
                if answer.done():
                    raise
            if said != shown:
                shown = said
                probing.report(probe=probe, fraction=said[0], message=said[1])
        return None
    finally:
        network.shutdown(wait=False)
