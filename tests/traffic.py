"""Requests that a live server is still answering when a test is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.signals import request_finished, request_started
from django.test.client import ClientHandler

#: A request that a browser had sent when its window was closed reaches its view after that.
QUIET_S = 0.1


class Traffic:
    """Counts requests between their first and their last signal."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = 0

    def begin(self, sender: object, **signal: object) -> None:
        if sender is ClientHandler:  # the test's own, which may never be read to the end
            return
        with self._changed:
            self._open += 1
            self._changed.notify_all()

    def end(self, sender: object, **signal: object) -> None:
        if sender is ClientHandler:  # the test's own, which may never be read to the end
            return
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for_quiet(self, seconds: float = 30.0) -> None:
        """Until none was open for :data:`QUIET_S`; fails after ``seconds``."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while time.monotonic() < deadline:
                if self._open:
                    self._changed.wait(deadline - time.monotonic())
                elif not self._changed.wait(QUIET_S):
                    return
            raise AssertionError(f"{self._open} requests were still open {seconds:g} s after the test")


@contextmanager
def counted() -> Iterator[Traffic]:
    traffic = Traffic()
    request_started.connect(traffic.begin)
    request_finished.connect(traffic.end)
    try:
        yield traffic
    finally:
        request_started.disconnect(traffic.begin)
        request_finished.disconnect(traffic.end)
