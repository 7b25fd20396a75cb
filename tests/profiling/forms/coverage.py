"""Which architectures of the installed transformers have closed forms: ``python -m tests.profiling.forms.coverage``.

For every type of docs/coverage.md that reads text, closed forms are made from a small configuration and compared with direct
traces of the complete, unfolded model: FLOPs, element-wise operations and every kind of bytes, by role and operator, the size of
the cache and the activation peak. Points: the first and the last one of every piece, and others drawn at random, for batches of
1 to 1,000. A type without closed forms is answered by traces: the same figures, a trace for every point. All types take hours: with
``--sample`` as many as asked are checked, drawn at random.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from tests.profiling import coverage
from tests.profiling.coverage_configs import FP32_ONLY, config_of

PAGE = coverage.ROOT / "docs" / "coverage-forms.md"
#: Seconds for the form of one type and all its comparisons.
LIMIT_S = 240
#: Points drawn at random per stage, beside the ends of all pieces.
POINTS = 6
#: Of the sample of types.
SEED = 3
FAMILIES = {kind: title for kind, title in coverage.FAMILIES.items() if kind != "front_end"}


def check(model_type: str, class_name: str, kind: str) -> dict[str, Any]:
    """One type here and now. ``no_form``: why it has none; ``problem``: where its form differs from a trace, or what failed."""
    facts: dict[str, Any] = {"type": model_type, "class": class_name, "kind": kind, "no_form": None, "problem": None}
    started = time.perf_counter()
    try:
        facts |= _checked(model_type, class_name, kind)
    except Exception as error:
        facts["problem"] = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
    facts["seconds"] = round(time.perf_counter() - started, 1)
    return facts


def _checked(model_type: str, class_name: str, kind: str) -> dict[str, Any]:
    from profiling.build import build, resolve
    from profiling.forms.make import make_form
    from profiling.forms.terms import NoForm
    from profiling.spec import ModelSpec, SpecError, Workload
    from tests.profiling.forms.direct import check_form

    workload = Workload(dtype="fp32" if model_type in FP32_ONLY else "bf16")
    model = ModelSpec(model_type, config_of(model_type, kind), class_name, kind)
    try:
        if kind == "encdec" and not resolve(model)[0].is_encoder_decoder:
            model = ModelSpec(model_type, model.config, class_name, "decoder")  # its text path
        started = time.perf_counter()
        try:
            form = make_form(model, workload)
        except NoForm as error:
            return {"no_form": str(error), "form_s": round(time.perf_counter() - started, 1)}
    except SpecError as error:
        return {"no_form": f"Cannot be traced: {error}"}
    made = round(time.perf_counter() - started, 1)
    complete = build(model, workload.dtype, workload.attn_implementation, fold=False)
    found = check_form(form, complete, workload, random.Random(model_type), POINTS)
    pieces = {name: len(stage.pieces) for name, stage in form.stages.items()}
    reach = {n: list(s.pieces[-1].ranges.values()) for n, s in form.stages.items()}
    return {
        "form_s": made,
        "pieces": pieces,
        "reach": reach,
        "max_context": complete.max_context,
        "differences": found,
        "problem": found[0] if found else None,
    }


# --- children -----------------------------------------------------------------------------------------------------------


class Child(coverage.Child):
    """As that of the coverage of traces, for forms: of low priority, with a limit of its own."""

    def check(self, model_type: str, class_name: str, kind: str) -> dict[str, Any]:
        process = self._process or self._start()
        failed = {"type": model_type, "class": class_name, "kind": kind, "no_form": None}
        process.stdin.write(json.dumps([model_type, class_name, kind]) + "\n")
        process.stdin.flush()
        try:
            line = self._lines.get(timeout=LIMIT_S)
        except Empty:
            self.close()
            return failed | {"problem": f"takes longer than {LIMIT_S} s", "seconds": LIMIT_S}
        if line is None:
            self.close()
            return failed | {"problem": "ends the process", "seconds": 0}
        return json.loads(line)

    def _start(self) -> subprocess.Popen:
        self._lines = lines = Queue()
        self._process = process = subprocess.Popen(
            ["nice", sys.executable, "-m", "tests.profiling.forms.coverage", "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=coverage.ROOT,
        )
        Thread(target=coverage._read, args=(process.stdout, lines), daemon=True).start()
        assert lines.get(timeout=120) == "ready"
        return process


def child() -> None:
    """Types as JSON lines in, results as JSON lines out."""
    import torch

    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr
    import profiling.forms.make  # noqa: F401  (the slow import, before the first time limit starts)

    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(check(*json.loads(line))), file=out, flush=True)


def sweep(wanted: list[tuple[str, str, str]], workers: int = 2, log: Path | None = None) -> list[dict[str, Any]]:
    """Check types in ``workers`` children; results in the order asked. ``log``: also written there as they come."""
    waiting: Queue = Queue()
    for number, item in enumerate(wanted):
        waiting.put((number, item))
    results: dict[int, dict[str, Any]] = {}

    def work() -> None:
        mine = Child()
        try:
            while True:
                number, item = waiting.get_nowait()
                results[number] = mine.check(*item)
                if log:
                    with log.open("a") as file:
                        file.write(json.dumps(results[number]) + "\n")
        except Empty:
            return
        finally:
            mine.close()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return [results[i] for i in range(len(wanted))]


# --- the page -----------------------------------------------------------------------------------------------------------


def everything() -> list[tuple[str, str, str]]:
    return [item for item in coverage.everything() if item[2] in FAMILIES]


def sample(count: int) -> list[tuple[str, str, str]]:
    """So many of them, always the same ones; a larger sample begins with a smaller one."""
    shuffled = everything()
    random.Random(SEED).shuffle(shuffled)
    return shuffled[:count]


_BLOCKS = "Rounds its source up to blocks, in an encoder whose decoder has a length of its own."
_TWO_LENGTHS = "A window limits the decoder's cache, and two lengths (tokens and source) with a break in one of them are not searched."

#: Why closed forms cannot be there, for types that were looked into.
REASONS: dict[str, str] = {
    "fnet": "Its Fourier transform takes n·log n operations, which is no polynomial.",
    "rwkv": "With one token and several sequences its class combines every sequence with the states of all: work grows with the square "
    "of the batch.",
    "funnel": "Cannot run on two tokens: after pooling there are too few.",
    "prophetnet": "Fails at the last of the positions that its configuration allows.",
    "recurrent_gemma": "Hands no cache back, so there is no decode step to follow.",
    "t5gemma": _TWO_LENGTHS,
    "t5gemma2": _TWO_LENGTHS,
    "led": _BLOCKS,
    "longt5": _BLOCKS,
    "pegasus_x": _BLOCKS,
    "encdec:bigbird_pegasus": _BLOCKS,
    "encoder-decoder": "Its decoder has no limit of positions in its configuration, its encoder has 512.",
}
_UNTRACED = "Cannot be traced: see the reason in coverage.md."


def page(results: list[dict[str, Any]]) -> str:
    """docs/coverage-forms.md: totals, then the types with and without a form."""
    import transformers

    whole = everything()
    sampled = len(results) < len(whole)
    command = "python -m tests.profiling.forms.coverage" + (f" --sample {len(results)}" if sampled else "")
    lines = [
        "# Architectures that have closed forms",
        "",
        f"Written by `{command}` with transformers {transformers.__version__}; do not edit.",
        "",
        *(__doc__ or "").split("\n", 2)[2].strip().splitlines(),
        "",
        "## Closed forms",
        "",
        *(
            [f"A sample: {len(results)} of {len(whole)} types, drawn at random. Nothing is known of the others.", ""]
            if sampled
            else []
        ),
        "| family | types | checked | closed forms, all exact | share |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, title in FAMILIES.items():
        mine = [r for r in results if r["kind"] == kind]
        good = sum(has_form(r) for r in mine)
        if mine:
            types = sum(item[2] == kind for item in whole)
            lines.append(f"| {title} | {types} | {len(mine)} | {good} | {good / len(mine):.1%} |")
    lines += ["", "## Types with", "", "| family | types |", "| --- | --- |"]
    for kind, title in FAMILIES.items():
        names = sorted(r["type"] for r in results if r["kind"] == kind and has_form(r))
        lines += [f"| {title} | {', '.join(names)} |"] if names else []
    lines += ["", "## Types without, answered by traces", "", "| type | family | why |", "| --- | --- | --- |"]
    lines += sorted(row(r) for r in results if not has_form(r))
    return "\n".join(lines) + "\n"


def has_form(result: dict[str, Any]) -> bool:
    return not result["no_form"] and result["problem"] is None


def row(result: dict[str, Any]) -> str:
    problem = result["problem"]
    late = str(problem).startswith("takes longer")
    reason = result["no_form"] or (
        f"Not known: the check {problem}." if late else f"Differs from a trace or fails: {problem}"
    )
    reason = REASONS.get(f"{result['kind']}:{result['type']}") or REASONS.get(result["type"]) or reason
    if str(result["no_form"]).startswith("Cannot be traced"):
        reason = _UNTRACED
    return f"| {result['type']} | {FAMILIES[result['kind']]} | {reason.replace('|', chr(92) + '|')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--show", metavar="TYPE", nargs="*", help="check these types here")
    parser.add_argument("--log", type=Path, help="write results there as they come, one JSON object a line")
    parser.add_argument("--kind", choices=FAMILIES)
    parser.add_argument("--sample", type=int, metavar="N", help="check N types, drawn at random")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.child:
        return child()
    drawn = everything() if arguments.sample is None else sample(arguments.sample)
    wanted = [w for w in drawn if arguments.kind in (None, w[2])]
    if arguments.show:
        for item in wanted:
            if item[0] in arguments.show:
                print(json.dumps(check(*item), indent=1))
        return None
    results = sweep(wanted, arguments.workers, arguments.log)
    if arguments.kind is None:
        PAGE.write_text(page(results))
    print(dict(Counter("form" if has_form(r) else "no form" if r["no_form"] else "differs" for r in results)))
    print("slowest:", sorted(((r.get("form_s", 0), r["type"]) for r in results), reverse=True)[:20])
    return None


if __name__ == "__main__":
    main()
