"""Ceiling of calling operators: what each costs beside its arithmetic. Runs inside an engine process."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

import torch

from profiling.bench import CONTENDED_RATIO, Bench

#: Llama so narrow that its arithmetic takes no time: what remains of a decode step is what each operator costs to be called.
NARROW = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
#: Bytes that each of its products drives through the caches: about the weights of a layer's product in a small model.
FLOOD_BYTES = 4 << 20
GENERATIONS = 3


def overhead(bench: Bench, dtype: str) -> dict[str, Any] | None:
    """Seconds that one operator costs beside its arithmetic: a decode step of a narrow model over the operators that the engine
    counts in it. It includes Python, modules and views, which a single call of a small operator (``plain_add_s``) leaves out.

    In a model that is larger than the caches, every product drives the program and what it works on out of them. So on a processor steps are
    also timed with as many other bytes read after each linear layer (that time is taken out), and without; what they differ by is added.
    ``detail``: ``in_cache_s`` without it.
    """
    if bench.device.type == "cpu":
        torch.set_num_threads(
            1
        )  # nothing here is worth a second one, and the caches of the core that calls are those that matter
    operators, runner, loaded, tokens = _narrow(bench)
    runner.generate(tokens)
    plain = _steps(runner, tokens, None)
    best, median = min(plain), statistics.median(plain)
    detail: dict[str, Any] = {"method": "decode step of a narrow model", "operators": operators}
    if bench.device.type == "cpu":
        flood = _Flood(bench)
        for module in loaded.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(flood)
        steps = {}
        for flood.on in (False, True):
            steps[flood.on] = _steps(runner, tokens, flood)
        best += max(0.0, min(steps[True]) - min(steps[False]))
        median += max(0.0, statistics.median(steps[True]) - statistics.median(steps[False]))
        detail |= {
            "method": "decode step of a narrow model, caches emptied by its products",
            "in_cache_s": min(plain) / operators,
            "flood_bytes": FLOOD_BYTES,
        }
    x = bench.tensor(16, dtype="fp32")
    row = bench.row("overhead", "", "s", 1.0, lambda: torch.add(x, x))
    return row | {
        "threads": 0,
        "value": best / operators,
        "median": median / operators,
        "quality": "contended" if median / best > CONTENDED_RATIO else "ok",
        "detail": detail | {"plain_add_s": 1 / row["value"]},
    }


def _narrow(bench: Bench) -> tuple[int, Any, Any, int]:
    """(operators that move bytes in a decode step, the runner, the model, tokens to generate)."""
    from profiling.estimate import estimate
    from profiling.generation import Runner
    from profiling.loading import load, prepare_inputs
    from profiling.spec import HardwareSpec, ModelSpec, Workload

    model = ModelSpec(name="narrow", config=NARROW)
    workload = Workload(input_tokens=8, output_tokens=32, dtype="fp32")
    table = estimate(model, HardwareSpec(name="any"), workload)["operators"]
    at = {name: table["columns"].index(name) for name in ("stage", "calls", "bytes_read", "bytes_written")}
    operators = sum(
        row[at["calls"]]
        for row in table["rows"]
        if row[at["stage"]] == "decode" and row[at["bytes_read"]] + row[at["bytes_written"]]
    )
    with torch.inference_mode(False):
        loaded = load(model, workload, bench.device)
    inputs = prepare_inputs(model, loaded, workload, bench.device)
    runner = Runner(loaded, inputs, kind="decoder", logits="last", device=bench.device)
    return operators, runner, loaded, workload.output_tokens


class _Flood:
    """Reads, where it is hung up, the bytes that were read longest ago. ``seconds``: what that took since it was last set to 0."""

    def __init__(self, bench: Bench) -> None:
        self._memory = bench.beyond_caches("fp32")
        self._count = min(FLOOD_BYTES // 4, self._memory.numel())
        self._place, self.on, self.seconds = 0, False, 0.0

    def __call__(self, *_: Any) -> None:
        begin = time.perf_counter()
        if self.on:
            if self._place + self._count > self._memory.numel():
                self._place = 0
            self._memory[self._place : self._place + self._count].sum()
            self._place += self._count
        self.seconds += time.perf_counter() - begin


def _steps(runner: Any, tokens: int, flood: _Flood | None) -> list[float]:
    """Seconds of decode steps, without those of the flood."""
    found: list[float] = []
    for _ in range(GENERATIONS):
        spent: list[float] = []

        def between(_stage: str, spent: list[float] = spent) -> None:
            if flood is not None:
                spent.append(flood.seconds)
                flood.seconds = 0.0

        if flood is not None:
            flood.seconds = 0.0
        walls = [stamp.wall_ns for stamp in runner.generate(tokens, between).stamps]
        gaps = [(end - begin) / 1e9 for begin, end in pairwise(walls)]
        found += [gap - own for gap, own in zip(gaps[1:], spent[1:] or [0.0] * len(gaps), strict=False)]
    return found
