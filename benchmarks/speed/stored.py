"""What stored closed forms answer, in a process without torch: single points, and very many. Prints one JSON line.

python -m benchmarks.speed.stored one FOLDER MODEL [CALLS]
python -m benchmarks.speed.stored bulk FOLDER MODEL [POINTS]
python -m benchmarks.speed.stored flops FOLDER MODEL 1x512 4x1024
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.speed.clock import Meter, summary
from profiling.forms.evaluate import Evaluator, Points
from profiling.forms.keys import form_key
from profiling.forms.store import FormStore
from profiling.forms.terms import ModelForm, point_terms
from profiling.precision import Precision
from profiling.roofline import ceilings
from profiling.spec import Workload
from tests.profiling.documents import catalogue_model, device

DEVICES = (
    "H100 SXM5 80GB",
    "H200 SXM 141GB",
    "B200 SXM 180GB",
    "A100 SXM4 80GB",
    "L40S 48GB",
    "L4 24GB",
    "T4 16GB",
    "GeForce RTX 4090 24GB",
    "Instinct MI300X 192GB",
    "Gaudi 3 (OAM)",
    "TPU v5e",
    "M2 Ultra (76-core GPU)",
)
#: Formats that are mixed; each takes an evaluator of its own.
FORMATS: tuple[dict[str, str], ...] = (
    {},
    {"weights_dtype": "int8", "kv_dtype": "fp8"},
    {"weights_dtype": "int4"},
    {"kv_dtype": "fp8"},
)
#: Points that are evaluated one by one as well.
CHECKED = 20


def load(folder: str, name: str, workload: Workload) -> ModelForm:
    form = FormStore(Path(folder)).get(form_key(catalogue_model(name), workload))
    if form is None:
        raise SystemExit(f"No closed form of {name} is stored.")
    return form


def evaluator(form: ModelForm, formats: dict[str, str]) -> Evaluator:
    workload = replace(Workload(), **formats)  # type: ignore[arg-type]  # all of them are text
    products = Precision.of(workload).product_dtype
    devices = [device(name) for name in DEVICES]
    limits = [ceilings(d, workload.dtype, products=products)[0] for d in devices]
    return Evaluator(form, workload, limits, [d.memory_bytes for d in devices])


def random_points(form: ModelForm, count: int) -> Points:
    """Batches up to 256, prompts up to 32,768 and answers up to 1,024 tokens, as far as the model takes them."""
    generator = np.random.default_rng(1)
    context = form.facts["max_context"] or 65_536
    longest = min(1024, context // 4)

    def logarithmic(high: int) -> np.ndarray:
        return np.exp(generator.uniform(0.0, np.log(high), count)).astype(np.int64)

    return Points(
        batch_size=logarithmic(257),
        input_tokens=logarithmic(min(32_768, context - longest)),
        output_tokens=generator.integers(1, longest + 1, count),
        device=generator.integers(0, len(DEVICES), count),
    )


def one(folder: str, name: str, calls: int) -> dict[str, Any]:
    """Single points: through the evaluator (every column), and term by term in whole numbers."""
    begin = time.perf_counter()
    form = load(folder, name, Workload())
    loaded = time.perf_counter()
    evaluate = evaluator(form, {})
    prepared = time.perf_counter()
    points = random_points(form, calls)
    singles = [points.at(slice(i, i + 1)) for i in range(calls)]
    stage = form.stages["prefill"]

    def all_columns(i: int) -> Any:
        return evaluate(singles[i])

    def terms(i: int) -> Any:
        return point_terms(stage, {"batch": int(points.batch_size[i]), "tokens": int(points.input_tokens[i])})

    runs: dict[str, Callable[[int], Any]] = {"point": all_columns, "point_terms": terms}
    for run in runs.values():
        run(0)
    times: dict[str, list[float]] = {what: [] for what in runs}
    with Meter() as meter:
        for i in range(calls):
            for what, run in runs.items():
                start = time.perf_counter()
                run(i)
                times[what].append(time.perf_counter() - start)
    return {
        "load_s": loaded - begin,
        "prepare_s": prepared - loaded,
        "meter": meter.to_json(),
        **{f"{what}_s": summary(values) for what, values in times.items()},
    }


def bulk(folder: str, name: str, count: int) -> dict[str, Any]:
    """Many random points: devices and formats mixed, gathered into one table. ``extra_bytes``: highest resident memory over that
    before, when the points were there and nothing else."""
    begin = time.perf_counter()
    form = load(folder, name, Workload())
    load_s = time.perf_counter() - begin
    points = random_points(form, count)
    chosen = np.random.default_rng(2).integers(0, len(FORMATS), count)
    before = psutil.Process().memory_info().rss
    begin = time.perf_counter()
    evaluators = [evaluator(form, formats) for formats in FORMATS]
    prepare_s = time.perf_counter() - begin
    meters: list[dict[str, Any]] = []
    table: dict[str, np.ndarray] = {}
    for _ in range(2):  # the first one takes memory that the second one finds there
        table = {}
        with Meter() as meter:
            table = evaluate_all(evaluators, points, chosen)
        meters.append(meter.to_json())
    extra = _peak_bytes() - before
    return {
        "points": count,
        "load_s": load_s,
        "prepare_s": prepare_s,
        "first": meters[0],
        "again": meters[1],
        "extra_bytes": extra,
        "columns": list(table),
        "devices": len(DEVICES),
        "formats": [formats or {"weights_dtype": "bf16", "kv_dtype": "bf16"} for formats in FORMATS],
        **_sizes(form, evaluators),
        "checked": _checked(evaluators, points, chosen, table),
    }


def evaluate_all(evaluators: list[Evaluator], points: Points, chosen: np.ndarray) -> dict[str, np.ndarray]:
    table: dict[str, np.ndarray] = {}
    for number, evaluate in enumerate(evaluators):
        here = np.flatnonzero(chosen == number)
        part = Points(*(getattr(points, f.name)[here] for f in fields(Points)))
        for column, values in evaluate(part).items():
            table.setdefault(column, np.empty(len(points)))[here] = values
    return table


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _sizes(form: ModelForm, evaluators: list[Evaluator]) -> dict[str, Any]:
    """``operator_groups``: distinct (stage, module's role, operator). ``rows``: what is left of them in one pass, by stage, with the
    formats applied and after merging terms that only differ in scale."""
    groups = {
        (stage, term.role, term.name) for stage, s in form.stages.items() for piece in s.pieces for term in piece.terms
    }
    rows = {
        stage: max(
            len(piece.steady.terms) + len(piece.growing.terms)
            for evaluate in evaluators
            for piece in evaluate._stages[stage]
        )
        for stage in form.stages
    }
    return {
        "operator_groups": len(groups),
        "terms": {stage: max(len(p.terms) for p in s.pieces) for stage, s in form.stages.items()},
        "rows": rows,
    }


def _checked(
    evaluators: list[Evaluator], points: Points, chosen: np.ndarray, table: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Some points again, one by one: largest difference between the two, relative."""
    largest, same_gaps = 0.0, True
    sample = np.random.default_rng(3).choice(len(points), min(CHECKED, len(points)), replace=False)
    for i in sample:
        single = evaluators[chosen[i]](points.at(slice(i, i + 1)))
        for column, values in single.items():
            a, b = float(values[0]), float(table[column][i])
            if np.isnan(a) or np.isnan(b):
                same_gaps &= bool(np.isnan(a) and np.isnan(b))
            elif a != b:
                largest = max(largest, abs(a - b) / max(abs(a), abs(b)))
    return {"points": len(sample), "largest_difference": largest, "equal": same_gaps and largest < 1e-12}


def flops(folder: str, name: str, shapes: list[str]) -> dict[str, Any]:
    """FLOPs of a prefill with logits at every position: of matrix products (and convolutions), and of everything else."""
    form = load(folder, name, Workload(logits="all"))
    found = []
    for shape in shapes:
        batch, tokens = (int(n) for n in shape.split("x"))
        terms = point_terms(form.stages["prefill"], {"batch": batch, "tokens": tokens})
        found.append(
            {
                "batch_size": batch,
                "tokens": tokens,
                "products": sum(t.flops for t in terms),
                "elementwise": sum(t.elementwise_flops for t in terms),
            }
        )
    return {"points": found}


def main() -> None:
    what, folder, name, *rest = sys.argv[1:]
    result: dict[str, Any]
    match what:
        case "one":
            result = one(folder, name, int(rest[0]))
        case "bulk":
            result = bulk(folder, name, int(rest[0]))
        case _:
            result = flops(folder, name, rest)
    if "torch" in sys.modules:
        raise SystemExit("torch was imported: stored forms must answer without it.")
    print(json.dumps({"model": name, "torch_imported": False, **result}))


if __name__ == "__main__":
    main()
