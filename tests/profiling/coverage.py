"""Which architectures of the installed transformers the tracer covers: ``python -m tests.profiling.coverage``.

Each type is built from a small configuration, traced folded, and checked against a second opinion: the same class built
unfolded by transformers' own constructor, run with eager attention and batched experts under torch's FlopCounterMode.
"Works" means: no unknown operator, the same number of parameters, the same FLOPs, prefill and decode, at two shapes.
Front ends are the vision and audio parts of models that read text: there the pass from the images or sounds to the vectors
that the language model gets is traced and checked likewise, for one input and for two. Their text paths are in the tables
of their families. Some default configurations contradict themselves; such types are built from sizes that fit together.
Types are checked in child processes, so that one that hangs or crashes costs its own result only.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from tests.profiling.coverage_configs import FP32_ONLY, REASONS, config_of, types

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coverage.md"
LIMIT_S = 60

#: (batch, tokens) of the two prefills; decode follows with as many tokens in the cache.
SHAPES = ((1, 16), (2, 40))


def passes_of(kind: str) -> list[Any]:
    from profiling.passes import Pass

    if kind == "encoder":
        return [Pass("encode", b, s) for b, s in SHAPES]
    source = 24 if kind == "encdec" else 0
    prefill = [Pass("prefill", b, s, 0, source) for b, s in SHAPES]
    return prefill + [Pass("decode", b, 1, s, source) for b, s in SHAPES]


def check(model_type: str, class_name: str, kind: str) -> dict[str, Any]:
    """Check one type here and now. ``problem`` is None when it works."""
    started = time.perf_counter()
    facts: dict[str, Any] = {"type": model_type, "class": class_name, "kind": kind, "problem": None}
    try:
        facts["problem"] = _problem(model_type, class_name, kind, facts)
    except Exception as error:
        facts["problem"] = (str(error).strip() or type(error).__name__).splitlines()[0]
        if facts.pop("traceback", False):
            import traceback

            traceback.print_exc()
    facts["seconds"] = round(time.perf_counter() - started, 2)
    return facts


def _problem(model_type: str, class_name: str, kind: str, facts: dict[str, Any]) -> str | None:
    from profiling.build import cached_build, resolve
    from profiling.passes import trace
    from profiling.spec import ModelSpec

    if kind == "front_end":
        return _front_end_problem(model_type, class_name, facts)
    model = ModelSpec(name=model_type, config=config_of(model_type, kind), architecture=class_name, kind=kind)
    if kind == "encdec" and not resolve(model)[0].is_encoder_decoder:
        # A language model with a front end for audio: its text path is that of a decoder.
        kind, model = "decoder", replace(model, kind="decoder")
        facts["note"] = "text path; the audio front end is not traced"
    facts["dtype"] = "fp32" if model_type in FP32_ONLY else "bf16"
    built = cached_build(model, facts["dtype"], "sdpa")
    second = second_opinion(model, built.dtype)
    facts["parameters"] = built.parameters
    real = second.num_parameters()
    if built.parameters != real:
        return f"{built.parameters:,} parameters, the model itself says {real:,}"
    for spec in passes_of(kind):
        item = trace(built, spec)
        if item.recording.unknown:
            return "unknown operators: " + ", ".join(item.recording.unknown)
        ours = sum(n * c.flops for c, n in zip(item.calls, item.times, strict=True))
        theirs = counted(built, second, spec)
        facts[f"{spec.stage} {spec.batch_size}x{spec.tokens}"] = ours
        if ours != theirs:
            return (
                f"{spec.stage}: {ours:,} FLOPs, torch counts {theirs:,} ({ours / theirs - 1:+.2%})"
                if theirs
                else f"{spec.stage}: torch counts no FLOPs"
            )
    return None


def _front_end_problem(model_type: str, class_name: str, facts: dict[str, Any]) -> str | None:
    from profiling.build import build
    from profiling.front_ends import front_ends
    from profiling.passes import Pass, trace
    from profiling.spec import ModelSpec

    model = ModelSpec(name=model_type, config=config_of(model_type, "front_end"), architecture=class_name)
    built, second = build(model, "bf16"), second_opinion(model, torch_dtype("bf16"))
    kinds = front_ends(built.module)
    if not kinds:
        return "The class has neither a method for features nor a tower of its own."
    facts["note"] = " and ".join(kinds)
    facts["parameters"] = built.parameters
    if built.parameters != second.num_parameters():
        return f"{built.parameters:,} parameters, the model itself says {second.num_parameters():,}"
    for kind in kinds:
        for count in (1, 2):
            item = trace(built, Pass("encode", count, 1, front_end=kind))
            if item.recording.unknown:
                return "unknown operators: " + ", ".join(item.recording.unknown)
            ours = sum(n * c.flops for c, n in zip(item.calls, item.times, strict=True))
            theirs = counted_front_end(second, kind, count)
            facts[f"{kind} {count}"] = [ours, item.sequence_length]
            if ours != theirs:
                return f"{kind}: {ours:,} FLOPs, torch counts {theirs:,}"
    return None


def torch_dtype(name: str) -> Any:
    from profiling.build import TORCH_DTYPES

    return TORCH_DTYPES[name]


def counted_front_end(second: Any, kind: str, count: int) -> int:
    """FLOPs of ``count`` images or sounds by torch's counter, in the first layout that the second model takes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from profiling.front_ends import layouts, run_front_end
    from profiling.fused import Pinned

    for arguments in layouts(second, kind, count, second.dtype):
        try:
            with torch.no_grad(), Pinned(), FlopCounterMode(display=False) as counter:
                run_front_end(second, kind, arguments)
        except Exception:
            continue
        return counter.get_total_flops()
    return 0


def second_opinion(model: Any, dtype: Any) -> Any:
    """The complete model as transformers builds it: every layer, eager attention, experts as batched products."""
    import torch
    import transformers

    from profiling.build import resolve, without_values

    config, cls = resolve(model)
    config = copy.deepcopy(config)
    with torch.device("meta"):
        try:
            module = cls._from_config(
                config, dtype=dtype, attn_implementation="eager", experts_implementation="batched_mm"
            )
        except Exception:
            module = cls._from_config(copy.deepcopy(config), dtype=dtype, attn_implementation="eager")
    assert isinstance(module, transformers.PreTrainedModel)
    return without_values(module).eval().requires_grad_(False)


def counted(built: Any, second: Any, spec: Any) -> int:
    """FLOPs of the pass by torch's counter, on the second model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from profiling.fused import Pinned
    from profiling.passes import forward, prepare

    twin = replace(built, module=second, config=second.config)
    arguments, _ = prepare(twin, spec)
    with torch.no_grad(), Pinned(), FlopCounterMode(display=False) as counter:
        forward(twin, arguments)
    return counter.get_total_flops()


# --- children -----------------------------------------------------------------------------------------------------------


class Child:
    """A process that checks types one after the other, replaced when one takes too long or ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._lines: Queue = Queue()

    def check(self, model_type: str, class_name: str, kind: str) -> dict[str, Any]:
        process = self._process or self._start()
        failed = {"type": model_type, "class": class_name, "kind": kind}
        try:
            process.stdin.write(json.dumps([model_type, class_name, kind]) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=LIMIT_S)
        except Empty:
            self.close()
            return failed | {"problem": f"takes longer than {LIMIT_S} s", "seconds": LIMIT_S}
        except OSError:
            line = None
        if line is None:
            self.close()
            return failed | {"problem": "ends the process", "seconds": 0}
        return json.loads(line)

    def _start(self) -> subprocess.Popen:
        self._lines = lines = Queue()
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "tests.profiling.coverage", "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        assert lines.get(timeout=120) == "ready"
        return process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _read(stream: Any, lines: Queue) -> None:
    for line in stream:
        lines.put(line.strip())
    lines.put(None)


def child() -> None:
    """Types as JSON lines in, results as JSON lines out."""
    import torch

    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr
    import profiling.passes  # noqa: F401  (the slow import, before the first time limit starts)

    print("ready", file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(check(*json.loads(line))), file=out, flush=True)


def sweep(wanted: list[tuple[str, str, str]], workers: int = 2) -> list[dict[str, Any]]:
    """Check types in ``workers`` children; results in the order asked."""
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
        except Empty:
            return
        finally:
            mine.close()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return [results[i] for i in range(len(wanted))]


# --- the page -----------------------------------------------------------------------------------------------------------

FAMILIES = {"decoder": "Causal language models", "encoder": "Encoders", "encdec": "Encoder-decoders"}
FAMILIES["front_end"] = "Vision and audio front ends"


def page(results: list[dict[str, Any]]) -> str:
    """docs/coverage.md: totals, then one row per type."""
    import transformers

    lines = [
        "# Architectures that the tracer covers",
        "",
        f"Written by `python -m tests.profiling.coverage` with transformers {transformers.__version__}; do not edit.",
        "",
    ]
    lines += [*(__doc__ or "").split("\n", 2)[2].strip().splitlines(), ""]
    lines += ["| family | types | work | share |", "| --- | ---: | ---: | ---: |"]
    for kind, title in FAMILIES.items():
        mine = [r for r in results if r["kind"] == kind]
        good = sum(r["problem"] is None for r in mine)
        if mine:
            lines.append(f"| {title} | {len(mine)} | {good} | {good / len(mine):.1%} |")
    for kind, title in FAMILIES.items():
        lines += ["", f"## {title}", "", "| type | class | works, or why not |", "| --- | --- | --- |"]
        lines += [row(r) for r in results if r["kind"] == kind]
    return "\n".join(lines) + "\n"


def merged(text: str, results: list[dict[str, Any]]) -> str:
    """The page ``text`` with the rows of ``results`` and the totals of their families written anew."""
    kinds = {title: kind for kind, title in FAMILIES.items()}
    new = {(r["kind"], r["type"]): row(r) for r in results}
    lines, kind, counts = text.splitlines(), "", Counter[tuple[str, bool]]()
    for i, line in enumerate(lines):
        if line.startswith("## "):
            kind = kinds[line[3:]]
        elif kind and line.startswith("| ") and not line.startswith(("| type |", "| --- |")):
            lines[i] = new.get((kind, line.split(" | ")[0][2:]), line)
            counts[kind, " | works" in lines[i]] += 1
    for i, line in enumerate(lines):
        kind = kinds.get(line[2:].split(" | ")[0], "") if line.startswith("| ") else ""
        if kind:
            good, whole = counts[kind, True], counts[kind, True] + counts[kind, False]
            lines[i] = f"| {FAMILIES[kind]} | {whole} | {good} | {good / whole:.1%} |"
    return "\n".join(lines) + "\n"


def row(result: dict[str, Any]) -> str:
    works = "works (fp32: the class itself fails in bf16)" if result.get("dtype") == "fp32" else "works"
    if "note" in result:
        works += f" ({result['note']})"
    reason = REASONS.get(f"{result['kind']}:{result['type']}") or REASONS.get(result["type"]) or result["problem"]
    problem = works if result["problem"] is None else reason.replace("|", "\\|")
    return f"| {result['type']} | {result['class']} | {problem} |"


def everything() -> list[tuple[str, str, str]]:
    return [(t, c, kind) for kind, members in types().items() for t, c in members.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--show", metavar="TYPE", nargs="*", help="check these types here, with the traceback")
    parser.add_argument("--merge", metavar="TYPE", nargs="*", help="check these types here, and write their rows anew")
    parser.add_argument("--json", type=Path, help="write the results here instead of the page")
    parser.add_argument("--kind", choices=FAMILIES)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.child:
        return child()
    wanted = [w for w in everything() if arguments.kind in (None, w[2])]
    if arguments.show:
        for item in wanted:
            if item[0] in arguments.show:
                print(json.dumps(check(*item)))
        return None
    if arguments.merge:
        PAGE.write_text(merged(PAGE.read_text(), [check(*item) for item in wanted if item[0] in arguments.merge]))
        return None
    started = time.perf_counter()
    results = sweep(wanted, arguments.workers)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=0))
    else:
        PAGE.write_text(page(results))
    good = Counter(r["kind"] for r in results if r["problem"] is None)
    print(
        {k: f"{good[k]} of {sum(r['kind'] == k for r in results)}" for k in FAMILIES},
        f"{time.perf_counter() - started:.0f} s",
    )
    return None


if __name__ == "__main__":
    main()
