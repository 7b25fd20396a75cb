"""The parent's side of the engine process: start it, ask it, watch it, end it. Imports no torch.

One request and its answers are an :class:`profiling.exchange.Exchange`, which blocks on the child's pipes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from profiling import host
from profiling.exchange import WAKE_S, Exchange, Feed, Log, Progress, TakeArtifact, Wake
from profiling.failures import EngineError
from profiling.spawn import child_environment, remove_stale_folders, spawn, temporary_folder_name

__all__ = ["EngineChild", "EngineError", "Log", "Progress", "TakeArtifact", "Wake", "WarmChild", "warm_child"]

ROOT = Path(__file__).resolve().parent.parent


class EngineChild:
    """One engine process. A context manager; thread-safe in that requests are answered one after the other.

    ``warm`` imports torch and transformers at once instead of at the first request. ``memory_limit_bytes`` ends the process when it
    holds more than that (default: what is free on this machine when a request begins).
    """

    def __init__(self, *, warm: bool = False, memory_limit_bytes: int | None = None) -> None:
        self.memory_limit_bytes = memory_limit_bytes
        self.requests = 0
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._buffer = b""
        self._output: deque[str] = deque(maxlen=40)
        self._output_rest = b""
        remove_stale_folders()
        self._folder = tempfile.mkdtemp(prefix=temporary_folder_name())
        result_read, result_write = os.pipe()
        noise_read, noise_write = os.pipe()
        try:
            self._process = spawn(
                [sys.executable, "-m", "profiling.child", *(["--warm"] if warm else [])],
                stdin=subprocess.PIPE,
                stdout=noise_write,
                stderr=noise_write,
                pass_fds=(result_write,),
                cwd=ROOT,
                env=child_environment(folder=self._folder, result_fd=result_write),
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            os.close(result_read)
            os.close(noise_read)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            os.close(result_write)
            os.close(noise_write)
        self._results, self._noise = result_read, noise_read
        self._stdin = self._process.stdin.fileno()
        os.set_blocking(self._stdin, False)
        self._closed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._closed and self._process.poll() is None

    @property
    def output_tail(self) -> list[str]:
        """The last lines that libraries printed in the child: for logs, not for users."""
        return list(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def request(
        self,
        op: str,
        payload: dict[str, Any] | None = None,
        *,
        on_progress: Progress | None = None,
        on_log: Log | None = None,
        should_stop: Callable[[], bool] | None = None,
        timeout_s: float | None = None,
        on_wake: Wake | None = None,
        on_artifact: TakeArtifact | None = None,
        feed: Feed | None = None,
    ) -> dict[str, Any]:
        """The document that the child answers with. Raises :class:`EngineError`; after a kill the process is gone."""
        with self._lock:
            self.requests += 1
            exchange = Exchange(self, op, payload or {}, on_progress, on_log, should_stop, timeout_s, on_wake)
            exchange.on_artifact, exchange.feed = on_artifact, feed
            try:
                return exchange.run()
            except EngineError as error:
                if not exchange.answered:
                    self.kill()
                raise error
            except BaseException:
                self.kill()
                raise

    def kill(self) -> None:
        """End the process and its children at once."""
        if self._owner != os.getpid():
            return  # a copy made by fork: the process is our parent's
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.wait()
        self._release()

    def close(self, grace_s: float = 2.0) -> None:
        """Close its stdin, at which it exits; kill it when it has not after ``grace_s``. May be called twice."""
        if self._closed or self._owner != os.getpid():
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self.kill()

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        for descriptor in (self._results, self._noise):
            os.close(descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_noise(self, on_log: Log | None) -> bool:
        """Take what libraries printed; false at end of file."""
        data = os.read(self._noise, 65536)
        lines = (self._output_rest + data).split(b"\n")
        self._output_rest = lines.pop()[-2000:]
        for line in lines:
            text = line.decode(errors="replace").strip()[:2000]
            if text:
                self._output.append(text)
                if on_log:
                    on_log("output", text)
        return bool(data)


class WarmChild:
    """The process-wide engine child for short requests: torch is imported once, requests queue up behind each other.

    The process is replaced when it has died, after ``max_requests``, or when it holds more than ``max_memory_bytes``.
    While ``max_waiting`` requests wait, the next ones wait ``crowd_s`` seconds for a place and are refused then: each holds a thread
    of the web server, and a few slow questions must not take the site down.
    """

    def __init__(
        self, *, max_requests: int = 200, max_memory_bytes: int = 3 * 10**9, max_waiting: int = 2, crowd_s: float = 2.0
    ) -> None:
        self.max_requests, self.max_memory_bytes = max_requests, max_memory_bytes
        self._lock = threading.Lock()
        self._crowd_s = crowd_s
        self._places = threading.BoundedSemaphore(1 + max_waiting)
        self._child: EngineChild | None = None

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.alive else None

    def start(self) -> None:
        """Begin to import torch now, so that the first request need not wait. Returns at once."""
        if self._lock.acquire(blocking=False):
            try:
                self._ready()
            finally:
                self._lock.release()

    def request(
        self,
        op: str,
        payload: dict[str, Any] | None = None,
        *,
        on_progress: Progress | None = None,
        on_log: Log | None = None,
        should_stop: Callable[[], bool] | None = None,
        timeout_s: float | None = 60.0,
    ) -> dict[str, Any]:
        """As :meth:`EngineChild.request`; the time limit includes waiting for the requests before this one."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._places.acquire(timeout=self._crowd_s):
            raise _busy()
        try:
            self._acquire(deadline, should_stop)
        except BaseException:
            self._places.release()
            raise
        try:
            if deadline is not None and time.monotonic() > deadline:
                raise _busy()  # a request without time would only cost the process
            for attempt in (1, 2):
                child = self._ready()
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    return child.request(
                        op, payload, on_progress=on_progress, on_log=on_log, should_stop=should_stop, timeout_s=left
                    )
                except EngineError as error:
                    # It died before it took the request: nothing was begun, so asking again does nothing twice.
                    if attempt == 2 or (error.kind, error.phase) != ("killed", "start"):
                        raise
            raise AssertionError("unreachable")
        finally:
            self._lock.release()
            self._places.release()

    def close(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    def _acquire(self, deadline: float | None, should_stop: Callable[[], bool] | None) -> None:
        while not self._lock.acquire(timeout=WAKE_S):
            if should_stop and should_stop():
                raise EngineError(phase="queue", kind="cancelled", message="The request was cancelled.")
            if deadline is not None and time.monotonic() > deadline:
                raise _busy()

    def _ready(self) -> EngineChild:
        child = self._child
        if child is not None:
            fresh = child.requests < self.max_requests
            if child.alive and fresh and host.anonymous_memory(child.pid) < self.max_memory_bytes:
                return child
            child.close()
        self._child = EngineChild(warm=True)
        return self._child


def _busy() -> EngineError:
    return EngineError(
        phase="queue", kind="busy", message="The engine is busy with other requests. Try again in a moment."
    )


_warm: WarmChild | None = None
_warm_pid = 0
_warm_lock = threading.Lock()


def warm_child() -> WarmChild:
    """The one :class:`WarmChild` of this process (a forked process gets its own)."""
    global _warm, _warm_pid
    with _warm_lock:
        if _warm is None or _warm_pid != os.getpid():
            _warm, _warm_pid = WarmChild(), os.getpid()
            atexit.register(_warm.close)
        return _warm
