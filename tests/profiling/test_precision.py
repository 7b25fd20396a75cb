"""Weights, activations and cache in formats of their own, against sums made here from the shapes of the models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.build import cached_build
from profiling.declared import configured_scheme
from profiling.demand import CHANNELS, Demand
from profiling.estimate import estimate
from profiling.execution import works
from profiling.passes import Pass, cached_trace
from profiling.precision import SCHEMES, Precision, kv_bits, reprecise, scheme
from profiling.quantised import mark_quantised, matrices
from profiling.roofline import LADDER, ceilings
from profiling.spec import DTYPE_BYTES, HardwareSpec, ModelSpec, SpecError, Workload
from tests.profiling import tiny
from tests.profiling.documents import catalogue_model, device

H100, A100 = device("H100 SXM5 80GB"), device("A100 SXM4 80GB")

# Llama-2-7B: 32 layers, width 4096, feed-forward 11008, 32 heads of 128, vocabulary 32000, head not tied.
LAYERS, WIDTH, INNER, VOCABULARY = 32, 4096, 11008, 32000
NORMS = (2 * LAYERS + 1) * WIDTH
LINEAR = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
TABLES = 2 * VOCABULARY * WIDTH


def of(model_id: str, hardware: HardwareSpec = H100, **changes: Any) -> dict[str, Any]:
    model = catalogue_model(model_id)
    output = 0 if model.kind == "encoder" else 9
    work = Workload(**{"input_tokens": 128, "output_tokens": output, "execution": "fused"} | changes)
    return estimate(model, hardware, work)


def codes(document: dict[str, Any]) -> dict[str, str]:
    return {w["code"]: w["message"] for w in document["warnings"]}


def marked(model: ModelSpec, stage: str = "prefill", execution: str = "fused"):
    spec = Pass("prefill", 2, 16) if stage == "prefill" else Pass("decode", 2, 1, 16)
    built = cached_build(model, "bf16", "sdpa")
    return mark_quantised(works(cached_trace(model, "bf16", "sdpa", spec), execution), built), built


# --- schemes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", 32),
        ("bf16", 16),
        ("fp16", 16),
        ("int4", 4 + (16 + 4) / 128),
        ("int4-g32", 4 + 20 / 32),
        ("int4-g64", 4 + 20 / 64),
        ("int3", 3 + 19 / 128),
        ("int2", 2 + 18 / 64),
        ("int2-g128", 2 + 18 / 128),
        ("mxfp4", 4.25),
        ("nf4", 4 + 8 / 64 + 32 / (64 * 256)),
    ],
)
def test_bits_of_a_weight_hold_scales_and_zero_points(name, bits):
    assert scheme(name).bits_per_weight(4096) == pytest.approx(bits)
    assert scheme(name).bits_per_weight() == pytest.approx(bits)
    assert scheme(name).stored_bytes(4096 * 100, 4096) == pytest.approx(4096 * 100 * bits / 8)


@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_a_scale_for_each_output_channel(name):
    assert scheme(name).stored_bytes(4096 * 100, 4096) == 4096 * 100 + 100 * 4
    assert scheme(name).bits_per_weight() == 8


def test_a_last_group_that_is_not_full_has_a_scale_too():
    rows, inner = 10, 300  # three groups of 128, the last with 44
    assert scheme("int4").stored_bytes(rows * inner, inner) == pytest.approx(rows * (inner * 4 + 3 * 20) / 8)


@pytest.mark.parametrize("name", ["int5", "int4-g48", "int8-g64", "", "INT4", "int4-g", None, 4, ["int4"]])
def test_unknown_schemes_are_refused_with_the_choices(name):
    with pytest.raises(SpecError, match="int4-g64") as caught:
        scheme(name)
    assert caught.value.field == "weights_dtype"


def test_every_scheme_says_what_it_is():
    for name in (*SCHEMES, "int4-g64"):
        found = scheme(name)
        text = found.describe()
        assert f"{found.bits:g} bits" in text
        assert ("zero point" in text) == (not found.symmetric) == (found.operations == 2)


def test_bits_of_cached_values():
    assert [kv_bits(name, 128) for name in ("fp32", "bf16", "fp16", "fp8")] == [32, 16, 16, 8]
    assert kv_bits("int8", 128) == 8 + 16 / 128
    assert kv_bits("int4", 64) == 4 + 32 / 64


# --- which formats go together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"weights_dtype": "int5"}, "weights_dtype", "nf4"),
        ({"kv_dtype": "nf4"}, "kv_dtype", "fp8, int8, int4"),
        ({"activation_dtype": "int4"}, "activation_dtype", "fp8, int8"),
        ({"activation_dtype": "int8"}, "activation_dtype", "int8 weights"),
        ({"activation_dtype": "int8", "weights_dtype": "int4"}, "activation_dtype", "int8 weights"),
        ({"activation_dtype": "fp8", "weights_dtype": "int8"}, "activation_dtype", "fp8 weights"),
        ({"activation_dtype": "fp16"}, "activation_dtype", "data type"),
    ],
)
def test_formats_that_do_not_go_together_are_refused_at_their_field(changes, field, text):
    with pytest.raises(SpecError, match=text) as caught:
        Workload(**changes).check()
    assert caught.value.field == field


def test_formats_that_are_the_data_type_change_nothing():
    same = of("gpt2", weights_dtype="bf16", activation_dtype="bf16", kv_dtype="bf16")
    plain = of("gpt2")
    for key in ("metrics", "stages", "operators", "modules", "memory", "conventions", "graph"):
        assert same[key] == plain[key]


# --- memory -------------------------------------------------------------------------------------------------------------


def test_llama_in_int4_weighs_its_weights_scales_and_zero_points():
    document = of("llama-2-7b", weights_dtype="int4")
    groups = LINEAR // 128
    quantised = LINEAR // 2 + groups * 2 + groups // 2  # four bits each, an fp16 scale, a zero point of four bits
    others = 2 * (TABLES + NORMS)
    memory = document["memory"]["estimate"]
    assert document["model"]["weight_bytes"] == memory["weights_bytes"] == quantised + others
    assert memory["quantised_weights_bytes"] == quantised
    assert memory["other_weights_bytes"] == others
    assert memory["logical_weights_bytes"] == 2 * (LINEAR + TABLES + NORMS)
    assert document["model"]["parameters"] == LINEAR + TABLES + NORMS
    assert memory["widened_bytes"] == 0
    parts = ("weights_bytes", "kv_cache_bytes", "state_bytes", "activation_peak_bytes", "widened_bytes")
    assert memory["total_bytes"] == sum(memory[part] for part in parts)


@pytest.mark.parametrize("model_id", ["gpt2", "mixtral-8x7b"])
def test_modules_weigh_what_they_store(model_id):
    document = of(model_id, weights_dtype="nf4")
    table = [dict(zip(document["modules"]["columns"], r, strict=True)) for r in document["modules"]["rows"]]
    prefill = [r for r in table if r["stage"] == "prefill"]
    root = next(r for r in prefill if r["path"] == "")
    assert root["weight_bytes"] == document["model"]["weight_bytes"]
    for parent in prefill:
        children = [r["weight_bytes"] for r in prefill if r["parent"] == parent["path"]]
        if children and sum(r["parameters"] for r in prefill if r["parent"] == parent["path"]) == parent["parameters"]:
            assert sum(children) == parent["weight_bytes"], parent["path"]


def test_a_cache_in_eight_bits_takes_half_and_scales_count():
    plain, fp8, int8, int4 = (of("llama-2-7b", kv_dtype=name)["memory"] for name in (None, "fp8", "int8", "int4"))
    tokens = 128 + 8
    values = tokens * LAYERS * 2 * WIDTH
    heads = values // 128  # keys and values of a token in a head, 128 numbers each
    assert plain["estimate"]["kv_cache_bytes"] == 2 * values
    assert fp8["estimate"]["kv_cache_bytes"] == values
    assert int8["estimate"]["kv_cache_bytes"] == values + 2 * heads
    assert int4["estimate"]["kv_cache_bytes"] == values // 2 + 4 * heads
    assert fp8["kv_cache_bytes_per_token"] == plain["kv_cache_bytes_per_token"] // 2
    assert fp8["estimate"]["weights_bytes"] == plain["estimate"]["weights_bytes"]


def test_states_keep_their_format():
    for kv in (None, "fp8"):
        memory = of("mamba-130m", kv_dtype=kv)
        assert memory["memory"]["estimate"]["state_bytes"] == 2_654_208  # 24 layers of 1536 × (4 + 2·16) × 2 bytes
        assert memory["stages"]["decode"]["bytes"] == of("mamba-130m")["stages"]["decode"]["bytes"]


def test_what_does_not_fit_is_told_which_formats_would():
    document = of("llama-3-70b")
    text = " ".join(document["memory"]["estimate"]["suggestions"])
    fitting = of("llama-3-70b", weights_dtype="int8")["memory"]["estimate"]
    assert fitting["total_bytes"] < 80e9
    assert f"int8 weights it needs about {fitting['total_bytes'] / 1e9:.1f} GB" in text
    assert "scales included, which fits" in text
    small = replace(H100, memory_bytes=30 * 10**9)
    text = " ".join(of("llama-3-70b", small)["memory"]["estimate"]["suggestions"])
    assert "Even with int4 weights" in text
    assert "too much" in text
    # Where the cache is what is too large, its format is what helps.
    wide = of("llama-2-7b", batch_size=64, input_tokens=2048)["memory"]["estimate"]
    saved = of("llama-2-7b", batch_size=64, input_tokens=2048, kv_dtype="fp8")["memory"]["estimate"]
    assert saved["fits"] > wide["fits"]
    assert any("fp8 cache" in s and "fits" in s for s in wide["suggestions"])


# --- which weights ------------------------------------------------------------------------------------------------------


def test_linear_layers_of_blocks_are_quantised_and_nothing_else():
    items, built = marked(catalogue_model("gpt2"))
    found = {w.call.path.split(".", 3)[-1] for w in items if w.quantised}
    assert found == {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
    assert sum(m.times * m.parameters for m in matrices(items, built)) == 12 * 12 * 768 * 768
    biased = next(w for w in items if w.call.path.endswith("0.mlp.c_proj"))
    assert biased.in_features == 3072
    assert biased.weight_read * biased.quantised_share == pytest.approx(2 * 3072 * 768)  # the bias stays


@pytest.mark.parametrize(("model_id", "router"), [("mixtral-8x7b", "gate"), ("gpt-oss-20b", "router")])
def test_experts_are_quantised_and_their_router_is_not(model_id, router):
    items, _ = marked(catalogue_model(model_id))
    paths = {w.call.path for w in items if w.quantised}
    assert any(path.endswith("experts") for path in paths)
    assert not any(path.endswith(router) for path in paths)
    assert not any("lm_head" in path or "embed" in path for path in paths)


def test_weights_that_a_model_keeps_in_another_format_stay():
    items, _ = marked(catalogue_model("deepseek-v2-lite"))
    assert not any(w.quantised for w in items if w.call.path.endswith("mlp.gate"))  # routed in fp32
    assert any(w.quantised for w in items if w.call.path.endswith("shared_experts.up_proj"))


# --- traffic and time ---------------------------------------------------------------------------------------------------


def test_decode_of_quantised_weights_takes_the_time_of_their_bytes():
    slow = replace(H100, memory_bandwidth=1e9)  # bytes decide
    plain, small = (of("llama-2-7b", slow, weights_dtype=name) for name in (None, "int4"))
    saved = LINEAR * (16 - (4 + 20 / 128)) / 8
    difference = plain["metrics"]["tpot"]["value"] - small["metrics"]["tpot"]["value"]
    assert difference == pytest.approx(saved / 1e9, rel=1e-9)
    assert plain["metrics"]["tpot"]["value"] / small["metrics"]["tpot"]["value"] == pytest.approx(3.6, rel=0.02)


def test_eager_execution_writes_and_reads_the_widened_copy():
    stages = {
        (execution, name): of("llama-2-7b", execution=execution, weights_dtype=name)["stages"]["decode"]
        for execution in ("eager", "fused")
        for name in (None, "int4")
    }
    stored, wide = LINEAR * (4 + 20 / 128) / 8, LINEAR * 2
    fused = stages["fused", "int4"]["bytes"] - stages["fused", None]["bytes"]
    eager = stages["eager", "int4"]["bytes"] - stages["eager", None]["bytes"]
    assert fused == pytest.approx(stored - wide, rel=1e-9)
    assert eager == pytest.approx(stored + wide, rel=1e-9)
    for execution in ("eager", "fused"):
        more = stages[execution, "int4"]["elementwise_flops"] - stages[execution, None]["elementwise_flops"]
        assert more == pytest.approx(2 * LINEAR)  # subtract the zero point, multiply with the scale
        assert stages[execution, "int4"]["flops"] == stages[execution, None]["flops"]
    widened = of("llama-2-7b", execution="eager", weights_dtype="int4")["memory"]["estimate"]["widened_bytes"]
    assert widened == 2 * WIDTH * INNER


def test_cached_values_are_widened_by_what_reads_them():
    def decode(execution: str, name: str | None):
        return of("llama-2-7b", batch_size=2, execution=execution, kv_dtype=name)["stages"]["decode"]

    context = 128 + 4  # the middle step: all of the prompt and half of the output, and the new token
    cached = 2 * LAYERS * 2 * WIDTH * (context + 1)
    new = 2 * LAYERS * 2 * WIDTH
    fused, plain = decode("fused", "fp8"), decode("fused", None)
    assert plain["bytes"] - fused["bytes"] == pytest.approx(cached + new)
    assert fused["elementwise_flops"] - plain["elementwise_flops"] == pytest.approx(cached + 4 * new)
    eager, plain = decode("eager", "fp8"), decode("eager", None)
    # Appending copies the old cache in one byte a value instead of two, attention reads a copy in two bytes that is made first.
    appended = (cached - new) + cached
    assert eager["bytes"] - plain["bytes"] == pytest.approx(-appended - cached + 2 * (2 * cached))
    assert eager["elementwise_flops"] - plain["elementwise_flops"] == pytest.approx(cached + 4 * new)


def test_only_the_experts_that_are_used_are_read_and_widened():
    layers, experts, top_k, width, inner = 32, 8, 2, 4096, 14336
    attention = layers * (2 * width * width + 2 * width * 1024)
    one_expert = layers * 3 * width * inner
    for batch in (1, 4):
        used = experts * (1 - (1 - top_k / experts) ** batch)
        plain, small = (
            of("mixtral-8x7b", batch_size=batch, weights_dtype=name)["stages"]["decode"] for name in (None, "nf4")
        )
        read = attention + used * one_expert
        bits = 4 + 8 / 64 + 32 / (64 * 256)
        assert plain["bytes"] - small["bytes"] == pytest.approx(read * (16 - bits) / 8, rel=1e-6)
        assert small["elementwise_flops"] - plain["elementwise_flops"] == pytest.approx(read, rel=1e-6)


def test_eight_bit_products_read_narrow_inputs_and_rescale_outputs():
    batch, tokens = 2, 128
    rows = batch * tokens
    plain, low = (
        of("llama-2-7b", batch_size=batch, weights_dtype=name, activation_dtype=name)["stages"]["prefill"]
        for name in (None, "int8")
    )
    inputs = LAYERS * rows * (6 * WIDTH + INNER)  # q, k, v, o, gate, up; down
    outputs = LAYERS * rows * (5 * WIDTH + 2 * INNER)
    scales = LAYERS * rows * 7 * 4  # one in fp32 per token and layer
    channels = LAYERS * (5 * WIDTH + 2 * INNER) * 4
    saved = LINEAR - channels + inputs - scales
    assert plain["bytes"] - low["bytes"] == pytest.approx(saved, rel=1e-9)
    assert low["elementwise_flops"] - plain["elementwise_flops"] == pytest.approx(4 * inputs + 2 * outputs, rel=1e-9)
    eager, eager_low = (
        of("llama-2-7b", batch_size=batch, execution="eager", weights_dtype=name, activation_dtype=name)
        for name in (None, "int8")
    )
    # A kernel of its own reads the inputs in two bytes and writes them in one.
    more = 2 * inputs + (inputs + scales)
    difference = eager["stages"]["prefill"]["bytes"] - eager_low["stages"]["prefill"]["bytes"]
    assert difference == pytest.approx(saved - more, rel=1e-9)
    assert eager_low["memory"]["estimate"]["widened_bytes"] == 0


def test_products_run_at_the_rate_of_their_format():
    compute = replace(H100, memory_bandwidth=1e18, peak_flops=H100.peak_flops | {"fp32": 1e18})
    document = of("llama-2-7b", compute, input_tokens=2048, weights_dtype="fp8", activation_dtype="fp8")
    flops = document["stages"]["prefill"]["flops"]
    low = 2 * 2048 * LINEAR
    by_hand = low / H100.peak_flops["fp8"] + (flops - low) / H100.peak_flops["bf16"]
    assert document["metrics"]["ttft"]["value"] == pytest.approx(by_hand, rel=1e-3)
    assert document["metrics"]["mfu_prefill"]["value"] == pytest.approx(1, rel=1e-3)
    roofs = document["roofline"]["roofs"]
    assert [(r["dtype"], r["used"]) for r in roofs][:2] == [("bf16", True), ("fp8", True)]
    assert not any(r["used"] for r in roofs[2:])
    assert len({(r["level"], r["dtype"]) for r in roofs}) == len(roofs)
    only_weights = of("llama-2-7b", compute, input_tokens=2048, weights_dtype="fp8")
    assert only_weights["metrics"]["ttft"]["value"] == pytest.approx(flops / H100.peak_flops["bf16"], rel=1e-3)


def test_measured_rates_serve_the_formats_that_were_timed():
    rates = [
        {"op_class": "gemm", "dtype": "bf16", "threads": 1, "value": 1e12, "unit": "FLOP/s"},
        {"op_class": "gemm", "dtype": "int8", "threads": 1, "value": 3e12, "unit": "OP/s"},
        {"op_class": "copy", "dtype": "", "threads": 1, "value": 1e18, "unit": "B/s"},
    ]
    host = HardwareSpec(name="Host", ceilings=rates)
    limits, warnings = ceilings(host, "bf16", products="int8")
    assert (limits.low_peak, warnings) == (3e12, [])
    limits, warnings = ceilings(host, "bf16", products="fp8")
    assert limits.low_peak == 1e12
    assert [w["code"] for w in warnings] == ["dtype_fallback"]


# --- the ladder ---------------------------------------------------------------------------------------------------------


def test_the_ladder_goes_down_visibly():
    document = of("llama-2-7b", A100, weights_dtype="fp8", activation_dtype="fp8")
    text = codes(document)["dtype_fallback"]
    assert "A100" in text
    assert "fp8" in text
    assert "bf16" in text
    assert "fp8 (timed at the bf16 rate)" in document["conventions"]["compute"]
    assert [r["dtype"] for r in document["roofline"]["roofs"] if r["used"]] == ["bf16"]
    # Memory does not depend on it.
    assert document["model"]["weight_bytes"] == of("llama-2-7b", weights_dtype="fp8")["model"]["weight_bytes"]


def test_a_device_without_four_bit_rates_multiplies_in_eight():
    limits, warnings = ceilings(H100, "fp4")
    assert H100.peak_flops.get("fp4") is None
    assert (limits.peak_dtype, limits.peak_flops) == ("fp8", H100.peak_flops["fp8"])
    assert [w["code"] for w in warnings] == ["dtype_fallback"]
    limits, warnings = ceilings(replace(A100, peak_flops={"fp32": 1e13}), "fp4")
    assert limits.peak_dtype == "fp32"
    assert "fp4 → fp8 → bf16 → fp16 → fp32" in warnings[0]["message"]


def test_weights_alone_need_no_rate_of_their_format():
    assert "dtype_fallback" not in codes(of("llama-2-7b", A100, weights_dtype="mxfp4", kv_dtype="fp8"))


def test_every_format_has_a_ladder_that_begins_with_itself_and_ends_in_fp32():
    assert set(LADDER) == set(DTYPE_BYTES)
    for name, steps in LADDER.items():
        assert steps[0] == name
        assert steps[-1] == "fp32"
        assert len(set(steps)) == len(steps)


# --- linear -------------------------------------------------------------------------------------------------------------

NUMBERS = st.tuples(*[st.floats(0, 1e12) for _ in CHANNELS])
PRECISIONS = [
    Precision("bf16", weights=scheme(weights), cache=cache, activations=activations, eager=eager)
    for weights, cache, activations in (("int4", "int4", None), ("nf4", "fp8", None), ("int8", "int8", "int8"))
    for eager in (True, False)
]


def demand(values: tuple[Any, ...], appends: bool) -> Demand:
    return Demand(
        op_class="matmul",
        quantised=True,
        quantised_share=0.75,
        in_features=96,
        cache_vector=64,
        appends=appends,
        **dict(zip(CHANNELS, values, strict=True)),
    )


@given(NUMBERS, NUMBERS, st.sampled_from(PRECISIONS), st.booleans())
def test_formats_act_linearly(a, b, precision, appends):
    together = reprecise(demand(tuple(x + y for x, y in zip(a, b, strict=True)), appends), precision, 2)
    first, second = (reprecise(demand(values, appends), precision, 2) for values in (a, b))
    arrays = reprecise(demand(tuple(np.array(pair) for pair in zip(a, b, strict=True)), appends), precision, 2)
    for name in CHANNELS:
        one, two = getattr(first, name), getattr(second, name)
        assert getattr(together, name) == pytest.approx(one + two, rel=1e-9, abs=1e-6)
        assert getattr(arrays, name) == pytest.approx([one, two], rel=1e-12)
        assert one >= 0
    assert reprecise(demand((0,) * len(CHANNELS), appends), precision, 2).bytes_moved == 0


def test_decode_is_the_sum_of_its_steps_in_any_format():
    document = of("llama-2-7b", output_tokens=4, weights_dtype="int4-g32", kv_dtype="int4")
    steps = [
        of("llama-2-7b", input_tokens=128 + i, output_tokens=2, weights_dtype="int4-g32", kv_dtype="int4")
        for i in range(3)
    ]
    seconds = sum(step["metrics"]["decode_time_per_step"]["value"] for step in steps)
    assert 3 * document["metrics"]["tpot"]["value"] == pytest.approx(seconds, rel=1e-12)


# --- several devices ----------------------------------------------------------------------------------------------------


def test_devices_unpack_what_they_hold():
    one, two = (of("llama-2-7b", execution="eager", weights_dtype="int4", tensor_parallel=degree) for degree in (1, 2))
    for key in ("quantised_weights_bytes", "widened_bytes"):
        alone, half = one["memory"]["estimate"][key], two["memory"]["estimate"][key]
        assert half == pytest.approx(alone / 2, rel=0.01)
    stage = two["parallelism"]["stages"][0]
    assert stage["widened_bytes"] == two["memory"]["estimate"]["widened_bytes"] > 0
    assert stage["total_bytes"] == two["memory"]["estimate"]["total_bytes"]
    copies = [d["stages"]["decode"]["bytes"] for d in (one, two)]
    assert copies[1] == pytest.approx(copies[0] / 2, rel=0.01)


# --- words --------------------------------------------------------------------------------------------------------------


def test_conventions_name_scheme_layers_and_compute_format():
    words = of("llama-2-7b", weights_dtype="int4", kv_dtype="int8")["conventions"]
    assert "int4-g128" in words["weights"]
    assert "4.156" in words["weights"]
    assert "LM head" in words["weights"]
    assert "registers" in words["weights"]
    assert "int8" in words["kv_cache"]
    assert "assumption" in words["kv_cache"]
    assert words["compute"] == "all products in bf16"
    plain = of("llama-2-7b")["conventions"]
    assert plain["weights"] == "all weights in bf16"
    eager = of("llama-2-7b", execution="eager", weights_dtype="int4")["conventions"]
    assert "in memory before each product" in eager["weights"]


@pytest.mark.parametrize(
    ("config", "option"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4-g128"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "int4-g64"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, None),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors"}, None),
        ("nonsense", None),
    ],
)
def test_the_scheme_of_a_configuration_is_named_with_its_option(config, option):
    assert configured_scheme(config)[1] == option


def test_a_configuration_with_another_scheme_is_pointed_out():
    config = tiny.LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    model = ModelSpec(name="Packed", config=config)
    work = Workload(input_tokens=8, output_tokens=2)
    text = codes(estimate(model, H100, work))["quantisation_ignored"]
    assert "awq with 4 bits in groups of 128" in text
    assert "bf16" in text
    assert "int4-g128" in text
    assert "quantisation_ignored" not in codes(estimate(model, H100, replace(work, weights_dtype="int4")))


def test_a_measurement_refuses_formats_that_it_cannot_run():
    from profiling.measure import measure

    with pytest.raises(SpecError, match="estimate") as caught:
        measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, weights_dtype="int4"))
    assert caught.value.field == "weights_dtype"


def test_the_command_line_takes_the_formats(capsys):
    from profiling.cli import main

    arguments = [
        "--model",
        "gpt2",
        "--hardware",
        "nvidia-a100-sxm4-80gb",
        "--input-tokens",
        "16",
        "--output-tokens",
        "2",
    ]
    formats = ["--weights-dtype", "int8", "--activation-dtype", "int8", "--kv-dtype", "fp8"]
    assert main(["estimate", *arguments, *formats]) in (0, None)
    assert capsys.readouterr().out
    assert math.isfinite(scheme("int8").bits_per_weight(1))
