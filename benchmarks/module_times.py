"""Are the times of modules right? Their sum against un-instrumented passes, what the hooks cost, and ``torch.profiler`` beside them.

    .venv/bin/python -m benchmarks.module_times [--pairs 20] [--out FILE]

On one thread, in processor time of the process, which other work on the machine disturbs least. Each pair is three passes: plain, with
every module timed, plain; the middle one is held against the mean of its neighbours, and the median of all pairs counts. The goals are
those of the published table: modules' own times add up to 95-105 % of a plain prefill and 90-110 % of a plain decode step, taking them costs
at most 3 % of GPT-2's prefill, and the ten largest modules are within 10 % of the profiler's self time in the same pass: of a module's range
without the ranges inside, so Python counts on both sides. Operators alone stand beside it: what the profiler gives to no operator is Python's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks.speed.clock import ROOT
from profiling import weights
from profiling.hooks import ModuleTimer
from profiling.loading import load
from profiling.operator_profile import Marks, profiled_times
from profiling.spec import ModelSpec, Workload

GOALS = {"prefill": (0.95, 1.05), "decode": (0.90, 1.10)}
OVERHEAD_GOAL, PROFILER_GOAL, TOP = 0.03, 0.10, 10
INPUT_TOKENS = 128
CPU = torch.device("cpu")
GPT2 = ModelSpec(
    "GPT-2 small, random weights",
    {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50_257, "n_positions": 1024},
)


def smollm2(folder: Path) -> ModelSpec | None:
    """The real model from its installed package; None where that is absent."""
    entry = next((e for e in weights.known_packages() if e["slug"] == "smollm2-135m-instruct"), None)
    if entry is None or not entry["available"]:
        return None
    path = weights.prepare(entry["slug"], folder)
    return ModelSpec(entry["name"], entry["config"], weights="local", weights_path=str(path), source="package")


def passes(model: Any) -> dict[str, Callable[[], None]]:
    """stage → one pass as a measurement runs it, with the choice of the token; a decode step adds its token to the cache."""
    ids = torch.randint(3, model.config.vocab_size, (1, INPUT_TOKENS), generator=torch.Generator().manual_seed(0))
    state: dict[str, Any] = {}

    def prefill() -> None:
        output = model(input_ids=ids, use_cache=True, logits_to_keep=1)
        state["token"] = output.logits[:, -1].argmax(-1, keepdim=True)
        state["cache"] = output.past_key_values

    def decode() -> None:
        output = model(input_ids=state["token"], past_key_values=state["cache"], use_cache=True, logits_to_keep=1)
        state["token"] = output.logits[:, -1].argmax(-1, keepdim=True)

    return {"prefill": prefill, "decode": decode}


def spent(run: Callable[[], None]) -> float:
    begin = time.process_time_ns()
    run()
    return (time.process_time_ns() - begin) / 1e9


def pairs(model: Any, run: Callable[[], None], count: int) -> dict[str, Any]:
    """Coverage (modules' own times ÷ plain) and overhead (timed ÷ plain − 1) of ``count`` ABA pairs, and plain ÷ plain."""
    coverage, overhead, noise = [], [], []
    for _ in range(count):
        before = spent(run)
        with ModuleTimer(model, CPU, clock=time.process_time_ns) as timer:
            hooked = spent(run)
            own = sum(item.exclusive_s for item in timer.collect().values())
        after = spent(run)
        plain = (before + after) / 2
        coverage.append(own / plain)
        overhead.append(hooked / plain - 1)
        noise.append(before / after)
    return {"coverage": spread(coverage), "overhead": spread(overhead), "plain_over_plain": spread(noise)}


def spread(values: list[float]) -> dict[str, Any]:
    low, _, high = quantiles(values, n=4)
    return {"median": median(values), "quartiles": [low, high], "n": len(values), "values": values}


def against_profiler(model: Any, run: Callable[[], None], stage: str, count: int = 5) -> list[dict[str, Any]]:
    """The modules with the most own time, each over the same passes: our clock, the profiler's own time of the module's range (``profiler_s``),
    and the part of it that operators have (``operators_s``); ``ratio`` is ours ÷ the range.

    Passes come in pairs, ours around the ranges and inside of them: either counts what the other costs in what lies inside of it.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(count):
        both: dict[str, list[float]] = {}
        for inside in (False, True):
            for path, times in _compared(model, run, stage, inside).items():
                sums = both.setdefault(path, [0.0, 0.0, 0.0])
                both[path] = [a + b / 2 for a, b in zip(sums, times, strict=True)]
        for path, (ours, ranges, operators) in both.items():
            found.setdefault(path, []).append((ours, ranges, operators))
    rows: list[dict[str, Any]] = [
        {
            "path": path,
            "ours_s": median(a for a, _, _ in each),
            "profiler_s": median(b for _, b, _ in each),
            "operators_s": median(c for _, _, c in each),
            "ratio": median(a / b for a, b, _ in each),
        }
        for path, each in found.items()
    ]
    return sorted(rows, key=lambda row: row["ours_s"], reverse=True)[:TOP]


def _compared(model: Any, run: Callable[[], None], stage: str, inside: bool) -> dict[str, tuple[float, float, float]]:
    """Path → own seconds in one pass: by our clock, of the profiler's range, of operators in it."""
    # Without its look at the cache, which our clock around the ranges would count to the root and the root's range does not.
    marks, timer = Marks(model, stage, with_caches=False), ModuleTimer(model, CPU)
    with profiled_times(CPU) as recorded, ExitStack() as stack:
        if inside:
            stack.enter_context(timer)
        stack.enter_context(marks.active())
        if not inside:
            stack.enter_context(timer)
        run()
        marks.switch(None)
        ours = timer.collect()
    tables = recorded.tables()
    operators: dict[str, float] = {}
    for _, path, _, _, seconds, *_ in tables["operators"]["rows"]:
        if path is not None:
            operators[path] = operators.get(path, 0.0) + seconds
    return {
        path: (ours[path].exclusive_s, own, operators.get(path, 0.0))
        for _, path, _, _, own, _ in tables["modules"]["rows"]
        if path in ours and own
    }


def check(spec: ModelSpec, count: int) -> dict[str, Any]:
    model = load(spec, Workload(dtype="fp32", threads=1, input_tokens=INPUT_TOKENS), CPU)
    result: dict[str, Any] = {"model": spec.name, "dtype": "fp32", "input_tokens": INPUT_TOKENS, "stages": {}}
    with torch.inference_mode():
        runs = passes(model)
        for run in (*runs.values(), *runs.values()):
            run()
        for stage, run in runs.items():
            found = pairs(model, run, count)
            top = against_profiler(model, run, stage)
            found["top_modules"] = top
            low, high = GOALS[stage]
            found["met"] = {
                "coverage": low <= found["coverage"]["median"] <= high,
                "profiler": all(abs(row["ratio"] - 1) <= PROFILER_GOAL for row in top),
            }
            if stage == "prefill" and spec is GPT2:
                found["met"]["overhead"] = found["overhead"]["median"] <= OVERHEAD_GOAL
            result["stages"][stage] = found
            print("\n".join(lines(spec.name, stage, found)), flush=True)
    return result


def lines(name: str, stage: str, found: dict[str, Any]) -> list[str]:
    def shown(key: str) -> str:
        value = found[key]
        low, high = value["quartiles"]
        return f"{100 * value['median']:.2f} % (quartiles {100 * low:.2f} to {100 * high:.2f})"

    top = found["top_modules"]
    worst = max(top, key=lambda row: abs(row["ratio"] - 1))
    return [
        f"{name}, {stage}",
        f"  modules' own times ÷ plain pass   {shown('coverage')}",
        f"  cost of taking them               {shown('overhead')}",
        f"  plain ÷ plain                     {shown('plain_over_plain')}",
        f"  top {TOP} ours ÷ profiler           worst {worst['ratio']:.3f} ({worst['path']})",
        f"  of their own time, operators      {sum(r['operators_s'] for r in top) / sum(r['profiler_s'] for r in top):.1%}",
        f"  goals met                         {found['met']}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        specs = [GPT2, smollm2(Path(folder))]
        checked = [check(spec, arguments.pairs) for spec in specs if spec is not None]
    document = {
        "created": datetime.now(UTC).isoformat(),
        "torch": torch.__version__,
        "threads": 1,
        "clock": "processor time of the process",
        "pairs": arguments.pairs,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "models": checked,
    }
    out = arguments.out or ROOT / "benchmarks" / "results" / f"module_times_{datetime.now(UTC):%Y-%m-%d}.json"
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {out.name}")
    return 0 if all(all(s["met"].values()) for model in checked for s in model["stages"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
