"""What the tracer counts: against the reference cases, and the folded model against the complete one."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from profiling.build import build
from profiling.execution import works
from profiling.inspection import active_parameters
from profiling.parallel import Plan
from profiling.passes import Pass, cache_shape, trace
from profiling.sharding import find_marks
from profiling.shares import count_layers, divided_peak
from profiling.spec import ModelSpec, Workload
from tests.profiling.documents import ROOT, catalogue, catalogue_model

CASES = {c["id"]: c for c in json.loads((ROOT / "tests/data/reference_cases.json").read_text())["cases"]}
ENCODERS = ("encoder", "vision")


def flops(item) -> int:
    return sum(times * call.flops for call, times in zip(item.calls, item.times, strict=True))


@pytest.fixture(scope="module")
def built():
    known = {}

    def get(model_id: str, **kwargs):
        key = (model_id, *sorted(kwargs.items()))
        if key not in known:
            known[key] = build(catalogue_model(model_id), "bf16", **kwargs)
        return known[key]

    return get


@pytest.mark.parametrize("case_id", sorted(CASES))
def test_reference_case(case_id, built):
    case = CASES[case_id]
    model = built(case_id)
    assert model.parameters == case["parameters"]
    assert model.weight_bytes == case["weights_bytes_bf16"]
    if case["kv_cache"]:
        assert cache_shape(model).bytes_per_token == case["kv_cache"]["bytes_per_token"]
    stage = "encode" if case["kind"] in ENCODERS else "prefill"
    for point in case["prefill"]:
        for logits, key in (("all", "flops_full_logits"), ("last", "flops_last_logits")):
            if key in point and (logits == "all" or case["kind"] == "decoder"):
                item = trace(model, Pass(stage, point["batch"], point["seq"], 0, point["seq"], logits))
                assert flops(item) == point[key], (stage, point["seq"], logits)
                assert item.recording.unknown == ()
    for point in case["decode"]:
        item = trace(model, Pass("decode", point["batch"], 1, point["context"]))
        assert flops(item) == point["flops"], ("decode", point["context"])
        assert item.recording.unknown == ()


@pytest.mark.parametrize("case_id", [c for c in sorted(CASES) if (CASES[c]["kv_cache"] or {}).get("hf_cache_bytes")])
def test_cache_is_as_large_as_the_real_one(case_id, built):
    for tokens, expected in CASES[case_id]["kv_cache"]["hf_cache_bytes"].items():
        length = int(tokens)
        if CASES[case_id]["kind"] == "encdec":
            item = trace(built(case_id), Pass("prefill", 1, length, 0, 1))
            cross = CASES[case_id]["kv_cache"]["cross_attention_bytes_per_encoder_token"]
            assert item.cache_bytes - cross == expected
        else:
            item = trace(built(case_id), Pass("prefill", 1, length))
            assert item.cache_bytes == expected


@pytest.mark.parametrize("case_id", [c for c in sorted(CASES) if "moe" in CASES[c]])
def test_active_parameters_of_mixtures(case_id, built):
    item = trace(built(case_id), Pass("prefill", 1, 7))
    assert active_parameters(built(case_id), item) == CASES[case_id]["moe"]["active_parameters"]


def passes_of(kind: str) -> list[Pass]:
    if kind in ENCODERS:
        return [Pass("encode", 2, 40)]
    source = 40 if kind == "encdec" else 0
    tokens = 5 if kind == "encdec" else 40
    return [
        Pass("prefill", 2, tokens, 0, source),
        Pass("prefill", 1, 700 if kind == "decoder" else 30, 0, source),
        Pass("decode", 3, 1, 30, source),
    ]


def fused_totals(item) -> dict[str, int]:
    """Bytes that fused kernels move, all in all."""
    channels = ("weight_read", "cache_read", "other_read", "cache_written", "other_written")
    counted = works(item, "fused")
    return {name: sum(w.times * getattr(w, name) for w in counted) for name in channels}


def divided_totals(built, item) -> dict[str, object]:
    """What two devices send each other in a pass, and the activations of each at their peak."""
    marks = find_marks(item, built)
    sent: Counter[str] = Counter()
    for index, (name, payload) in marks.collectives.items():
        sent[name] += item.times[index] * payload
    del sent["p2p"]  # there are as many as pipeline stages, not as blocks
    plan = Plan.of(Workload(tensor_parallel=2), count_layers(built))
    return {**sent, "activations": divided_peak(item, marks, plan)}


def totals(item) -> dict[str, int]:
    rows = list(zip(item.calls, item.times, strict=True))
    return {
        "calls": sum(n for _, n in rows),
        "flops": sum(n * c.flops for c, n in rows),
        "elementwise": sum(n * c.elementwise_flops for c, n in rows),
        "read": sum(n * c.bytes_read for c, n in rows),
        "written": sum(n * c.bytes_written for c, n in rows),
        "weights": sum(n * c.weight_bytes for c, n in rows),
        "hidden": sum(n * c.hidden_bytes for c, n in rows),
        "cache": item.cache_bytes,
        "activations": item.recording.activation_peak,
    }


@pytest.mark.slow
@pytest.mark.parametrize("model_id", sorted(catalogue()))
def test_folding_changes_no_number(model_id, built):
    folded, whole = built(model_id), build(catalogue_model(model_id), "bf16", fold=False)
    beyond = [Pass("decode", 2, 1, window + 300) for window in folded.windows if folded.kind == "decoder"]
    for spec in passes_of(folded.kind) + beyond:
        few, all_of_them = trace(folded, spec), trace(whole, spec)
        assert totals(few) == totals(all_of_them), spec
        assert fused_totals(few) == fused_totals(all_of_them), spec
        assert divided_totals(folded, few) == divided_totals(whole, all_of_them), spec


@pytest.mark.parametrize("model_id", ["llama-3-70b", "gemma-3-1b", "deepseek-v3"])
def test_folding_keeps_few_blocks(model_id, built):
    assert all(fold.kept <= 8 < len(fold.kinds) for fold in built(model_id).folds)


TINY = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def tiny(**changes) -> ModelSpec:
    return ModelSpec(name="tiny", config={**TINY, **changes}, architecture="LlamaForCausalLM")


def test_every_weight_is_read_at_least_once_and_tied_ones_count_once_in_memory():
    model = build(tiny(), "fp32")
    item = trace(model, Pass("prefill", 1, 16))
    read = sum(n * c.weight_bytes for c, n in zip(item.calls, item.times, strict=True))
    table = 512 * 64 * 4
    rows = 16 * 64 * 4
    # Every matrix and norm once, the embedding by its 16 rows, and its table once more as the LM head.
    assert read == model.weight_bytes + rows
    assert model.weight_bytes == model.parameters * 4
    untied = build(tiny(tie_word_embeddings=False), "fp32")
    assert untied.weight_bytes == model.weight_bytes + table


def test_views_move_nothing_and_copies_move_everything():
    model = build(tiny(), "bf16")
    calls = trace(model, Pass("prefill", 1, 16)).calls
    assert not {"view", "transpose", "t", "expand", "slice", "unsqueeze", "_unsafe_view"} & {c.name for c in calls}
    copies = [c for c in calls if c.name == "_to_copy" and c.path.endswith("input_layernorm")]
    assert copies[0].bytes_read == 16 * 64 * 2
    assert copies[0].bytes_written == 16 * 64 * 4


def test_attention_is_one_operator_that_moves_queries_keys_values_and_output_once():
    model = build(tiny(), "bf16")
    call = next(c for c in trace(model, Pass("prefill", 2, 16)).calls if c.name == "sdpa")
    assert call.flops == 2 * 2 * (2 * 4 * 16 * 16) * 16
    assert call.bytes_read + call.bytes_written == 2 * 16 * 2 * (64 + 32 + 32 + 64)


def test_an_operator_without_a_formula_is_named(monkeypatch):
    from profiling import operators

    monkeypatch.delitem(operators.REGISTRY, "silu")
    item = trace(build(tiny(), "bf16"), Pass("prefill", 1, 4))
    assert item.recording.unknown == ("silu",)
