"""Laws that hold for any model and any shape, on configurations and workloads drawn at random."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from profiling.build import Built, build
from profiling.execution import works
from profiling.folding import folds_hold
from profiling.passes import Pass, Trace, trace
from profiling.roofline import ceilings
from profiling.spec import HardwareSpec, ModelSpec
from profiling.tables import MODULE_COLUMNS, Evaluated, evaluate, module_rows, stage_summary, traced_path
from tests.profiling.test_trace import divided_totals, fused_totals

NO_LIMITS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
QUICK = settings(max_examples=25, **NO_LIMITS)
DEEP = settings(max_examples=300, **NO_LIMITS)


# --- models and passes --------------------------------------------------------------------------------------------------


@st.composite
def decoders(draw) -> dict[str, Any]:
    """The keys that most decoders share."""
    kv = draw(st.sampled_from([1, 2, 4]))
    head = draw(st.sampled_from([4, 8, 12]))
    heads = kv * draw(st.sampled_from([1, 2]))
    return {
        "hidden_size": heads * head,
        "intermediate_size": draw(st.integers(3, 70)),
        "num_hidden_layers": draw(st.integers(1, 6)),
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": head,
        "vocab_size": draw(st.integers(20, 300)),
        "max_position_embeddings": 512,
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


@st.composite
def windows(draw) -> dict[str, Any]:
    """Layers with and without a sliding window in any order."""
    base = draw(decoders())
    kinds = st.sampled_from(["sliding_attention", "full_attention"])
    layers = draw(st.lists(kinds, min_size=base["num_hidden_layers"], max_size=base["num_hidden_layers"]))
    return {**base, "layer_types": layers, "sliding_window": draw(st.integers(2, 40))}


@st.composite
def mixtures(draw) -> dict[str, Any]:
    base = draw(decoders())
    experts = draw(st.integers(2, 6))
    return {
        **base,
        "num_experts": experts,
        "num_experts_per_tok": draw(st.integers(1, experts)),
        "moe_intermediate_size": draw(st.integers(3, 40)),
        "decoder_sparse_step": draw(st.integers(1, 3)),
        "mlp_only_layers": draw(st.lists(st.integers(0, 5), max_size=2, unique=True)),
    }


@st.composite
def latents(draw) -> dict[str, Any]:
    """Multi-head latent attention, dense layers before those with experts."""
    base = draw(decoders())
    return {
        **base,
        "head_dim": 4,
        "num_key_value_heads": base["num_attention_heads"],
        "q_lora_rank": draw(st.integers(4, 20)),
        "kv_lora_rank": draw(st.integers(4, 20)),
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": draw(st.sampled_from([4, 8])),
        "v_head_dim": draw(st.sampled_from([4, 8, 12])),
        "n_routed_experts": 8,
        "num_experts_per_tok": draw(st.integers(1, 4)),
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": draw(st.integers(3, 40)),
        "first_k_dense_replace": draw(st.integers(0, 3)),
        "n_shared_experts": draw(st.integers(1, 2)),
    }


@st.composite
def hybrids(draw) -> dict[str, Any]:
    """State-space and attention layers, with experts in some."""
    base = draw(decoders())
    period, experts = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        **base,
        "attn_layer_period": period,
        "attn_layer_offset": draw(
            st.integers(0, min(period, base["num_hidden_layers"]) - 1)
        ),  # it needs one with attention
        "expert_layer_period": experts,
        "expert_layer_offset": draw(st.integers(0, experts - 1)),
        "num_experts": draw(st.integers(2, 4)),
        "num_experts_per_tok": 2,
        "mamba_d_state": draw(st.integers(2, 8)),
        "mamba_dt_rank": draw(st.integers(2, 8)),
    }


@st.composite
def states(draw) -> dict[str, Any]:
    width = draw(st.sampled_from([8, 24]))
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": draw(st.integers(1, 5)),
        "vocab_size": draw(st.integers(20, 300)),
        "state_size": draw(st.integers(2, 8)),
        "time_step_rank": draw(st.integers(2, 8)),
    }


@st.composite
def both_ends(draw) -> dict[str, Any]:
    heads, head = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([4, 8]))
    return {
        "d_model": heads * head,
        "d_kv": head,
        "num_heads": heads,
        "d_ff": draw(st.integers(3, 70)),
        "num_layers": draw(st.integers(1, 5)),
        "num_decoder_layers": draw(st.integers(1, 5)),
        "vocab_size": draw(st.integers(20, 300)),
        "decoder_start_token_id": 0,
    }


FAMILIES = {
    "llama": ("decoder", decoders()),
    "gemma3_text": ("decoder", windows()),
    "qwen3_moe": ("decoder", mixtures()),
    "deepseek_v3": ("decoder", latents()),
    "jamba": ("decoder", hybrids()),
    "mamba": ("ssm", states()),
    "bert": ("encoder", decoders()),
    "t5": ("encdec", both_ends()),
}


@st.composite
def models(draw) -> ModelSpec:
    model_type = draw(st.sampled_from(sorted(FAMILIES)))
    kind, configs = FAMILIES[model_type]
    return ModelSpec(name=model_type, config={"model_type": model_type, **draw(configs)}, kind=kind)


@st.composite
def passes(draw, kind: str) -> Pass:
    batch, tokens = draw(st.integers(1, 4)), draw(st.integers(1, 60))
    if kind == "encoder":
        return Pass("encode", batch, tokens)
    source = draw(st.integers(1, 60)) if kind == "encdec" else 0
    if draw(st.booleans()):
        return Pass("decode", batch, 1, tokens, source)
    return Pass("prefill", batch, tokens, 0, source, draw(st.sampled_from(["last", "all"])))


cases = models().flatmap(lambda model: st.tuples(st.just(model), passes(model.kind)))


def totals(item: Trace) -> dict[str, int]:
    rows = list(zip(item.calls, item.times, strict=True))
    return {
        "calls": sum(n for _, n in rows),
        "flops": sum(n * c.flops for c, n in rows),
        "elementwise_flops": sum(n * c.elementwise_flops for c, n in rows),
        "bytes_read": sum(n * c.bytes_read for c, n in rows),
        "bytes_written": sum(n * c.bytes_written for c, n in rows),
        "hidden_bytes": sum(n * c.hidden_bytes for c, n in rows),
        "weight_bytes": sum(n * c.weight_bytes for c, n in rows),
        "cache_bytes": item.cache_bytes,
        "activation_peak": item.recording.peak(),
        "activation_peak_cpu": item.recording.peak(threads=3),
    }


# --- folding ------------------------------------------------------------------------------------------------------------


def folding_changes_no_total(case: tuple[ModelSpec, Pass]) -> None:
    model, spec = case
    folded = build(model, "bf16")
    assume(folds_hold(folded))
    whole = build(model, "bf16", fold=False)
    assert (folded.parameters, folded.weight_bytes) == (whole.parameters, whole.weight_bytes)
    assert totals(trace(folded, spec)) == totals(trace(whole, spec))
    assert fused_totals(trace(folded, spec)) == fused_totals(trace(whole, spec))
    assert divided_totals(folded, trace(folded, spec)) == divided_totals(whole, trace(whole, spec))


_SMALL = {
    "hidden_size": 4,
    "intermediate_size": 3,
    "num_hidden_layers": 4,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 20,
}

#: Found by the deep run: the peak lies in a block that is like the first, but not the first; or before the last window is there.
FOLDED_ONCE_WRONGLY = (
    (
        "qwen3_moe",
        {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 3, "mlp_only_layers": [1, 2]},
    ),
    ("gemma3_text", {"layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 2}),
)
seen = [
    (ModelSpec(name=name, config={"model_type": name, **_SMALL, **config}), Pass("decode", 1, 1, 1))
    for name, config in FOLDED_ONCE_WRONGLY
]

test_folding_changes_no_total = QUICK(example(seen[0])(example(seen[1])(given(cases)(folding_changes_no_total))))
test_folding_changes_no_total_deep = pytest.mark.exhaustive(DEEP(given(cases)(folding_changes_no_total)))


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_most_models_are_folded(model_type):
    """So that the law above is about something."""
    config = {"num_hidden_layers": 16, "num_layers": 16, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 99}
    built = build(
        ModelSpec(name="Deep", config={"model_type": model_type, **config}, kind=FAMILIES[model_type][0]), "bf16"
    )
    assert any(fold.kept < len(fold.kinds) for fold in built.folds)


# --- more work ----------------------------------------------------------------------------------------------------------


def more_is_never_less(case: tuple[ModelSpec, Pass], more: int) -> None:
    model, spec = case
    built = build(model, "bf16")
    base = totals(trace(built, spec))
    longer = "context" if spec.stage == "decode" else "source_tokens" if model.kind == "encdec" else "tokens"
    for name in ("batch_size", longer):
        other = totals(trace(built, replace(spec, **{name: getattr(spec, name) + more})))
        assert {key for key in base if other[key] < base[key]} <= {"calls"}, (name, base, other)


test_more_is_never_less = QUICK(given(cases, st.integers(1, 50))(more_is_never_less))
test_more_is_never_less_deep = pytest.mark.exhaustive(DEEP(given(cases, st.integers(1, 300))(more_is_never_less)))


# --- bytes and time -----------------------------------------------------------------------------------------------------

RATES = st.floats(1e9, 1e16)
EXECUTIONS = st.sampled_from(["eager", "fused"])


def evaluated(case: tuple[ModelSpec, Pass], execution: str, rates: tuple[float, float]) -> tuple[Built, Evaluated]:
    model, spec = case
    built = build(model, "bf16")
    item = trace(built, spec)
    hardware = HardwareSpec(name="Any", peak_flops={"bf16": rates[0]}, memory_bandwidth=rates[1])
    limits, _ = ceilings(hardware, "bf16")
    return built, evaluate(item, works(item, execution), limits)


def no_bytes_or_seconds_are_missing(case: tuple[ModelSpec, Pass], execution: str, rates: tuple[float, float]) -> None:
    _, item = evaluated(case, execution, rates)
    peak, bandwidth = rates
    assert item.timings is not None
    for work, time in zip(item.works, item.timings, strict=True):
        assert work.bytes_read >= work.weight_bytes >= 0
        assert work.bytes_written >= 0
        assert time.time_s >= work.flops / peak * (1 - 1e-12)
        assert time.time_s >= work.bytes_moved / bandwidth * (1 - 1e-12)
    stage = stage_summary(item)
    touched = sum(w.times * w.weight_bytes for w in item.works)
    assert stage["bytes"] >= touched > 0
    assert stage["latency_s"] >= max(stage["flops"] / peak, stage["bytes"] / bandwidth) * (1 - 1e-9)


def sums_are_those_of_the_operators(case: tuple[ModelSpec, Pass], execution: str, rates: tuple[float, float]) -> None:
    """Every module of the complete model against the operators that ran in it and below, added up by hand."""
    built, item = evaluated(case, execution, rates)
    own: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
    assert item.timings is not None
    for work, time in zip(item.works, item.timings, strict=True):
        for i, amount in enumerate((work.flops, work.bytes_moved, time.time_s)):
            own[work.call.path][i] += amount
    rows = {
        row["path"]: row for row in (dict(zip(MODULE_COLUMNS, r, strict=True)) for r in module_rows(built, {"s": item}))
    }
    below: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for path in rows:
        place: str | None = path
        while place is not None:
            below[place] = [a + b for a, b in zip(below[place], own[traced_path(built, path)], strict=True)]
            place = rows[place]["parent"]
    for path, row in rows.items():
        assert [row["flops"], row["bytes"]] == below[path][:2], path
        assert row["estimate_s"] == pytest.approx(below[path][2], rel=1e-9), path
    peaks = {path: row["activation_peak_bytes"] for path, row in rows.items()}
    assert peaks[""] == item.trace.recording.activation_peak
    for path, row in rows.items():
        if row["parent"] is not None and peaks[path] is not None:
            assert peaks[path] <= peaks[row["parent"]]


evaluations = (cases, EXECUTIONS, st.tuples(RATES, RATES))
test_no_bytes_or_seconds_are_missing = QUICK(given(*evaluations)(no_bytes_or_seconds_are_missing))
test_no_bytes_or_seconds_are_missing_deep = pytest.mark.exhaustive(
    DEEP(given(*evaluations)(no_bytes_or_seconds_are_missing))
)
test_sums_are_those_of_the_operators = QUICK(given(*evaluations)(sums_are_those_of_the_operators))
test_sums_are_those_of_the_operators_deep = pytest.mark.exhaustive(
    DEEP(given(*evaluations)(sums_are_those_of_the_operators))
)


@pytest.mark.parametrize("tied", [True, False])
@given(decoders(), st.integers(1, 4), st.integers(1, 30))
@QUICK
def test_a_dense_decoder_reads_every_weight_in_every_pass(tied, config, batch, tokens):
    config = {"model_type": "llama", **config, "tie_word_embeddings": tied}
    built = build(ModelSpec(name="llama", config=config), "bf16")
    rows = batch * tokens * config["hidden_size"] * 2
    table = 0 if tied else config["vocab_size"] * config["hidden_size"] * 2
    item = trace(built, Pass("prefill", batch, tokens))
    # Untied, of the embedding its rows; tied, the table is read as the head as well.
    assert totals(item)["weight_bytes"] == built.weight_bytes - table + rows
