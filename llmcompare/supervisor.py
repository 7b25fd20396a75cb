"""Starts the web server and the worker, restarts what dies, stops everything. Standard library and psutil only, no Django.

Every service runs in a session of its own under ``llmcompare.guard``, which ends it should the supervisor be killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STOP_GRACE_S = 7.0  # after it, kill; with the rest the whole stop stays below ten seconds
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STABLE_S = 60.0  # a service that lived this long starts again with the shortest pause
GIVE_UP_AFTER = 4  # starts in a row, when the site never answered: then the trouble is not a passing one


@dataclass
class Service:
    """A child process: what to run, and how its restarts go."""

    name: str
    module: str
    arguments: list[str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen | None = None
    started: float = 0.0
    restart_at: float | None = 0.0
    failures: int = 0

    def pause_s(self) -> float:
        """Doubles with every quick failure."""
        return min(FIRST_PAUSE_S * 2 ** (self.failures - 1), LONGEST_PAUSE_S)


@dataclass
class Supervisor:
    services: list[Service]
    folder: Path
    environment: dict[str, str]
    say: Callable[[str], None]
    ready: threading.Event = field(default_factory=threading.Event)
    stopping: bool = False

    def run(self, started: Callable[[], None]) -> int:
        """Keep the services running until SIGINT, SIGTERM or SIGHUP. Returns 0, or 1 when a service could not be kept running.

        ``started`` is called once, after the services were started and while signals are heeded already.
        """
        wake_read, wake_write = os.pipe()
        self._lifeline, lifeline_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        earlier = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        earlier[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        gave_up = None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(wake_read, selectors.EVENT_READ)
                gave_up = self._look_after()
                started()
                while not self.stopping and gave_up is None:
                    gave_up = self._look_after()
                    if gave_up is None and not self.stopping:
                        selector.select(self._until_next_start())
                        with contextlib.suppress(BlockingIOError):
                            os.read(wake_read, 4096)
            if gave_up:
                self.say(f"The {gave_up.name} does not stay up (its messages are above). Stopping.")
            self._stop()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in earlier.items():
                signal.signal(number, handler)
            for descriptor in (wake_read, wake_write, self._lifeline, lifeline_write):
                os.close(descriptor)
        return 1 if gave_up else 0

    def _on_signal(self, number: int, frame: object) -> None:
        self.stopping = True

    def _until_next_start(self) -> float | None:
        waiting = [s.restart_at for s in self.services if s.restart_at is not None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _look_after(self) -> Service | None:
        """Note who died, start who is due. Returns the service that is given up on."""
        now = time.monotonic()
        for service in self.services:
            if service.process is not None and service.process.poll() is not None:
                self._kill_session(service.process)
                lived = now - service.started
                service.failures = 1 if lived > STABLE_S else service.failures + 1
                if service.failures >= GIVE_UP_AFTER and not self.ready.is_set():
                    return service
                how = _how_it_ended(service.process.returncode)
                self.say(
                    f"The {service.name} ended ({how}) after {lived:.0f} s; starting it again in {service.pause_s():.0f} s."
                )
                service.process, service.restart_at = None, now + service.pause_s()
            if service.restart_at is not None and service.restart_at <= now:
                self._start(service)
        return None

    def _start(self, service: Service) -> None:
        command = [
            sys.executable,
            "-m",
            "llmcompare.guard",
            str(self._lifeline),
            str(STOP_GRACE_S),
            service.module,
            *service.arguments,
        ]
        service.process = subprocess.Popen(  # noqa: S603
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(self._lifeline, *service.pass_fds),
            start_new_session=True,
        )
        service.started, service.restart_at = time.monotonic(), None

    def _stop(self) -> None:
        """Terminate, wait, kill; then whatever they left behind, wherever it went."""
        alive = [(s.name, s.process) for s in self.services if s.process is not None and s.process.poll() is None]
        descendants = psutil.Process().children(recursive=True)
        for _, process in alive:
            process.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for name, process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"The {name} does not stop by itself; killing it.")
            self._kill_session(process)
            process.wait()
        # psutil knows a process by number and start time, so a number that was given out again is left alone.
        _, left = psutil.wait_procs(descendants, timeout=0.5)
        for straggler in left:
            with contextlib.suppress(psutil.Error):
                straggler.kill()
        psutil.wait_procs(left, timeout=1)

    @staticmethod
    def _kill_session(leader: subprocess.Popen) -> None:
        """The service leads its session's process group; some of its children may still be in it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"by signal {signal.Signals(-code).name}"
    return f"exit code {code}"
