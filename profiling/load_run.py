"""The load of a measurement: requests of drawn lengths against the loaded model, through the server of :mod:`profiling.server`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from profiling import conditions
from profiling.generation import Runner
from profiling.load import Asked, Load, bounds, describe, planned
from profiling.load_metrics import load_metrics, met, queue_grows
from profiling.loading import Inputs, check_fits
from profiling.server import COLUMNS, SCHEDULING, serve
from profiling.spec import ModelSpec, SpecError, Workload

if TYPE_CHECKING:
    from profiling.measure import Session


def check_load(load: Load, model: ModelSpec, workload: Workload) -> None:
    """Refuse what no load can be made of, before anything is loaded. Raises :class:`SpecError`."""
    load.check()
    if model.kind == "encoder":
        message = f"{model.name} generates no tokens, and a load is of requests that generate some. Leave it out."
        raise SpecError("load_mode", message)
    if workload.prompt is not None:
        message = "A load has requests of arbitrary tokens, so their lengths can be chosen. Clear the prompt, or leave the load out."
        raise SpecError("load_mode", message)


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


def run_load(session: Session, runner: Runner, loaded: Any, load: Load) -> dict[str, Any]:
    """``load``, ``requests`` and ``metrics`` of the run document. Adds to the session's warnings.

    Prompts are arbitrary tokens, the same for the same seed; each answer has exactly its drawn number of tokens, whatever they are.
    """
    workload, device = session.workload, runner.device
    asked = planned(load, input_tokens=workload.input_tokens, output_tokens=workload.output_tokens, seed=workload.seed)
    vocabulary = loaded.config.get_text_config().vocab_size
    source = torch.Generator().manual_seed(workload.seed)
    ended = 0

    def work(batch: Sequence[Asked]) -> list[int]:
        nonlocal ended
        shape = (len(batch), max(one.input_tokens for one in batch))
        ids = torch.randint(0, vocabulary, shape, generator=source).to(device)
        inputs = Inputs(ids, None, None, frozenset(), chat_template=False)
        generation = runner.on(inputs).generate(max(one.output_tokens for one in batch))
        ended += len(batch)
        session.report("load", 0.86 + 0.05 * ended / max(len(asked), 1), f"Load: {ended} of {len(asked)} requests")
        return [stamp.wall_ns for stamp in generation.stamps]

    session.report("load", 0.86, f"Load: {len(asked)} requests")
    begin = conditions.Snapshot.now()
    served = serve(load, asked, work, batch_size=workload.batch_size, enough=lambda done: session.time_is_short())
    found = conditions.between(
        begin, conditions.Snapshot.now(), threads=workload.threads or 1, on_cpu=False, steady=None
    )
    done = sum(one.end_ns is not None for one in served)
    grows = queue_grows(served) if load.mode == "poisson" else None
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
        "queue_grows": grows,
        "foreign_cores": found["foreign_cores"],
        "contended": found["contended"],
    }
    rows = [[*one.row(), met(one, load)] for one in served]
    table = {"columns": [*COLUMNS, "within_objectives"], "rows": rows}
    return {"load": about, "requests": table, "metrics": load_metrics(served, load)}
