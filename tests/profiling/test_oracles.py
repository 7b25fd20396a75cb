"""FLOPs and parameters against models that really ran: torch's own counter over eager attention, real weights, real tokens.

Every type is checked against that counter on the meta device by :mod:`tests.profiling.coverage`; here no value is pinned and
nothing stands in for a loop.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from profiling.build import build
from profiling.passes import Pass, trace
from tests.profiling.real_runs import SMALL, prepared, real_model, spec_of

#: A window that the contexts here exceed.
WINDOW = {"sliding_window": 16}
CHANGES = {"gemma2": WINDOW, "gemma3_text": WINDOW, "mistral": WINDOW, "mamba2": {"chunk_size": 16}}

QUICK = ("gpt2", "gemma3_text", "qwen3_moe", "deepseek_v3", "bert", "t5")


def passes_of(kind: str) -> list[Pass]:
    if kind == "encoder":
        return [Pass("encode", 1, 12), Pass("encode", 3, 40)]
    source = 24 if kind == "encdec" else 0
    shapes = [(1, 12), (3, 40)]
    prefill = [Pass("prefill", b, s, 0, source) for b, s in shapes]
    return prefill + [Pass("decode", b, 1, s, source) for b, s in shapes]


@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SMALL]
)
def test_a_real_run_has_the_flops_and_parameters_that_were_traced(model_type):
    model = spec_of(model_type, **CHANGES.get(model_type, {}))
    built = build(model, "fp32")
    module = real_model(model, attn_implementation="eager", experts_implementation="batched_mm")
    assert module.config._attn_implementation == "eager"
    assert built.parameters == module.num_parameters()
    for spec in passes_of(built.kind):
        item = trace(built, spec)
        assert item.recording.unknown == ()
        with torch.no_grad():
            ready = prepared(built, module, spec)
            with FlopCounterMode(display=False) as counter:
                ready.run()
        ours = sum(times * call.flops for call, times in zip(item.calls, item.times, strict=True))
        assert ours == counter.get_total_flops() > 0, spec
