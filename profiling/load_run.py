"""The load of a measurement: requests of drawn lengths against the loaded model, through the server of :mod:`profiling.server`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from profiling import conditions
from profiling.generation import Runner
from profiling.load import Asked, Load, bounds, describe, planned
from profiling.load_metrics import load_metrics, met, queue_grows
from profiling.loading import Inputs, check_fits
from profiling.server import COLUMNS, SCHEDULING, Served, serve
from profiling.session import LOAD_PARTIAL_S, Session
from profiling.spec import ModelSpec, SpecError, Workload

#: Requests of a partial result: the latest.
MAX_KEPT = 4000


def check_load(load: Load, model: ModelSpec, workload: Workload) -> None:
    """Refuse what no load can be made of, before anything is loaded. Raises :class:`SpecError`."""
    load.check()
    if model.kind == "encoder":
        message = f"{model.name} generates no tokens, and a load is of requests that generate some. Leave it out."
        raise SpecError("load_mode", message)
    if workload.prompt is not None:
        message = "A load has requests of arbitrary tokens, so their lengths can be chosen. Clear the prompt, or leave the load out."
        raise SpecError("load_mode", message)
    if workload.prompts is not None and load.input_lengths:
        message = "The requests are the prompts of the file, in their order: leave the input lengths empty."
        raise SpecError("load_input_lengths", message)


def check_room(load: Load, model: ModelSpec, built: Any, workload: Workload, device: torch.device) -> None:
    """Refuse a load whose longest request has no room in the model's context, or a full batch of them none in memory."""
    into, out = bounds(load, workload.input_tokens, workload.output_tokens)
    longest = replace(workload, input_tokens=into, output_tokens=out)
    limit = built.max_context
    needed = max(into, out) if model.kind == "encdec" else into + out
    if limit is not None and needed > limit:
        message = (
            f"The longest request, {into} input and {out} output tokens, is more than the context of {limit} tokens that "
            f"{model.name} has. Lower the largest lengths."
        )
        raise SpecError("load_input_lengths" if load.input_lengths else "load_output_lengths", message)
    check_fits(model, longest, device)


def run_load(
    session: Session, runner: Runner, loaded: Any, load: Load, keep: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """``load``, ``requests`` and ``metrics`` of the run document. Adds to the session's warnings.

    ``keep`` hands on what is known by now; it is called every :data:`LOAD_PARTIAL_S` at most, with the latest requests in
    ``session.loading``.

    Prompts are those of the workload, in their order and from the beginning again, or arbitrary tokens, the same for the same seed; each
    answer has exactly its drawn number of tokens, whatever they are.
    """
    workload, device, prompts = session.workload, runner.device, session.prompts
    asked = planned(load, input_tokens=workload.input_tokens, output_tokens=workload.output_tokens, seed=workload.seed)
    if prompts is not None:
        lengths = prompts.batches.lengths
        asked = [replace(one, input_tokens=lengths[one.index % len(lengths)]) for one in asked]
    padding = 0
    vocabulary = loaded.config.get_text_config().vocab_size
    source = torch.Generator().manual_seed(workload.seed)
    ended = 0

    def work(batch: Sequence[Asked]) -> list[int]:
        nonlocal ended, padding
        shape = (len(batch), max(one.input_tokens for one in batch))
        padding += shape[0] * shape[1] - sum(one.input_tokens for one in batch)
        if prompts is None:
            ids, mask = torch.randint(0, vocabulary, shape, generator=source), None
        else:
            ids, mask = prompts.batch([one.index for one in batch])
        mask = None if mask is None else mask.to(device)
        inputs = Inputs(ids.to(device), None, None, frozenset(), chat_template=False, mask=mask)
        generation = runner.on(inputs).generate(max(one.output_tokens for one in batch))
        ended += len(batch)
        session.report("requests", 0.86 + 0.05 * ended / max(len(asked), 1), f"Load: {ended} of {len(asked)} requests")
        return [stamp.wall_ns for stamp in generation.stamps]

    def told(served: Sequence[Served]) -> None:
        if time.monotonic() - session.sent < LOAD_PARTIAL_S:
            return
        session.loading = {
            "load": describe(load) | {"scheduling": SCHEDULING},
            "requests": _table(served[-MAX_KEPT:], load),
        }
        keep()

    session.report("requests", 0.86, f"Load: {len(asked)} requests")
    others = session.ranks.pids if session.ranks else ()
    begin = conditions.Snapshot.now(others)
    served = serve(
        load, asked, work, batch_size=workload.batch_size, enough=lambda done: session.time_is_short(), told=told
    )
    threads = (workload.threads or 1) * (1 + len(others) if device.type == "cpu" else 1)
    found = conditions.between(begin, conditions.Snapshot.now(others), threads=threads, on_cpu=False, steady=None)
    done = sum(one.end_ns is not None for one in served)
    grows = queue_grows(served) if load.open else None
    if done < len(served) or (done < len(asked) and load.seconds is None):
        session.warn("load_cut", f"The time limit ended the load after {done} of {len(asked)} requests.")
    if grows:
        message = "Requests waited longer and longer: more arrive than the server can serve, so latencies depend on how long the load lasts."
        session.warn("load_queue_grows", message)
    if found["contended"]:
        session.warn("load_contended", "Other work disturbed the load: " + " ".join(found["reasons"]))
    about = describe(load) | {
        "scheduling": SCHEDULING,
        "batch_size": workload.batch_size,
        "due": len(served),
        "served": done,
        "prompts": None if prompts is None else len(prompts.texts),
        "padding_tokens": padding,
        "queue_grows": grows,
        "foreign_cores": found["foreign_cores"],
        "contended": found["contended"],
    }
    return {"load": about, "requests": _table(served, load), "metrics": load_metrics(served, load)}


def _table(served: Sequence[Served], load: Load) -> dict[str, Any]:
    return {"columns": [*COLUMNS, "within_objectives"], "rows": [[*one.row(), met(one, load)] for one in served]}
