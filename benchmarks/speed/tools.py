"""What counting tools take for one point of a model on the meta device. Prints one JSON line.

    python -m benchmarks.speed.tools MODEL REPETITIONS FOLDER 1x512 4x1024

``FOLDER`` has the tools ("-": they are installed). Each point is a prefill with logits at every position, the model's default.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.clock import Meter, summary
from profiling.classes import resolve
from tests.profiling.documents import catalogue_model

#: Name and attention implementations to try: sdpa is what transformers takes by default.
TOOLS = {
    "plain forward": ("sdpa", "eager"),
    "FlopCounterMode": ("sdpa", "eager"),
    "calflops": ("sdpa", "eager"),
    "torchinfo": ("sdpa", "eager"),
}

Count = Callable[[Any, torch.Tensor], float | None]


def plain(model: Any, ids: torch.Tensor) -> None:
    with torch.no_grad():
        model(input_ids=ids)


def flop_counter(model: Any, ids: torch.Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids)
    return counter.get_total_flops()


def calflops(model: Any, ids: torch.Tensor) -> float:
    from calflops import calculate_flops

    found, _, _ = calculate_flops(
        model=model, kwargs={"input_ids": ids}, print_results=False, print_detailed=False, output_as_string=False
    )
    return found


def torchinfo(model: Any, ids: torch.Tensor) -> float:
    from torchinfo import summary as describe

    # It counts products and sums as one operation each.
    return 2 * describe(model, input_data={"input_ids": ids}, device="meta", verbose=0).total_mult_adds


COUNTS: dict[str, Count] = {
    "plain forward": plain,
    "FlopCounterMode": flop_counter,
    "calflops": calflops,
    "torchinfo": torchinfo,
}


def build(name: str, attention: str) -> Any:
    config, cls = resolve(catalogue_model(name))
    with torch.device("meta"):
        return cls._from_config(copy.deepcopy(config), dtype=torch.bfloat16, attn_implementation=attention).eval()  # type: ignore[attr-defined]


def run(name: str, repetitions: int, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """Every tool at every point, in turns."""
    begin = time.perf_counter()
    models = {attention: build(name, attention) for attention in ("sdpa", "eager")}
    build_s = (time.perf_counter() - begin) / len(models)
    cases = [(tool, attention) for tool, attentions in TOOLS.items() for attention in attentions]
    points = [torch.zeros(shape, dtype=torch.long, device="meta") for shape in shapes]
    times: dict[Any, list[float]] = {}
    counted: dict[Any, list[float | None]] = {}
    failed: dict[Any, str] = {}
    for case in cases:  # once untimed: imports, and what torch prepares at first use
        try:
            counted[case] = [COUNTS[case[0]](models[case[1]], ids) for ids in points]
        except ImportError as error:
            failed[case] = f"not installed ({error.name})"
        except Exception as error:
            failed[case] = f"{type(error).__name__}: {error}"[:200]
    with Meter() as meter:
        for _ in range(repetitions):
            for ids in points:
                for tool, attention in counted:
                    start = time.perf_counter()
                    COUNTS[tool](models[attention], ids)
                    times.setdefault((tool, attention), []).append(time.perf_counter() - start)
    rows = []
    for case in cases:
        row: dict[str, Any] = {"tool": case[0], "attention": case[1]}
        if case in failed:
            rows.append({**row, "skipped": failed[case]})
            continue
        rows.append({**row, "point_s": summary(times[case]), "flops": counted[case]})
    return {"model": name, "build_s": build_s, "meter": meter.to_json(), "rows": rows}


def main() -> None:
    name, repetitions, folder, *shapes = sys.argv[1:]
    if folder != "-":
        sys.path.insert(0, folder)
    torch.set_num_threads(1)
    # The tools print; what they say must not get into the answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            pairs = [(int(b), int(t)) for b, t in (shape.split("x") for shape in shapes)]
            result = run(name, int(repetitions), pairs)
        answer.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
