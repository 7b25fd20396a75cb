"""The engine process of an endpoint's run: told where to go and with which headers, over its standard input, when it begins.

Keys are read here, in the worker, and go nowhere but into that pipe: not into arguments, environments, broker messages, documents or logs.
Credentials that are renewed while the load runs follow over the same pipe.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from django.db import close_old_connections
from django.utils.translation import gettext as _

from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.places import moved
from llmcompare.endpoints.targets import Target, Unavailable, resolve
from llmcompare.runs.models import Run
from profiling.client import EngineChild
from profiling.failures import EngineError
from profiling.remote.addresses import Refused, addresses, server

#: How often headers are looked at anew, in seconds. A token of Google's lives an hour and is renewed minutes before its end.
RENEW_S = 60.0
#: Beyond its own time limit the engine may take so long to count tokens and write its document.
AFTER_S = 60.0
#: A load that is to stop gives up its requests at once, and has so long to write down what it had.
STOP_S = 5.0


def target_of(run: Run) -> Target:
    """Where the run's requests go now. Raises :class:`EngineError` with a sentence for its owner."""
    endpoint = Endpoint.objects.visible_to(run.owner).filter(pk=run.endpoint_id).first()
    if endpoint is None:
        raise _missing(_("The endpoint is gone, or not shared with you any more. Choose another one."))
    if moved(endpoint, (run.spec.get("endpoint") or {}).get("place")):
        raise _missing(_("The endpoint has another address since this run was asked for. Start the run again."))
    try:
        return resolve(endpoint)
    except Unavailable as error:
        raise _missing(str(error)) from None


def _missing(message: str) -> EngineError:
    return EngineError(phase="connect", kind="missing", message=message, field="endpoint")


def is_here(target: Target) -> bool:
    """Whether the server is on this very machine, so that its work and a measurement would disturb each other."""
    try:
        found = server(target.exact_url or target.url_base)
        networks = target.networks
        ends = {ipaddress.ip_address(text) for text in addresses(found.host, found.port, networks)}
    except (Refused, ValueError):
        return False  # the engine says what is wrong with it
    mine = {
        entry.address.split("%", 1)[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
    return any(end.is_loopback or str(end) in mine for end in ends)


class EndpointEngine:
    """Answers like :class:`profiling.client.EngineChild`; each request has a process of its own. A load that is to stop answers with what it
    had, if it can in :data:`STOP_S`."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        *,
        on_progress: Callable[[str, float, str], None],
        on_log: Callable[[str, str], None],
        should_stop: Callable[[], bool],
        timeout_s: float,
    ) -> dict[str, Any]:
        target = self._target
        renewal, ending = Renewal(target.headers), Ending(should_stop)
        where = {
            "base": target.url_base,
            "exact_url": target.exact_url,
            "api": target.api,
            "usage": target.usage,
            "allowed": list(target.allowed),
        }
        asked = payload | {"target": where, "headers": renewal.first()}
        asked["spec"] = _within(payload["spec"], timeout_s)
        try:
            with EngineChild() as child:
                return child.request(
                    op,
                    asked,
                    on_progress=lambda stage, fraction, message: on_progress(stage, fraction, target.hide(message)),
                    on_log=lambda level, message: on_log(level, target.hide(message)),
                    should_stop=ending.is_over,
                    timeout_s=timeout_s + AFTER_S,
                    feed=lambda: ending.news() or renewal.news(),
                )
        except EngineError as error:
            error.message = target.hide(error.message)
            raise
        finally:
            renewal.stop()


def _within(spec: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """The frozen inputs with a time limit that is no longer than this installation's."""
    workload = spec["workload"]
    return spec | {"workload": workload | {"time_limit_s": min(limit_s, workload["time_limit_s"])}}


class Ending:
    """Tells the engine to stop before its process is ended: what was measured since it last told is not lost."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._since: float | None = None
        self._told = False

    def is_over(self) -> bool:
        """Whether the engine has had its time to stop by itself."""
        if not self._should_stop():
            return False
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since > STOP_S

    def news(self) -> dict[str, Any] | None:
        if self._since is None or self._told:
            return None
        self._told = True
        return {"stop": True}


class Renewal:
    """Looks at the headers now and then, in a thread: fetching a token takes longer than the engine's pipe should wait."""

    def __init__(self, headers: Callable[[], dict[str, str]]) -> None:
        self._headers = headers
        self._known: dict[str, str] = {}
        self._fresh: dict[str, str] | None = None
        self._looked = time.monotonic()
        self._thread: threading.Thread | None = None
        self._ended = False

    def first(self) -> dict[str, str]:
        """Raises :class:`EngineError` when there are none to be had."""
        try:
            self._known = dict(self._headers())
        except Unavailable as error:
            raise _missing(str(error)) from None
        return self._known

    def news(self) -> dict[str, Any] | None:
        """What the engine should use from now on; None: what it has. Returns at once."""
        if time.monotonic() - self._looked > RENEW_S and not self._ended:
            self._looked = time.monotonic()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="endpoint-headers", daemon=True)
                self._thread.start()
        fresh, self._fresh = self._fresh, None
        return None if fresh is None else {"headers": fresh}

    def stop(self) -> None:
        self._ended = True

    def _look(self) -> None:
        """What cannot be renewed stays as it is: the server says when it no longer takes it."""
        try:
            found = dict(self._headers())
        except Exception:
            return
        finally:
            close_old_connections()
        if found != self._known:
            self._known = self._fresh = found
