"""From raw stamps to the measured part of a run document: samples, metrics by named formula, environment, output."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from profiling import __version__, folders, host
from profiling.generation import Generation
from profiling.hooks import central_mean
from profiling.loading import Inputs
from profiling.quantities import say
from profiling.sampling import MemoryRecord
from profiling.session import Session
from profiling.spec import ModelSpec
from profiling.statistics import is_steady, rates, summarise
from profiling.units import metric

if TYPE_CHECKING:
    from profiling.build import Built

SHOWN_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "CUDA_VISIBLE_DEVICES",
)


#: Warning of a measurement whose ranks are processes of one machine.
SHARED_MACHINE = (
    "The model ran as {size} processes that share this machine: its cores, its caches and the bandwidth of its memory. An estimate of "
    "{size} devices is of something else, so no estimated times stand beside these."
)


def gaps(generation: Generation) -> list[float]:
    """Seconds of each interval between stamps: the first is prefill (or encode), then one for each decode step."""
    walls = [stamp.wall_ns for stamp in generation.stamps]
    return [(end - begin) / 1e9 for begin, end in itertools.pairwise(walls)]


def steady(timed: Sequence[Generation], batches: int = 1) -> bool | None:
    """Whether the whole time of the iterations shows no trend. ``batches``: different ones in turn; each round of them counts as one."""
    times = [sum(gaps(generation)) for generation in timed]
    rounds = [times[begin : begin + batches] for begin in range(0, len(times) - batches + 1, batches)]
    return is_steady([sum(one) for one in rounds])


def samples_table(session: Session) -> dict[str, Any]:
    """One row per interval, in nanoseconds since the first of them; ``tokens`` counts the whole batch: read in, or produced.

    The first is the cold call, but of a model that was loaded long before (:mod:`profiling.resident`)."""
    rows: list[list[Any]] = []
    several = session.prompts is not None
    columns = [*_COLUMNS, "sequences"] if several else _COLUMNS
    batch, length = session.workload.batch_size, session.workload.input_tokens
    first = "encode" if session.model.kind == "encoder" else "prefill"
    groups = [(-1, True, session.cold)] if session.cold is not None else []
    groups += [(index, True, item) for index, item in enumerate(session.warmups)]
    groups += [(index, False, item) for index, item in enumerate(session.timed)]
    if not groups:
        return {"columns": columns, "rows": rows}
    origin = groups[0][2].stamps[0].wall_ns
    for iteration, warmup, generation in groups:
        for step, (begin, end) in enumerate(zip(generation.stamps, generation.stamps[1:], strict=False)):
            phase = "cold" if iteration < 0 else first if step == 0 else "decode"
            tokens = batch * (length if step == 0 else 1)
            if several:  # padding, and what comes after the end of a sequence, are no tokens
                tokens = read_by(generation, session) if step == 0 else generation.going[step]
            times = [begin.wall_ns - origin, end.wall_ns - begin.wall_ns, end.cpu_ns - begin.cpu_ns]
            rows.append(
                [iteration, phase, warmup, *times, tokens, *([int(generation.ids.shape[0])] if several else [])]
            )
    return {"columns": columns, "rows": rows}


#: Steps of a first pass as many times as long as later ones are worth a warning, where there are at least so many.
SLOW_FIRST, FEWEST_STEPS = 1.5, 4
_COLUMNS = ["iteration", "phase", "warmup", "start_ns", "wall_ns", "cpu_ns", "tokens"]


def metrics(session: Session, memory: MemoryRecord) -> dict[str, Any]:
    """The measured metrics. Latencies use the tokens that were really produced; a metric without a value is left out."""
    series = _encode_series(session) if session.model.kind == "encoder" else _generate_series(session)
    result = {key: _measured(key, values) for key, values in series.items() if values}
    peak = memory.peak()
    if peak is not None:
        extras: dict[str, Any] = {"absolute": peak[1]}
        if not memory.on_device:
            extras["note"] = (
                "without pages of files, above what the process held before the model was loaded; buffers of libraries are in it"
            )
        if session.ranks is not None:
            extras["note"] = f"of the first of {session.ranks.size} devices or processes"
        result["peak_memory"] = metric("peak_memory", peak[0], "measured", n=1, **extras)
    result["load_time"] = metric("load_time", session.load_s, "measured", n=1)
    return result


def _measured(key: str, values: Sequence[float]) -> dict[str, Any]:
    summary = summarise(values)
    return metric(key, summary["median"], "measured", **summary)


def _encode_series(session: Session) -> dict[str, list[float]]:
    times = [gaps(generation)[0] for generation in session.timed]
    speeds = [rates(read_by(item, session), seconds) for item, seconds in zip(session.timed, times, strict=True)]
    return {"encode_time": times, "encode_throughput": list(itertools.chain(*speeds))}


def _generate_series(session: Session) -> dict[str, list[float]]:
    """One value an iteration, except ``itl`` (pooled gaps) and ``decode_time_per_step`` (the steps in the middle third)."""
    names = ("ttft", "prefill_time", "e2e_latency", "prefill_throughput", "output_throughput")
    series: dict[str, list[float]] = {name: [] for name in names}
    series |= {"tpot": [], "itl": [], "decode_time_per_step": [], "decode_throughput": []}
    for generation in session.timed:
        prefill, *steps = gaps(generation)
        whole, made = prefill + sum(steps), made_of(generation, session.prompts is not None)
        series["ttft"].append(prefill)
        series["prefill_time"].append(prefill)
        series["e2e_latency"].append(whole)
        series["prefill_throughput"] += rates(read_by(generation, session), prefill)
        series["output_throughput"] += rates(sum(made), whole)
        if steps:
            series["tpot"].append(sum(steps) / len(steps))
            series["decode_throughput"] += rates(sum(made[1:]), sum(steps))
            series["itl"] += steps
            third = len(steps) // 3
            series["decode_time_per_step"] += steps[third : len(steps) - third]
    return series


def first_steps(session: Session) -> tuple[float, float] | None:
    """(seconds of a decode step in the first warm-up pass, in the timed passes), medians, where the first is much longer; else None.

    The cold call came before, so what is left is what each new length costs once.
    """
    first = gaps(session.warmups[0])[1:] if session.warmups else []
    timed = [step for generation in session.timed for step in gaps(generation)[1:]]
    if len(first) < FEWEST_STEPS or not timed:
        return None
    pair = statistics.median(first), statistics.median(timed)
    return pair if pair[0] > SLOW_FIRST * pair[1] else None


def read_by(generation: Generation, session: Session) -> int:
    """Tokens of the prompts that a pass read, padding left out."""
    if session.prompts is None:
        return session.workload.batch_size * session.workload.input_tokens
    return generation.read


def made_of(generation: Generation, several: bool) -> Sequence[int]:
    """Tokens that each step made. Sequences of one prompt end together; of several, those that have ended make none."""
    return generation.going if several else [int(generation.ids.shape[0])] * generation.tokens


def instrumentation(session: Session) -> dict[str, Any]:
    """Per stage: what taking the times cost and what part of an un-instrumented pass the modules' own times add up to.

    ``overhead``: instrumented ÷ un-instrumented − 1. ``coverage``: sum of all modules' exclusive times ÷ un-instrumented time (what
    is missing is work outside the model, such as the choice of the token; what is too much is the cost of taking times inside).
    ``calls`` of modules in a pass, ``call_cost_s`` of taking the time of one of them. Nothing is rescaled or subtracted.
    """
    plain, result = _plain(session), {}
    for stage, passes in session.hooked.items():
        if not plain.get(stage):  # the time ended before the batch with the hooks had its turn
            continue
        times = central_mean(passes)
        reference = summarise(plain[stage])["median"]
        result[stage] = {
            "method": "every module's forward wrapped",
            "passes": len(passes),
            "calls": sum(time.calls for time in times.values()),
            "call_cost_s": session.call_cost_s,
            "overhead": times[""].inclusive_s / reference - 1,
            "coverage": sum(time.exclusive_s for time in times.values()) / reference,
        }
    return result


def _plain(session: Session, steps: int | None = None) -> dict[str, list[float]]:
    """stage → seconds of every un-instrumented pass, of decode the first ``steps`` of each generation."""
    plain: dict[str, list[float]] = {}
    for generation in session.alike(session.timed):
        first, *later = gaps(generation)
        plain.setdefault("encode" if session.model.kind == "encoder" else "prefill", []).append(first)
        plain.setdefault("decode", []).extend(later[:steps])
    return plain


def profiled(session: Session) -> dict[str, Any]:
    """The pass under the profiler, with what the profiler cost: ``overhead`` of a stage is profiled ÷ un-instrumented − 1, of decode for as
    many steps from the first on as were profiled (later ones read a longer cache)."""
    found = dict(session.profiled or {})
    plain = _plain(session, found.get("stages", {}).get("decode", {}).get("passes"))
    found["stages"] = {
        stage: entry
        | {"overhead": entry["total_s"] / summarise(plain[stage])["median"] - 1 if plain.get(stage) else None}
        for stage, entry in found["stages"].items()
    }
    return found


def module_times(session: Session) -> dict[str, Any]:
    """stage → ``{paths, exclusive_s}``: seconds of each module without its children, one list a process; here of this one."""
    found = {}
    for stage, passes in session.hooked.items():
        times = central_mean(passes)
        found[stage] = {"paths": list(times), "exclusive_s": [[time.exclusive_s for time in times.values()]]}
    return found


def output(session: Session, inputs: Sequence[Inputs]) -> dict[str, Any]:
    """Prompt, texts, token counts and how each sequence ended, of the last timed pass of each batch of ``inputs``."""
    finish, counts, texts, lengths = [], [], [], []
    for batch, generation in enumerate(session.last()):
        own, encoder = inputs[batch], session.model.kind == "encoder"
        rows = generation.ids.tolist() if generation.ids.shape[1] else [[] for _ in range(own.ids.shape[0])]
        lengths += list(own.lengths or [int(own.ids.shape[1])] * len(rows))
        for row in rows:
            stop = next((index for index, token in enumerate(row) if token in own.stop), None)
            kept = row if stop is None else row[: stop + 1]
            counts.append(len(kept))
            finish.append("length" if stop is None else "eos")
            if own.tokenizer is not None and not encoder:
                texts.append(own.tokenizer.decode(kept, skip_special_tokens=True))
    first = inputs[0]
    return {
        "prompt": first.prompt,
        **({"prompts": list(session.prompts.texts)} if session.prompts else {}),
        "chat_template": first.chat_template,
        "texts": texts,
        "input_tokens": lengths,
        "output_tokens": counts,
        "requested_output_tokens": session.requested_output,
        "ignore_eos": not first.stop,
        "finish": [] if session.model.kind == "encoder" else finish,
    }


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """What the numbers depend on beside model and workload."""
    found = host.detect()
    names = (
        "os",
        "kernel",
        "python",
        "packages",
        "cpu",
        "cores_physical",
        "cores_logical",
        "ram_bytes",
        "accelerators",
    )
    return {name: found[name] for name in names} | {
        "virtualised": found["virtualised"],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": {"intra": threads, "inter": torch.get_num_interop_threads()},
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "env_vars": {name: os.environ[name] for name in SHOWN_VARIABLES if name in os.environ},
        "fingerprint": found["fingerprint"],
    }


def producer() -> dict[str, Any]:
    versions = host.package_versions()
    return {
        "name": "llmcompare",
        "version": __version__,
        "python": platform.python_version(),
        "torch": versions["torch"],
        "transformers": versions["transformers"],
    }


def model_facts(session: Session, built: Built) -> dict[str, Any]:
    """The document's ``model`` as far as the built structure tells."""
    model = session.model
    return {
        "name": model.name,
        "source": model.source,
        "architecture": built.architecture,
        "model_type": model.config.get("model_type"),
        "kind": model.kind,
        "config_sha256": model.config_sha256(),
        "parameters": built.parameters,
        "weight_bytes": built.weight_bytes,
        "weights": model.weights,
        "weights_note": model.weights_note,
        **weights_identity(model),
        "max_context": built.max_context,
        "layers": built.layers,
    }


def weights_identity(model: ModelSpec) -> dict[str, str]:
    """The digest of weights that have one, with what it covers."""
    if model.weights_digest is None:
        return {}
    covers = folders.COVERS_GGUF if (model.weights_path or "").endswith(".gguf") else folders.COVERS
    return {"weights_digest": model.weights_digest, "weights_digest_covers": covers}


def identity(session: Session, built: Built) -> dict[str, Any]:
    """What a document says of itself, its model and its hardware: known before anything is measured."""
    return {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "measure",
        "created": session.created,
        "producer": producer(),
        "model": model_facts(session, built),
        "hardware": session.hardware.to_json() | {"digest": session.hardware.digest()},
        **({"parallel": session.ranks.describe()} if session.ranks else {}),
    }


def document(
    session: Session,
    *,
    built: Built,
    inputs: Sequence[Inputs],
    memory: MemoryRecord,
    device: torch.device,
    threads: int,
) -> dict[str, Any]:
    """The measured document, still without tables, roofline and estimates."""
    if session.model.weights == "random":
        session.warn("random_weights", "The weights are random: times and memory are real, the output means nothing.")
    if (session.model.weights_path or "").endswith(".gguf"):
        dtype = session.workload.dtype
        session.warn(
            "dequantised",
            f"The weights of the GGUF file were dequantised to {dtype} before anything ran: memory and times are those of {dtype}, not of "
            "a program that computes with the stored formats.",
        )
    if session.ranks is not None and session.ranks.shared_machine:
        session.warn("shared_machine", SHARED_MACHINE.format(size=session.ranks.size))
    if device.type != "cpu" and (slow := first_steps(session)):
        session.warn(
            "first_pass_slow",
            f"In the first pass over these lengths a decode step took {say(slow[0], 's')}, in the timed ones {say(slow[1], 's')}: libraries "
            "choose or build kernels for each new length. A server takes as long whenever it meets a length for the first time.",
        )
    produced = output(session, inputs)
    return identity(session, built) | {
        "duration_s": 0.0,
        "workload": session.workload.to_json(),
        "conventions": {},
        "metrics": metrics(session, memory),
        "stages": {},
        "instrumentation": instrumentation(session),
        "module_times": module_times(session),
        **({"profiled": profiled(session)} if session.profiled else {}),
        **({"artifacts": {kind: session.made.get(kind) for kind in session.artifacts}} if session.artifacts else {}),
        "memory": {"phases": memory.phases(), "timeline": memory.timeline_table()},
        "samples": samples_table(session),
        "output": produced,
        **({"batches": session.prompts.batches.describe(session.prompts.side)} if session.prompts else {}),
        "environment": environment(device, threads),
        "conditions": session.conditions,
        "unknown_operators": [],
        "warnings": session.warnings,
    }
