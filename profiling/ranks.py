"""One model on several devices of this machine: tensor parallelism by the plan that transformers has for it, one process (rank) per device.

The engine process is rank 0, and the only one that measures. It starts the others (:mod:`profiling.rank`) and tells them through their
stdin, one JSON line each, which pass comes next; all of them then run the same pass in step, joined by the collectives inside of it. A
rank ends when its stdin does, so none outlives the engine process. On processors the ranks are processes that share one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist

from profiling.failures import EngineError, describe, killed_message
from profiling.loading import Inputs
from profiling.spec import ModelSpec, Workload

ROOT = Path(__file__).resolve().parent.parent
#: A rank that is lost while the others wait inside a collective is said after so many seconds; most backends notice by themselves before.
NOTICE_S = 5.0
#: How long ranks wait for each other to begin, and in any collective: the time limit of the run ends them sooner.
TIMEOUT = timedelta(hours=2)
#: Collectives stay on this machine.
VARIABLES = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
#: Libraries read from them which rank this is.
NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
#: Which of several ranks that ended is told of: those that only met the end of another one fail somewhere inside of a library.
_TELLING = ("killed", "memory")


class Ranks:
    """The ranks of one measurement, as rank 0 sees them. A context manager: at its end no other rank is left.

    ``threads``: of torch in each rank. ``report``: the engine's progress; where it can ``send`` (a process of its own), a rank that is
    lost while this one is held inside a collective ends this process with the reason.
    """

    def __init__(self, model: ModelSpec, workload: Workload, device: torch.device, threads: int, report: Any) -> None:
        self.size, self.device = workload.tensor_parallel, device
        self._report = report
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        self._others: list[subprocess.Popen[str]] = []
        self._ending, self._one_ended = threading.Event(), threading.Event()
        self._before = {name: os.environ.get(name) for name in (*VARIABLES, *NUMBERS)}
        self._sent: Inputs | None = None
        self._first = {
            "model": model.to_json(),
            "workload": workload.to_json(),
            "device": device.type,
            "size": self.size,
            "threads": threads,
            "folder": self._folder.name,
        }

    @property
    def backend(self) -> str:
        return backend_of(self.device)

    @property
    def shared_machine(self) -> bool:
        """Whether the ranks are processes of one machine, and not devices of their own."""
        return self.device.type == "cpu"

    def describe(self) -> dict[str, Any]:
        """The document's ``parallel``."""
        names = [f"process {rank}" for rank in range(self.size)]
        if not self.shared_machine:
            names = [torch.cuda.get_device_name(rank) for rank in range(self.size)]
        return {
            "tensor_parallel": self.size,
            "by": "transformers",
            "backend": self.backend,
            "shared_machine": self.shared_machine,
            "devices": names,
            "measured_on": "the first of them: memory, and the times of modules and operators, are its own",
        }

    @property
    def pids(self) -> tuple[int, ...]:
        """Process numbers of the other ranks."""
        return tuple(other.pid for other in self._others)

    def __enter__(self) -> Self:
        try:
            for rank in range(1, self.size):
                self._others.append(self._start(rank))
            for rank in range(1, self.size):
                threading.Thread(target=self._watch, args=(rank,), name=f"rank-{rank}", daemon=True).start()
            join(self._folder.name, 0, self.size, self.device)
        except BaseException as error:
            lost = self.lost(NOTICE_S) if isinstance(error, Exception) else None
            self._end(failed=True)
            if lost is not None:
                raise lost from error
            raise
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        failed = error is not None and not isinstance(error, EngineError)
        lost = self.lost(NOTICE_S) if failed else None  # what the others say explains what this one met
        self._end(failed=error is not None)
        if lost is not None:
            raise lost from error

    def announce(self, what: str, inputs: Inputs, *arguments: Any) -> None:
        """Tell the others the pass that comes next, and wait until all of them are there: nobody's start is part of its time."""
        message: dict[str, Any] = {"pass": what, "arguments": arguments}
        if inputs is not self._sent:
            self._sent = inputs
            message["inputs"] = {
                "ids": inputs.ids.tolist(),
                "mask": None if inputs.mask is None else inputs.mask.tolist(),
                "stop": sorted(inputs.stop),
            }
        line = json.dumps(message) + "\n"
        for other in self._others:
            try:
                if other.stdin is not None:
                    other.stdin.write(line)
                    other.stdin.flush()
            except OSError as error:
                raise self.lost(NOTICE_S) or _gone(error) from error
        together(self.device)

    def lost(self, patience_s: float = 0.0) -> EngineError | None:
        """Why a rank ended before its time; None when none has within ``patience_s``. Of several, the one that others may have failed of."""
        self._one_ended.wait(patience_s)
        found = [self._reason(rank, code) for rank, other in enumerate(self._others, 1) if (code := other.poll())]
        told = sorted(found, key=lambda error: _TELLING.index(error.kind) if error.kind in _TELLING else len(_TELLING))
        return told[0] if told else None

    def check_in_step(self, error: Exception, *, more: bool) -> None:
        """After a pass that ``error`` cut here: raise what it came of elsewhere, or that the passes that were to come (``more``) cannot."""
        lost = self.lost(NOTICE_S)
        if lost is not None:
            raise lost from error
        if more:  # the others still wait inside of that pass
            message = (
                f"A pass was cut short on the first device, so the others are out of step with it. {describe(error)}"
            )
            phase = getattr(self._report, "stage", None) or "operators"
            raise EngineError(phase=phase, kind="internal", message=message) from error

    def _start(self, rank: int) -> subprocess.Popen[str]:
        other = subprocess.Popen([sys.executable, "-m", "profiling.rank"], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        if other.stdin is not None:
            other.stdin.write(json.dumps(self._first | {"rank": rank}) + "\n")
            other.stdin.flush()
        return other

    def _watch(self, rank: int) -> None:
        """In a thread: end this process if a rank is lost and nothing here notices, held as it may be inside a collective."""
        if not self._others[rank - 1].wait():
            return
        self._one_ended.set()
        if self._ending.wait(NOTICE_S):
            return
        send, lost = getattr(self._report, "send", None), self.lost()
        if send is not None and lost is not None:
            send("error", **lost.to_json())
            os._exit(1)

    def _reason(self, rank: int, code: int) -> EngineError:
        path = Path(self._folder.name) / error_file(rank)
        phase = getattr(self._report, "stage", None) or "load"
        try:
            error = EngineError.from_json({"phase": phase} | json.loads(path.read_text()))
        except (OSError, ValueError):
            text = killed_message(-code, phase) if code < 0 else f"The process exited with code {code}."
            error = EngineError(phase=phase, kind="killed", message=text)
        reason = error.message
        message = f"On device {rank + 1} of {self.size}: {reason}"
        return EngineError(phase=error.phase, kind=error.kind, field=error.field, message=message)

    def _end(self, *, failed: bool) -> None:
        self._ending.set()
        for other in self._others:
            with contextlib.suppress(OSError):
                if other.stdin is not None:
                    other.stdin.close()
        for other in self._others:
            try:
                other.wait(2)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
        if dist.is_initialized():
            # With a collective that no one else is left for, it may wait for ever.
            leaving = threading.Thread(target=dist.destroy_process_group, name="leave-ranks", daemon=True)
            leaving.start()
            leaving.join(NOTICE_S if failed else None)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._folder.cleanup()


def _gone(error: OSError) -> EngineError:
    return EngineError(phase="start", kind="killed", message=f"A process of another device is gone ({error.strerror}).")


def backend_of(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def error_file(rank: int) -> str:
    """Where in the ranks' folder one of them writes why it ended."""
    return f"rank-{rank}.json"


def join(folder: str, rank: int, size: int, device: torch.device) -> None:
    """Join the group of all ranks. They find each other through a file in ``folder``, not through a port."""
    os.environ.update(VARIABLES | dict(zip(NUMBERS, map(str, (rank, rank, size)), strict=True)))
    options: dict[str, Any] = {}
    if device.type == "cuda":
        torch.cuda.set_device(rank)
        options["device_id"] = torch.device("cuda", rank)
    store = dist.FileStore(str(Path(folder) / "store"), size)
    dist.init_process_group(backend_of(device), store=store, rank=rank, world_size=size, timeout=TIMEOUT, **options)


def together(device: torch.device) -> None:
    """Wait until every rank is here."""
    if device.type == "cuda":
        dist.barrier(device_ids=[torch.cuda.current_device()])
        torch.cuda.synchronize(device)
    else:
        dist.barrier()
