"""One request to an engine process and its answers, as the parent waits for them. Imports no torch.

The parent blocks in ``poll`` on the child's pipes and wakes four times a second to look at the clock, at the caller's wish to
stop and at the child's memory: a parent that spins would take a core from what is being measured.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiling import host
from profiling.artifacts import read_packed
from profiling.failures import EngineError, killed_message

if TYPE_CHECKING:
    from profiling.client import EngineChild

WAKE_S = 0.25

Progress = Callable[[str, float, str], None]
Log = Callable[[str, str], None]
#: Called with the child's process number and its phase whenever the parent wakes, at least every WAKE_S: it must be quick.
Wake = Callable[[int, str], None]
#: Called with kind, bytes and facts of each file that the child made (:mod:`profiling.artifacts`). What it raises ends the request.
TakeArtifact = Callable[[str, bytes, dict[str, Any]], None]
#: Asked whenever the parent wakes for what the child should know from now on (:mod:`profiling.feed`); None: nothing new.
Feed = Callable[[], dict[str, Any] | None]


class Exchange:
    """One request and its answers: the state of the loop in :meth:`run`."""

    def __init__(
        self,
        child: EngineChild,
        op: str,
        payload: dict[str, Any],
        on_progress: Progress | None,
        on_log: Log | None,
        should_stop: Callable[[], bool] | None,
        timeout_s: float | None,
        on_wake: Wake | None,
    ) -> None:
        self.on_wake = on_wake
        self.on_artifact: TakeArtifact | None = None
        self.feed: Feed | None = None
        self.child, self.id, self.op = child, child.requests, op
        self.on_progress, self.on_log, self.should_stop = on_progress, on_log, should_stop
        self.pending = json.dumps({**payload, "id": self.id, "op": op}).encode() + b"\n"
        self.started = time.monotonic()
        self.timeout_s = timeout_s
        self.phase = "start"
        self.answered = False
        self.partial: dict[str, Any] | None = None
        self.memory_limit = child.memory_limit_bytes

    def run(self) -> dict[str, Any]:
        child = self.child
        if not child.alive:
            raise self._ended()
        if self.memory_limit is None:
            free = host.available_memory()
            self.memory_limit = None if free is None else int(free * 0.97) + host.family_memory(child.pid)
        noise = [child._noise]
        while True:
            ready = _ready([child._results, *noise], [child._stdin] if self.pending else [])
            if child._stdin in ready:
                try:
                    self.pending = self.pending[os.write(child._stdin, self.pending) :]
                except BrokenPipeError:
                    self.pending = b""  # it is ending: its results will say so
                except BlockingIOError:
                    pass
            if noise and child._noise in ready and not child._read_noise(self.on_log):
                noise = []
            if child._results in ready:
                data = os.read(child._results, 1 << 20)
                if not data:
                    raise self._ended()
                document = self._take(data)
                if document is not None:
                    return document
            self._watch()

    def _watch(self) -> None:
        """Raise when the caller wants to stop, time is up, or the child holds too much memory."""
        if self.on_wake:
            self.on_wake(self.child.pid, self.phase)
        if self.feed and not self.pending and (news := self.feed()) is not None:
            self.pending = json.dumps({"feed": news}).encode() + b"\n"
        if self.should_stop and self.should_stop():
            raise self._error("cancelled", "The run was cancelled.")
        if self.timeout_s is not None and time.monotonic() - self.started > self.timeout_s:
            message = (
                f"The time limit of {self.timeout_s:.3g} s was reached during the stage “{self.phase}”. Ask for fewer "
                "iterations or tokens, a smaller batch, or raise the limit."
            )
            raise self._error("timeout", message)
        if self.memory_limit is not None:
            used = host.family_memory(self.child.pid)
            if used > self.memory_limit:
                message = (
                    f"The run needed more than the {self.memory_limit / 1e9:.1f} GB of memory that it may use here and was "
                    f"stopped during the stage “{self.phase}”. Use a smaller model, dtype, batch or context, or run an estimate."
                )
                raise self._error("memory", message)

    def _take(self, data: bytes) -> dict[str, Any] | None:
        """Handle complete lines; the document of the final one, or ``None`` while there is none."""
        child = self.child
        *lines, child._buffer = (child._buffer + data).split(b"\n")
        for line in lines:
            try:
                answer = json.loads(line)
            except ValueError as error:
                raise self._error("protocol", "The engine process sent a line that is not JSON.") from error
            if answer.get("id") != self.id:
                continue
            document = self._handle(answer)
            if document is not None:
                return document
        return None

    def _handle(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        match answer.get("type"):
            case "accepted":
                self.phase = self.op
            case "progress":
                self.phase = answer["stage"]
                if self.on_progress:
                    self.on_progress(answer["stage"], answer["fraction"], answer["message"])
            case "log":
                if self.on_log:
                    self.on_log(answer["level"], answer["message"])
            case "partial":
                self.partial = answer["document"]
            case "artifact":
                self._take_artifact(answer)
            case "result":
                self.answered = True
                return answer["document"]
            case "error":
                self.answered = True
                error = EngineError.from_json(answer)
                error.partial = error.partial or self.partial
                raise error
            case other:
                raise self._error("protocol", f"The engine process sent an answer of unknown type {other!r}.")
        return None

    def _take_artifact(self, answer: dict[str, Any]) -> None:
        """Hand on a file from the child's own folder; one that cannot be read is said in the log and costs nothing else."""
        if self.on_artifact is None:
            return
        path = Path(answer["path"])
        try:
            data = read_packed(path, answer["facts"], Path(self.child._folder))
            path.unlink()
        except (OSError, ValueError) as error:
            if self.on_log:
                self.on_log("warning", f"The file {answer['facts'].get('file')} was lost: {error}.")
            return
        self.on_artifact(answer["kind"], data, answer["facts"])

    def _error(self, kind: str, message: str) -> EngineError:
        return EngineError(phase=self.phase, kind=kind, message=message, partial=self.partial)

    def _ended(self) -> EngineError:
        """The child's results ended without an answer: say how it died."""
        try:
            code = self.child._process.wait(2)
        except subprocess.TimeoutExpired:
            return self._error("protocol", "The engine process closed its results without an answer.")
        if code < 0:
            return self._error("killed", killed_message(-code, self.phase))
        tail = f" Its last words: {self.child._output[-1]}" if self.child._output else ""
        return self._error("killed", f"The engine process exited with code {code} without an answer.{tail}")


def _ready(readers: list[int], writers: list[int]) -> set[int]:
    """Descriptors that can be read or written, or have ended; waits for WAKE_S at most. ``poll``: ``select`` ends at number 1024."""
    poll = select.poll()
    for descriptor in readers:
        poll.register(descriptor, select.POLLIN)
    for descriptor in writers:
        poll.register(descriptor, select.POLLOUT)
    return {descriptor for descriptor, _ in poll.poll(WAKE_S * 1000)}
