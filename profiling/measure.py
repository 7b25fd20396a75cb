"""Measure one model on this machine: latency un-instrumented, then time by module, then memory, each in passes of its own.

Order: structure and fit check, load, cold call, warm-up, timed iterations (the only published latencies), passes with hooks on every
module, one pass with the memory sampler, one under the profiler, and the estimate of the same workload. Runs inside an engine process.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from profiling import batching, conditions, host, measured
from profiling.artifacts import KINDS, check_kinds, pack_profile
from profiling.failures import EngineError, describe
from profiling.generation import Generation, Runner
from profiling.hooks import ModuleTimer, call_cost
from profiling.limits import check_measurable
from profiling.load import Load
from profiling.load_run import check_load, check_room, run_load
from profiling.loading import (
    MEASURED_KINDS,
    Inputs,
    check_context,
    check_fits,
    check_prompt,
    choose_device,
    load,
    prepare_inputs,
)
from profiling.memory_breakdown import held_by, table
from profiling.merge import attach_estimates
from profiling.operator_profile import Profile, cached_in, profile_pass
from profiling.partials import keep_partial, partial
from profiling.protocol import Protocol
from profiling.ranks import Ranks
from profiling.sampling import MemoryRecord, release_unused
from profiling.session import Session
from profiling.shards import check_divisible, load_shard
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload

if TYPE_CHECKING:
    from profiling.build import Built

#: Passes with hooks: enough for a middle half, few beside the iterations that are published.
HOOKED_PASSES = 3
#: Passes through the model (decode steps) of which module times are kept at most, spread over all of them, for later steps read more of
#: the cache; more would only fill memory.
HOOKED_STEPS = 256


def measure(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    progress: Any = None,
    *,
    protocol: Protocol | None = None,
    estimates: bool = True,
    load: Load | None = None,
    artifacts: list[str] | None = None,
) -> dict[str, Any]:
    """The run document (kind ``measure``) of ``workload`` in this process; ``hardware`` is its specification with its ceilings.

    ``protocol`` says how long the iterations go on (its ``processes`` are the caller's matter); None: as many as the workload asks.
    ``load``: requests that are sent to the model after everything else. ``estimates=False`` leaves out the estimates and their tables: of several processes, one has them.
    ``artifacts``: kinds of :data:`profiling.artifacts.KINDS` to make of the profiled pass; ``progress.artifact`` takes the files.

    Raises :class:`SpecError` for inputs that cannot be measured and :class:`EngineError` for everything that fails on the way;
    its ``partial`` holds what had been measured.
    """
    session = Session(model, hardware, workload, progress or (lambda stage, fraction, message: None))
    session.protocol = protocol or session.protocol
    session.protocol.check()
    session.load = load
    session.artifacts = check_kinds(artifacts or [])
    _check(session)
    device = choose_device(hardware)
    threads = set_threads(workload, device)
    session.workload = replace(session.workload, threads=threads)
    try:
        return _measure(session, device, threads, estimates=estimates)
    except EngineError as error:
        error.partial = error.partial or partial(session)
        raise


def _check(session: Session) -> None:
    model, workload = session.model, session.workload
    workload.check()
    check_measurable(workload)
    if model.kind not in MEASURED_KINDS:
        message = f"Models of kind {model.kind} take no text, so they cannot be measured here. Run an estimate."
        raise SpecError("model", message)
    for name in ("weights_dtype", "activation_dtype", "kv_dtype"):
        if getattr(workload, name) not in (None, workload.dtype):
            raise SpecError(
                name, f"A measurement runs everything in {workload.dtype}: leave this empty, or run an estimate."
            )
    check_prompt(model, workload)
    if workload.prompts is not None:
        session.report("tokenize", 0.0, f"Reading {len(workload.prompts)} prompts")
        session.prompts = batching.read(model, workload)
        session.workload = workload = session.prompts.asked(workload)
    if session.load is not None:
        check_load(session.load, model, workload)
    if model.kind != "encoder" and workload.output_tokens < 1:
        raise SpecError("output_tokens", "Ask for at least 1 output token: this model generates text.")
    if model.kind == "encoder" and workload.output_tokens:
        session.workload = replace(workload, output_tokens=0)
        session.warn("encoder_output", "An encoder generates nothing: the output tokens were set to 0.")


def set_threads(workload: Workload, device: torch.device) -> int:
    """Threads of torch in this process: as asked, else one per physical core that this process may use, shared by ranks on processors."""
    if workload.threads is not None and (isinstance(workload.threads, bool) or workload.threads < 1):
        raise SpecError("threads", "Enter a whole number of threads from 1, or leave it empty.")
    ranks = workload.tensor_parallel if device.type == "cpu" else 1
    threads = workload.threads or max(1, host.cores()[0] // ranks)
    torch.set_num_threads(threads)
    return threads


def _measure(session: Session, device: torch.device, threads: int, *, estimates: bool) -> dict[str, Any]:
    model = session.model
    session.report("prepare", 0.01, "Checking that the model fits")
    built, _ = check_fits(model, session.instrumented, device)
    check_divisible(model, built, session.workload, device)
    if session.workload.prompt is None:  # the tokens of one prompt are counted once the model is loaded
        check_context(model, built, session.workload)
    if session.load is not None:
        check_room(session.load, model, built, session.workload, device)
    settle_attention(session, built)
    if session.workload.tensor_parallel == 1:
        return _measure_loaded(session, built, device, threads, estimates=estimates)
    with Ranks(model, session.workload, device, threads, session.report) as session.ranks:
        return _measure_loaded(session, built, device, threads, estimates=estimates)


def _measure_loaded(
    session: Session, built: Built, device: torch.device, threads: int, *, estimates: bool
) -> dict[str, Any]:
    model, ranks = session.model, session.ranks
    loaded, memory = load_model(session, built, device)
    session.facts = measured.identity(session, built) | {"environment": measured.environment(device, threads)}
    keep_partial(session, at_once=True)
    inputs = _inputs(session, loaded, device)
    session.workload = replace(session.workload, input_tokens=max(int(one.ids.shape[1]) for one in inputs))
    check_context(model, built, session.workload)
    options: dict[str, Any] = {"kind": model.kind, "logits": session.workload.logits, "device": device}
    options["announce"] = ranks.announce if ranks else None
    runners = [Runner(loaded, one, **options) for one in inputs]
    runner = runners[session.prompts.batches.largest if session.prompts else 0]
    if session.prompts is not None:
        for code, message in session.prompts.cautions():
            session.warn(code, message)
        session.workload = session.prompts.asked(session.workload)
    say_logits(session, runner)

    _warm_up(session, runner, memory)
    _iterate(session, runners, device, threads)
    time_modules(session, runner, loaded, device)
    record_memory(session, runner, loaded, memory)
    if estimates:  # of several processes, one has the tables
        profile_operators(session, runner, loaded, device)
    offered_load = (
        run_load(session, runner, loaded, session.load, lambda: keep_partial(session, at_once=True))
        if session.load is not None
        else None
    )

    session.report("document", 0.92, "Writing the document")
    document = write(session, built=built, inputs=inputs, memory=memory, device=device, threads=threads)
    if offered_load is not None:
        document["metrics"] |= offered_load.pop("metrics")
        document |= offered_load
    del loaded, runner, runners
    gc.collect()
    return complete(document, session, memory, estimates=estimates)


def load_model(session: Session, built: Built, device: torch.device) -> tuple[Any, MemoryRecord]:
    """The model of ``session``, and the memory that it took. The time of loading and the bytes of the weights are the session's then.

    Raises :class:`EngineError` (phase ``load``) or :class:`SpecError`.
    """
    settle_attention(session, built)
    memory = MemoryRecord(device)
    session.report("load", 0.05, f"Loading {session.model.name} in {session.workload.dtype}")
    with memory.phase("load"):
        before = time.perf_counter()
        if session.ranks is None:
            loaded = load(session.model, session.workload, device)
        else:
            loaded = load_shard(session.model, session.workload, device)
        session.load_s = time.perf_counter() - before
        release_unused()
    session.memory = memory
    session.held.weights = held_by([*loaded.parameters(), *loaded.buffers()])
    return loaded, memory


def settle_attention(session: Session, built: Built) -> None:
    """The attention that the model really has, if not the one that was asked for."""
    offered = getattr(built.config, "_attn_implementation", None) or "eager"
    if offered != session.workload.attn_implementation:
        message = f"This model does not offer {session.workload.attn_implementation} attention; {offered} was used."
        session.warn("attention", message)
        session.workload = replace(session.workload, attn_implementation=offered)


def write(
    session: Session,
    *,
    built: Built,
    inputs: Sequence[Inputs],
    memory: MemoryRecord,
    device: torch.device,
    threads: int,
) -> dict[str, Any]:
    """The document of what ``session`` has collected, still without tables, roofline and estimates; it is of the tokens that came out."""
    session.requested_output = session.workload.output_tokens
    if session.model.kind != "encoder":
        longest = max(one.tokens for one in session.alike(session.timed) or session.timed)
        session.workload = replace(session.workload, output_tokens=longest)
    return measured.document(session, built=built, inputs=inputs, memory=memory, device=device, threads=threads)


def complete(
    document: dict[str, Any], session: Session, memory: MemoryRecord, *, estimates: bool = True
) -> dict[str, Any]:
    """``document`` with the estimates of the same workload and the tables that they bring, and what the memory was used for."""
    if estimates:
        session.report("estimate", 0.95, "Estimating the same workload")
        attach_estimates(document, session)
    document["memory"]["breakdown"] = table(session.held, memory.phases(), document["memory"], session.instrumented)
    document["duration_s"] = time.monotonic() - session.began
    session.report("done", 1.0, "Measured")
    return document


def say_logits(session: Session, runner: Runner) -> None:
    """Models that compute logits at every position do so whatever is asked: the workload then says so."""
    if session.workload.logits == "last" and session.model.kind in ("decoder", "ssm") and not runner.keeps_last_logits:
        session.warn("logits", "This model computes logits at every position; the workload asked for the last only.")
        session.workload = replace(session.workload, logits="all")


def _inputs(session: Session, loaded: Any, device: torch.device) -> list[Inputs]:
    """The batches that the passes take in turn: one, or as many as the prompts fill."""
    if session.prompts is not None:
        return session.prompts.inputs(loaded, device)
    return [prepare_inputs(session.model, loaded, session.workload, device)]


def _pass(session: Session, runner: Runner, between: Any = None) -> Generation:
    if session.model.kind == "encoder":
        return runner.encode(between)
    return runner.generate(session.workload.output_tokens, between)


def _warm_up(session: Session, runner: Runner, memory: MemoryRecord) -> None:
    """The first call ever, kept apart; then the warm-up passes. Ends the run here if the model computes NaN."""
    workload = session.workload
    session.report("warmup", 0.15, "First call")
    with memory.phase("warmup", sample=False):
        session.cold, finite = runner.first_logits()
        keep_partial(session)
        if not finite:
            message = (
                f"{session.model.name} computes NaN or infinity in {workload.dtype}, so its speed would mean nothing. "
                "Try another dtype (bf16 or fp32)."
            )
            raise EngineError(phase="prefill", kind="numeric", field="dtype", message=message)
        for index in range(workload.warmup):
            session.report("warmup", 0.15 + 0.1 * index / workload.warmup, f"Warm-up {index + 1} of {workload.warmup}")
            session.warmups.append(_pass(session, runner))
            keep_partial(session)
            if session.time_is_short():
                break


def _iterate(session: Session, runners: list[Runner], device: torch.device, threads: int) -> None:
    """The timed iterations, without any instrumentation; every batch is run equally often, at least once."""
    workload, batches = session.workload, len(runners)
    gc.collect()
    on_cpu = device.type == "cpu"
    others = session.ranks.pids if session.ranks else ()
    before = conditions.Sensors.now(on_cpu=on_cpu, others=others)
    begin = conditions.Snapshot.now(others)
    started, least = time.monotonic(), session.protocol.min_iterations or workload.iterations
    least = -(-least // batches) * batches
    while True:
        done = len(session.timed)
        if not (done % batches or session.protocol.wants_more(done, time.monotonic() - started, workload)):
            break
        fraction = 0.25 + 0.45 * min(done / least, 1.0)
        session.report("iterations", fraction, f"Iteration {done + 1} of {max(least, done + 1)}")
        session.timed.append(_pass(session, runners[done % batches]))
        keep_partial(session)
        if session.time_is_short() and done + 1 < least:
            limit = f"The time limit of {workload.time_limit_s:g} s allowed {done + 1} of {least} iterations."
            session.warn("time_limit", limit)
        if session.time_is_short():
            break
    end = conditions.Snapshot.now(others)
    sensors = (before, conditions.Sensors.now(on_cpu=on_cpu, others=others))
    steady = measured.steady(session.timed, batches)
    threads *= 1 + len(others) if on_cpu else 1
    session.conditions = conditions.between(
        begin, end, threads=threads, on_cpu=on_cpu, steady=steady, sensors=sensors, alone=not others
    )
    if session.conditions["contended"]:
        session.warn("contended", "Other work disturbed this measurement: " + " ".join(session.conditions["reasons"]))


def time_modules(session: Session, runner: Runner, loaded: Any, device: torch.device) -> None:
    """Passes in which every module is timed. Their times are published as shares of a pass, never as its latency."""
    session.call_cost_s = call_cost(device)
    passes = min(HOOKED_PASSES, session.workload.iterations)
    every = max(1, -(-passes * (session.workload.output_tokens - 1) // HOOKED_STEPS))
    steps = itertools.count()
    with ModuleTimer(loaded, device) as timer:

        def collect(stage: str) -> None:
            times = timer.collect()
            kept = session.hooked.setdefault(stage, [])
            if stage != "decode" or next(steps) % every == 0:
                kept.append(times)

        for index in range(passes):
            if index and session.time_is_short():
                session.warn("time_limit", f"Module times come from {index} of {passes} passes: time was short.")
                break
            session.report("modules", 0.7 + 0.12 * index / passes, f"Time by module, pass {index + 1} of {passes}")
            _pass(session, runner, collect)


def record_memory(session: Session, runner: Runner, loaded: Any, memory: MemoryRecord) -> None:
    """One more pass with the memory sampler, prefill and decode apart; what the cache holds is looked up after each call."""
    session.report("memory", 0.84, "Memory by phase")
    keep_partial(session, at_once=True)
    release_unused()
    stage = "encode" if session.model.kind == "encoder" else "prefill"
    current = memory.phase(stage)
    current.__enter__()
    switched = False

    def look(module: Any, arguments: Any, output: Any) -> None:
        session.held.cache["decode" if switched else stage] = held_by(cached_in(output))

    watching = loaded.register_forward_hook(look)

    def switch(finished: str) -> None:
        nonlocal current, switched
        if finished == "prefill" and not switched and session.workload.output_tokens > 1:
            current.__exit__(None, None, None)
            current = memory.phase("decode")
            current.__enter__()
            switched = True

    try:
        _pass(session, runner, switch)
    finally:
        watching.remove()
        current.__exit__(None, None, None)


def profile_operators(session: Session, runner: Runner, loaded: Any, device: torch.device) -> None:
    """One last pass under the profiler. A profiler that fails costs the measurement a warning, nothing else."""
    if session.time_is_short():
        session.warn(
            "time_limit",
            "Operators were not profiled"
            + (", and no file made of it" if session.artifacts else "")
            + ": time was short.",
        )
        return
    session.report("operators", 0.88, "Operators by module")
    keep_partial(session, at_once=True)
    encoder, tokens = session.model.kind == "encoder", session.workload.output_tokens
    try:
        profile = profile_pass(
            runner, loaded, device, encoder=encoder, output_tokens=tokens, snapshot="memory" in session.artifacts
        )
    except Exception as error:  # everything that is published was measured before
        if session.ranks is not None:
            session.ranks.check_in_step(error, more=session.load is not None)
        session.warn("profiler_failed", f"Operators were not profiled. {describe(error)}")
        return
    session.profiled, session.held.peaks = profile.tables, profile.peaks
    for kind in session.artifacts:
        _make(session, kind, profile, device)


def _make(session: Session, kind: str, profile: Profile, device: torch.device) -> None:
    """Write one file of the profiled pass and hand it on. One that fails is null in the document, and a warning says why."""
    session.made[kind] = None
    try:
        path, facts = pack_profile(kind, profile, model=session.model.name, device=device.type)
        hand_on = getattr(session.report, "artifact", None)
        if hand_on is not None:
            hand_on(kind, path, facts)
        session.made[kind] = facts
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else describe(error)
        session.warn("artifact_missing", f"{KINDS[kind][0]}: no file was made. {reason}")
