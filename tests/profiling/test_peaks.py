"""Activation peaks as traced without weights, against torch's allocator during real passes on the processor."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from profiling import workspace
from profiling.build import build
from profiling.estimate import estimate
from profiling.passes import Pass, trace
from profiling.recording import Shaped
from profiling.spec import HardwareSpec, Workload
from tests.profiling.real_runs import (
    _FOLLOWED,
    SMALL,
    allocations,
    peak_of,
    real_activation_peak,
    real_model,
    spec_of,
)

#: Of the allocator's own figure. Small passes have a few single numbers besides, which the meta device does not allocate.
TOLERANCE = 0.01

QUICK = ("gpt2", "mistral", "qwen3_moe", "deepseek_v3", "t5")


def passes_of(kind: str) -> list[Pass]:
    """Short; long (beyond every window here), with the logits of the last position; one token on a long context."""
    if kind == "encoder":
        return [Pass("encode", 2, 48), Pass("encode", 1, 768)]
    if kind == "encdec":
        return [Pass("prefill", 2, 1, 0, 48), Pass("prefill", 1, 1, 0, 768), Pass("decode", 2, 1, 512, 512)]
    return [Pass("prefill", 2, 48), Pass("prefill", 1, 768), Pass("decode", 2, 1, 512)]


def compare(model_type: str, dtype: str = "fp32") -> list[tuple[Pass, int, int]]:
    """(pass, predicted, allocated) for each pass of a small model."""
    model = spec_of(model_type)
    built, module = build(model, dtype), real_model(model, dtype, attn_implementation="sdpa")
    threads = torch.get_num_threads()
    return [
        (spec, trace(built, spec).recording.peak(threads), real_activation_peak(built, module, spec))
        for spec in passes_of(built.kind)
    ]


@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SMALL]
)
def test_activation_peak_is_that_of_the_real_allocator(model_type):
    for spec, predicted, allocated in compare(model_type):
        assert predicted == pytest.approx(allocated, rel=TOLERANCE), spec


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SMALL)
def test_long_passes_in_half_precision_have_the_real_peak(model_type):
    """Short ones do not: for few rows oneDNN's bf16 products take scratch and contiguous copies of operands, broadcast weights among
    them, that depend on the processor's instruction set and are not predicted."""
    spec, predicted, allocated = compare(model_type, "bf16")[1]
    assert max(spec.tokens, spec.source_tokens) >= 768
    assert predicted == pytest.approx(allocated, rel=TOLERANCE)


# --- kernels alone --------------------------------------------------------------------------------------------------------

#: query heads, key heads, queries, keys, width of keys, width of values, mask, grouped-query attention asked for
KERNELS = {
    "prefill": (8, 8, 800, 800, 64, 64, "causal", False),
    "medium": (8, 8, 300, 300, 32, 32, "causal", False),
    "decode": (8, 8, 1, 700, 64, 64, None, False),
    "grouped": (8, 2, 100, 100, 64, 64, "causal", True),
    "window": (8, 8, 300, 300, 32, 32, "bool", False),
    "bias": (8, 8, 300, 300, 32, 32, "float", False),
    "broadcast": (8, 1, 200, 200, 32, 32, "causal", False),
    "broadcast decode": (8, 1, 1, 700, 32, 32, "bool", False),
    "latent": (8, 8, 200, 200, 48, 32, "causal", False),
    "latent window": (8, 8, 200, 200, 48, 32, "bool", False),
    "latent decode": (8, 8, 1, 700, 48, 32, None, False),
}


def _profiled() -> profile:
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def shaped(tensor: torch.Tensor) -> Shaped:
    nbytes = tensor.numel() * tensor.element_size()
    return Shaped(0, tuple(tensor.shape), str(tensor.dtype), tensor.element_size(), nbytes, "activation")


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_attention_takes_the_workspace_of_the_real_kernel(name, dtype, threads):
    heads, key_heads, queries, keys, width, value_width, masking, gqa = KERNELS[name]
    query = torch.randn(2, heads, queries, width, dtype=dtype)
    key, value = (torch.randn(2, key_heads, keys, w, dtype=dtype) for w in (width, value_width))
    mask = None
    if masking == "bool":
        mask = torch.ones(2, 1, queries, keys, dtype=torch.bool).tril()
    elif masking == "float":
        mask = torch.zeros(2, 1, queries, keys, dtype=dtype)
    causal = masking == "causal"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.no_grad(), _profiled() as recorded, record_function(_FOLLOWED):
            out = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=gqa
            )
    finally:
        torch.set_num_threads(before)
    inputs = [shaped(t) for t in (query, key, value, mask) if t is not None]
    found = workspace.attention(inputs, shaped(out), causal=causal, gqa=gqa).on_cpu(threads)
    peak = peak_of(list(allocations(recorded)), {})
    assert found + out.numel() * out.element_size() == pytest.approx(peak, abs=32)  # single numbers


# --- in the document ------------------------------------------------------------------------------------------------------


def test_document_has_the_peak_of_every_stage_and_module():
    model, work = spec_of("deepseek_v3"), Workload(input_tokens=300, output_tokens=8, threads=2)
    peaks = {}
    for kind in ("gpu", "cpu"):
        made = estimate(model, HardwareSpec(name="Any", kind=kind), work)
        memory = made["memory"]["estimate"]
        assert set(memory["stages"]) == {"prefill", "decode"}
        assert memory["activation_peak_bytes"] == max(s["activation_peak_bytes"] for s in memory["stages"].values())
        rows = [dict(zip(made["modules"]["columns"], row, strict=True)) for row in made["modules"]["rows"]]
        for stage, figures in memory["stages"].items():
            mine = {row["path"]: row["activation_peak_bytes"] for row in rows if row["stage"] == stage}
            assert mine[""] == mine["model.layers"] == mine[figures["peak_module"]]
            if stage == "prefill":
                assert mine[""] == figures["activation_peak_bytes"]
            else:  # rows of decoding are those of the step in the middle, the figure is of the last step
                assert mine[""] < figures["activation_peak_bytes"] < 1.1 * mine[""]
            assert mine["model.layers.3"] > mine["model.layers.3.self_attn.q_a_proj"] > 0
        peaks[kind] = memory["stages"]["prefill"]
    # Latent attention has a fused kernel on accelerators only: on processors its scores are in memory.
    scores = 8 * 300 * 300 * 4
    assert peaks["cpu"]["activation_peak_bytes"] > peaks["gpu"]["activation_peak_bytes"] + scores
    assert peaks["cpu"]["peak_module"].endswith("self_attn")
    assert ".mlp" in peaks["gpu"]["peak_module"]
