"""``manage.py up`` as a real process with a data folder of its own, watched through its output."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


class Up:
    """A started ``up``. ``lines`` is everything it has printed so far."""

    def __init__(self, data: Path, *arguments: str, stdin: int = subprocess.DEVNULL, **environment: str):
        variables = {k: v for k, v in os.environ.items() if k not in ("LLMCOMPARE_URL", "DATABASE_URL", "BROKER_URL")}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", *arguments],
            cwd=ROOT,
            env=variables | {"LLMCOMPARE_DATA": str(data), "LLMCOMPARE_NO_BOOTSTRAP": "1"} | environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.known: list[psutil.Process] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = 90) -> str:
        """Block until a line matches; fail with all the output when the process ends before, or takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing like {pattern!r} after {seconds} s:\n{self.output}") from None
            if line is None:
                raise AssertionError(f"ended before {pattern!r}:\n{self.output}")
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def wait_until_running(self) -> float:
        """Seconds from the start until the address was printed."""
        self.wait_for("llmcompare is running")
        return time.monotonic() - self.started

    def finish(self, seconds: float = 60) -> int:
        """Read to the end; the exit code."""
        while (line := self._queue.get(timeout=seconds)) is not None:
            self.lines.append(line)
        return self.process.wait(seconds)

    def family(self) -> list[psutil.Process]:
        self.known = psutil.Process(self.process.pid).children(recursive=True)
        return self.known

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *exc) -> None:
        if self.process.poll() is None:
            self.family()
            self.process.kill()
            self.process.wait()
        for process in alive_after(self.known, 15):
            process.kill()


def alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after so many seconds. One that nobody has collected yet (a zombie) does not run."""
    _, left = psutil.wait_procs(processes, timeout=0)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        _, left = psutil.wait_procs(left, timeout=0.2)
        left = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    return left
