"""The engine process: ``python -m profiling.child``. JSON-line requests on stdin, answers on a private file descriptor.

Libraries print to stdout and stderr; nothing of that reaches the answers. The process ends when its stdin does, even in the
middle of a computation, and on Linux with its parent. The protocol is in ``docs/run-document.md``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiling import feed
from profiling.failures import EngineError, describe, out_of_memory
from profiling.spawn import die_with_parent
from profiling.spec import RunSpec, SpecError

#: Progress closer together than this is dropped: writing and waking the parent would disturb what is measured.
PROGRESS_S = 0.2

Answer = dict[str, Any]
Operation = Callable[[Answer, "Reporter"], Answer]
OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        if name in OPERATIONS:
            raise ValueError(f"operation {name!r} is registered twice")
        OPERATIONS[name] = function
        return function

    return register


class Reporter:
    """Sends the answers of one request. Calling it reports progress, so it is the engine's ``progress`` argument."""

    def __init__(self, send: Callable[[Answer], None], identifier: Any) -> None:
        self._send, self._id = send, identifier
        self._sent_at = 0.0
        self.stage = "start"

    def __call__(self, stage: str, fraction: float, message: str) -> None:
        now = time.monotonic()
        if stage == self.stage and now - self._sent_at < PROGRESS_S and fraction < 1:
            return
        self.stage, self._sent_at = stage, now
        self.send("progress", stage=stage, fraction=round(min(max(fraction, 0.0), 1.0), 4), message=message)

    def log(self, level: str, message: str) -> None:
        self.send("log", level=level, message=message)

    def partial(self, document: Answer) -> None:
        """What is known so far; the parent keeps it in case this process is killed."""
        self.send("partial", document=document)

    def artifact(self, kind: str, path: Path, facts: Answer) -> None:
        """A file in this process's own folder, for the parent to take; it is gone with this process."""
        self.send("artifact", kind=kind, path=str(path), facts=facts)

    def send(self, type_: str, **content: Any) -> None:
        self._send({"id": self._id, "type": type_, **content})


@operation("ping")
def ping(request: Answer, report: Reporter) -> Answer:
    """Versions; ``warm`` says whether torch is imported."""
    from profiling import __version__

    return {
        "pid": os.getpid(),
        "version": __version__,
        "python": sys.version.split()[0],
        "warm": "torch" in sys.modules,
    }


@operation("estimate")
def estimate(request: Answer, report: Reporter) -> Answer:
    from profiling.estimate import estimate as run

    return run(*_parts(request), progress=report)


@operation("inspect")
def inspect(request: Answer, report: Reporter) -> Answer:
    from profiling.inspection import inspect_model
    from profiling.spec import ModelSpec

    return inspect_model(ModelSpec.from_json(request["model"]))


@operation("form")
def form(request: Answer, report: Reporter) -> Answer:
    """``form``: the closed forms of a model, for any batch, lengths and formats; or ``no_form``: why it has none."""
    from profiling.forms.make import make_form
    from profiling.forms.terms import NoForm, to_json
    from profiling.spec import ModelSpec, Workload

    model, workload = ModelSpec.from_json(request["model"]), Workload.from_json(request["workload"])
    workload.check()
    try:
        return {"form": to_json(make_form(model, workload, request.get("kernel_threads"), report))}
    except NoForm as error:
        return {"no_form": str(error)}


@operation("tokens")
def tokens(request: Answer, report: Reporter) -> Answer:
    """``tokens`` of each of ``prompts`` by the tokenizer of ``model``, and whether they go through its ``chat_template``. Loads no weights."""
    from profiling.loading import check_files, tokenized
    from profiling.spec import ModelSpec

    model = ModelSpec.from_json(request["model"])
    check_files(model)
    _, found, templated = tokenized(model, request["prompts"])
    return {"tokens": [len(row) for row in found], "chat_template": templated}


@operation("measure")
def measure(request: Answer, report: Reporter) -> Answer:
    from profiling.load import Load
    from profiling.measure import measure as run
    from profiling.protocol import Protocol

    protocol = Protocol.from_json(request["protocol"]) if "protocol" in request else None
    asked = request["spec"].get("load")
    return run(
        *_parts(request),
        progress=report,
        protocol=protocol,
        estimates=request.get("estimates", True),
        load=Load.from_json(asked) if asked else None,
        artifacts=request["spec"].get("artifacts"),
    )


@operation("endpoint")
def endpoint(request: Answer, report: Reporter) -> Answer:
    """A load on a server of models, seen from here. Imports torch for no more than a tokenizer."""
    from profiling.remote.job import run

    return run(request, report, report.partial)


@operation("ceilings")
def ceilings(request: Answer, report: Reporter) -> Answer:
    from profiling.ceilings import measure_ceilings

    keys = ("quick", "threads", "kind", "only")
    return measure_ceilings(**{key: request[key] for key in keys if key in request}, progress=report)


@operation("replay")
def replay(request: Answer, report: Reporter) -> Answer:
    """``predictions`` and the ``table`` that was grown; without a table in the request, one of this host and ``device``."""
    from profiling.replay.run import answer as run

    return run(request, report)


@operation("replay_device")
def replay_device(request: Answer, report: Reporter) -> Answer:
    """``device`` that a replay of ``device`` (``cpu``, ``cuda`` or null: the GPU if there is one) has here: ``cpu``, or the name of the GPU."""
    from profiling.replay.device import choose, name_of

    return {"device": name_of(choose(request.get("device")))}


@operation("gguf")
def gguf(request: Answer, report: Reporter) -> Answer:
    """What the GGUF file ``source`` says of itself."""
    from profiling.gguf_files import describe_gguf

    return describe_gguf(request["source"])


@operation("hub_look")
def hub_look(request: Answer, report: Reporter) -> Answer:
    """The repository ``repo`` of the Hub at ``revision``: commit, configuration, files with sizes."""
    from profiling.hub import look

    return look(request["repo"], request["revision"], request["endpoint"]).to_json()


@operation("hub_download")
def hub_download(request: Answer, report: Reporter) -> Answer:
    """Fetch what a ``look`` named into the folder ``target``."""
    from pathlib import Path

    from profiling.hub import Look, download

    seen = Look(**{name: value for name, value in request["look"].items() if name not in ("bytes", "name")})
    return download(seen, Path(request["target"]), request["endpoint"], request["max_bytes"], report)


@operation("convert")
def convert(request: Answer, report: Reporter) -> Answer:
    from profiling.convert import convert_gguf

    return convert_gguf(request["source"], request["target"], progress=report)


def _parts(request: Answer) -> tuple[Any, Any, Any]:
    return RunSpec.from_json(request["spec"]).parts()


def answer(request: Answer, send: Callable[[Answer], None]) -> None:
    """Carry out one request; whatever happens, exactly one ``result`` or ``error`` line is sent."""
    report = Reporter(send, request.get("id"))
    report.send("accepted")
    try:
        run = OPERATIONS.get(request.get("op", ""))
        if run is None:
            raise EngineError(
                phase="start", kind="protocol", message=f"The engine knows no request {request.get('op')!r}."
            )
        document = run(request, report)
        json.dumps(document, allow_nan=False)
        report.send("result", document=document)
    except EngineError as error:
        report.log("error", traceback.format_exc())
        report.send("error", **error.to_json())
    except SpecError as error:
        report.send("error", phase=report.stage, kind="spec", field=error.field, message=str(error), partial=None)
    except BaseException as error:
        report.log("error", traceback.format_exc())
        kind, message = _classify(error, report.stage)
        report.send("error", phase=report.stage, kind=kind, field=None, message=message, partial=None)


def _classify(error: BaseException, stage: str) -> tuple[str, str]:
    if out_of_memory(error):
        return "memory", (
            f"The machine ran out of memory during the stage “{stage}”. Use a smaller model, dtype, batch or context, "
            "or run an estimate."
        )
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] in ("torch", "transformers"):
        return "missing", f"The engine needs {error.name}, which is not installed here. Install requirements.txt."
    return "internal", f"The engine failed during the stage “{stage}”. {describe(error)}"


class Results:
    """The private result descriptor: one JSON line per call, from any thread, whole lines only."""

    def __init__(self, descriptor: int) -> None:
        # A copy that no child process inherits: otherwise its life would keep the parent from seeing our end.
        self._descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(descriptor)
        self._lock = threading.Lock()

    def __call__(self, message: Answer) -> None:
        data = (json.dumps(message, allow_nan=False) + "\n").encode()
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]


def _requests() -> queue.SimpleQueue[Answer]:
    """Requests as they come. The thread behind it ends the process when stdin does."""
    descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    requests: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def read() -> None:
        with os.fdopen(descriptor, "rb") as stream:
            for line in stream:
                try:
                    message = json.loads(line)
                except ValueError:
                    message = {"op": "malformed line"}
                if isinstance(message, dict) and "feed" in message:
                    feed.give(message["feed"])
                else:
                    requests.put(message)
        os._exit(0)

    threading.Thread(target=read, name="requests", daemon=True).start()
    return requests


def _die_with_parent() -> None:
    """Linux: be killed with the parent, and be the first that the kernel kills when memory runs out."""
    if not sys.platform.startswith("linux"):
        return
    die_with_parent()
    expected = os.environ.get("LLMCOMPARE_PARENT_PID")
    if expected and os.getppid() != int(expected):
        os._exit(0)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("900")
    except OSError:
        pass


def _warm_up() -> None:
    """Import what the first request would wait for."""
    # What imports make stays: looking through it for garbage, again and again while it grows, finds none.
    gc.disable()
    with contextlib.suppress(Exception):  # the first request that needs it says so
        import torch  # noqa: F401
        import transformers  # noqa: F401

        import profiling.estimate
        import profiling.forms.make  # noqa: F401
    gc.enable()
    gc.freeze()  # nor need collections go through the libraries' million objects at every request


def main() -> None:
    """Serve requests until stdin ends."""
    _die_with_parent()
    faulthandler.enable()
    send = Results(int(os.environ.pop("LLMCOMPARE_RESULT_FD")))
    requests = _requests()
    if "--warm" in sys.argv[1:]:
        _warm_up()
    while True:
        answer(requests.get(), send)


if __name__ == "__main__":
    main()
