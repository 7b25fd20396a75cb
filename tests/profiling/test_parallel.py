"""Several devices: what each holds, does and sends, against sums by hand; the division against transformers' own plans."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from profiling.build import build, cached_build
from profiling.decode import decode_curve
from profiling.demand import CHANNELS, Demand, Routing, experts_touched
from profiling.deployment import Divided, Needs, layer_ranges, plan_of
from profiling.estimate import estimate
from profiling.execution import works
from profiling.options import operators
from profiling.parallel import Plan, Sharding, largest_share, parse, sent, shard
from profiling.passes import Pass, trace
from profiling.products import Structure
from profiling.roofline import Ceilings, Load, ceilings, timing
from profiling.sharding import find_marks, mark_sharding
from profiling.shares import own_bytes
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from profiling.steps import parts_over_contexts
from tests.profiling import coverage_configs
from tests.profiling.documents import catalogue, catalogue_model, device

H100 = replace(device("H100 SXM5 80GB"), interconnect_bandwidth=900e9)
LINK = 450e9  # bytes/s in one direction: half of the 900 GB/s of both that NVIDIA quotes
BF16 = 2


def run(model_id: str, hardware: HardwareSpec = H100, **workload):
    values = {"batch_size": 2, "input_tokens": 100, "output_tokens": 6} | workload
    return estimate(catalogue_model(model_id), hardware, Workload(**values))


def sends(document, stage: str) -> dict[str, dict]:
    table = document["parallelism"]["communication"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return {r["collective"]: r for r in rows if r["stage"] == stage}


def codes(document) -> list[str]:
    return [w["code"] for w in document["warnings"]]


# --- Llama 3 70B by hand: 80 blocks, width 8192, 64 heads of 128, 8 of keys and values, 28672 inside, 128256 tokens ----------

WIDTH, INNER, KV, BLOCKS, TOKENS = 8192, 28672, 8 * 128, 80, 128256


def llama_weights(tp: int, kv_share: int) -> float:
    block = 2 * WIDTH * WIDTH / tp + 2 * WIDTH * KV / kv_share + 3 * WIDTH * INNER / tp + 2 * WIDTH
    return BF16 * (BLOCKS * block + 2 * TOKENS * WIDTH / tp + WIDTH)


def test_tensor_parallel_llama_on_eight_devices():
    batch, tokens = 2, 100
    made = run("llama-3-70b", tensor_parallel=8, batch_size=batch, input_tokens=tokens)
    memory = made["memory"]["estimate"]
    assert memory["weights_bytes"] == llama_weights(8, 8)
    assert memory["kv_cache_bytes"] == batch * (tokens + 5) * 2 * BLOCKS * KV * BF16 / 8
    assert memory["fits"] is True
    for stage, rows in (("prefill", batch * tokens), ("decode", batch)):
        found = sends(made, stage)
        payload = rows * WIDTH * BF16
        # Two in each block, after attention and after the MLP, and one after the embedding.
        assert found["all_reduce"]["calls"] == 2 * BLOCKS + 1
        assert found["all_reduce"]["payload_bytes"] == (2 * BLOCKS + 1) * payload
        assert found["all_reduce"]["sent_bytes"] == (2 * BLOCKS + 1) * payload * 2 * 7 / 8
        assert found["all_reduce"]["time_s"] == pytest.approx((2 * BLOCKS + 1) * payload * 2 * 7 / 8 / LINK)
        assert found["all_reduce"]["steps"] == 14
        assert found["all_gather"]["payload_bytes"] == batch * TOKENS * BF16
        assert found["all_gather"]["sent_bytes"] == batch * TOKENS * BF16 * 7 / 8
        assert set(found) == {"all_reduce", "all_gather"}
        network = sum(r["time_s"] for r in found.values())
        assert made["stages"][stage]["network_bytes"] == sum(r["sent_bytes"] for r in found.values())
        assert made["stages"][stage]["latency_s"] > network
    assert made["parallelism"]["devices"] == 8
    assert "450 GB/s" in made["conventions"]["parallelism"]
    json.dumps(made, allow_nan=False)


def test_every_flop_of_a_dense_decoder_but_none_of_the_norms_is_divided():
    one = run("llama-3-70b")
    eight = run("llama-3-70b", tensor_parallel=8)
    for stage in ("prefill", "decode"):
        assert eight["stages"][stage]["flops"] * 8 == one["stages"][stage]["flops"]
        assert eight["stages"][stage]["elementwise_flops"] * 8 > one["stages"][stage]["elementwise_flops"]
        assert eight["stages"][stage]["bytes"] * 8 > one["stages"][stage]["bytes"]


def test_keys_and_values_are_repeated_where_there_are_more_devices_than_heads_of_them():
    eight, sixteen = (run("llama-3-70b", tensor_parallel=n) for n in (8, 16))
    cache = [d["memory"]["estimate"]["kv_cache_bytes"] for d in (eight, sixteen)]
    assert cache[0] == cache[1]
    assert sixteen["memory"]["estimate"]["weights_bytes"] == llama_weights(16, 8)
    assert any("8 heads of keys and values over 16 devices" in w["message"] for w in sixteen["warnings"])
    assert "uneven_split" not in codes(eight)


def test_what_does_not_divide_evenly_counts_as_the_largest_share():
    made = run("llama-3-70b", tensor_parallel=3)
    block = WIDTH * 128 * (2 * 22) + 2 * WIDTH * 128 * 3 + 3 * WIDTH * 9558 + 2 * WIDTH
    assert made["memory"]["estimate"]["weights_bytes"] == BF16 * (BLOCKS * block + 2 * 42752 * WIDTH + WIDTH)
    assert any("64 over 3 devices: the largest share is 22" in w["message"] for w in made["warnings"])


def test_one_device_is_as_it_was():
    made = run("gpt2")
    assert "parallelism" not in made
    assert "parallelism" not in made["conventions"]
    assert "network_bytes" not in made["stages"]["prefill"]


# --- experts, latent attention --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "rows"), [({"data_parallel": 8}, 1), ({"tensor_parallel": 8}, 8)])
def test_mixtral_sends_the_rows_of_experts_there_and_back(degrees, rows):
    """Batch 8 of 50 tokens, each to 2 of 8 experts, on 8 devices: all rows of 4096 are sent once, 7 of 8 to another device."""
    made = run("mixtral-8x7b", batch_size=8, input_tokens=50, expert_parallel=8, **degrees)
    found = sends(made, "prefill")["all_to_all"]
    assert found["calls"] == 2 * 32
    assert found["group"] == 8
    everything = 2 * 32 * 8 * 50 * 2 * 4096 * BF16
    assert found["payload_bytes"] == everything / 8
    assert found["sent_bytes"] == everything / 8 * 7 / 8
    expert = 3 * 4096 * 14336
    attention = (2 * 4096 * 4096 + 2 * 4096 * 1024) / rows
    block = expert + attention + 8 * 4096 + 2 * 4096
    assert made["memory"]["estimate"]["weights_bytes"] == BF16 * (32 * block + 2 * 32000 * 4096 / rows + 4096)
    if rows == 8:
        # Attention and the embedding add up their parts; the tokens that a device has finished go to all eight.
        assert sends(made, "prefill")["all_reduce"]["calls"] == 32 + 1
        assert sends(made, "prefill")["all_gather"]["calls"] == 32 + 1


def test_experts_shared_inside_by_what_tensor_parallelism_has_left():
    four = run("mixtral-8x7b", tensor_parallel=8, expert_parallel=4)
    assert four["parallelism"]["tensor_parallel_inside_expert"] == 2
    plain = run("mixtral-8x7b", tensor_parallel=8)
    for key in ("weights_bytes", "kv_cache_bytes"):
        assert four["memory"]["estimate"][key] == plain["memory"]["estimate"][key]
    assert four["stages"]["prefill"]["flops"] == plain["stages"]["prefill"]["flops"]
    assert "all_to_all" not in sends(plain, "prefill")
    assert sends(plain, "prefill")["all_reduce"]["calls"] == 2 * 32 + 1


def test_replicas_whose_tokens_meet_read_more_of_the_experts():
    routing = Routing(experts=256, top_k=8, tokens=4)
    work = Demand(
        **(dict.fromkeys(CHANNELS, 100.0) | {"op_class": "experts", "network": 0}),
        routing=routing,
        sharding=Sharding("column", {"w": ((2048, 1),)}, routed=True, experts=256).text(),
    )
    plan = Plan(data=8, expert=8)
    more = experts_touched(256, 8, 32) / experts_touched(256, 8, 4)
    assert shard(work, plan).weight_read == pytest.approx(100 / 8 * more)
    assert shard(work, replace(plan, routing="all")).weight_read == pytest.approx(100 / 8)


@pytest.mark.parametrize(
    ("degrees", "inside"),
    [
        ({"tensor_parallel": 8}, 8),
        ({"tensor_parallel": 8, "expert_parallel": 4}, 2),
        ({"tensor_parallel": 8, "expert_parallel": 8}, 1),
        ({"data_parallel": 8, "expert_parallel": 8}, 1),
        ({"data_parallel": 2, "tensor_parallel": 2, "expert_parallel": 4}, 1),
        ({"data_parallel": 2, "expert_parallel": 2, "experts": "topk"}, 1),
    ],
    ids=str,
)
def test_a_product_of_experts_has_the_matrix_of_one_expert(degrees, inside):
    """Whole where experts are spread over devices, a part where tensor parallelism divides each: rates by shape go by it."""
    model = catalogue_model("mixtral-8x7b")
    workload = Workload(batch_size=8, input_tokens=50, **degrees)
    built = cached_build(model, "bf16", "sdpa")
    plan = plan_of(workload, built)
    found = operators(trace(built, Pass("prefill", plan.batch(8), 50)), built, workload)
    matrices = {w.load().weights for w in found if w.routing is not None and w.inner}
    down = 4096 * 14336 // inside
    assert matrices == {down, 2 * down}  # gate and up are one matrix


@pytest.mark.parametrize(
    ("model_id", "degrees", "sums"),
    [
        ("llama-3-70b", {"tensor_parallel": 8}, {8192, 8192 // 8, 28672 // 8}),
        ("llama-3-70b", {"pipeline_parallel": 2}, {8192, 28672}),
        ("mixtral-8x7b", {"tensor_parallel": 4}, {4096, 4096 // 4, 14336 // 4}),
        ("mixtral-8x7b", {"tensor_parallel": 4, "expert_parallel": 4}, {4096, 4096 // 4, 14336}),
    ],
    ids=str,
)
def test_a_product_by_rows_adds_up_a_part_on_each_device(model_id, degrees, sums):
    """Rates by shape go by the length of the sums. They were those of the whole matrix, of which the device has an eighth."""
    workload = Workload(batch_size=2, input_tokens=50, **degrees)
    built = cached_build(catalogue_model(model_id), "bf16", "sdpa")
    found = operators(trace(built, Pass("prefill", 2, 50)), built, workload)
    assert {w.load().inner for w in found if w.inner} == sums


def test_latent_attention_is_divided_by_heads_but_every_device_has_the_latent():
    one, eight = run("deepseek-v3"), run("deepseek-v3", tensor_parallel=8)
    assert eight["memory"]["estimate"]["kv_cache_bytes"] == one["memory"]["estimate"]["kv_cache_bytes"]
    whole = 7168 * 1536 + 1536 + 7168 * 576 + 512 + 2 * 7168  # down-projections and norms
    heads = 128 * (1536 * 192 + 512 * 256 + 128 * 7168)
    dense, expert = 3 * 7168 * 18432, 3 * 7168 * 2048
    attention = 61 * (whole + heads / 8)
    mixture = 58 * (257 * expert / 8 + 256 * 7168)
    by_hand = attention + 3 * dense / 8 + mixture + 2 * 129280 * 7168 / 8 + 7168
    assert eight["memory"]["estimate"]["weights_bytes"] == pytest.approx(BF16 * by_hand, rel=1e-6)
    # Routed and shared experts are added up together: two all-reduces a block still.
    assert sends(eight, "decode")["all_reduce"]["calls"] == 2 * 61 + 1
    expanded = [run("deepseek-v3", mla="expanded", tensor_parallel=n)["memory"]["estimate"] for n in (1, 8)]
    assert "kv_cache_bytes" in expanded[0]


# --- pipeline and data parallel ---------------------------------------------------------------------------------------------


def test_pipeline_stages_hold_their_layers_and_the_ends_of_the_model():
    made = run("llama-3-70b", pipeline_parallel=4)
    stages = made["parallelism"]["stages"]
    block = 2 * WIDTH * WIDTH + 2 * WIDTH * KV + 3 * WIDTH * INNER + 2 * WIDTH
    table = TOKENS * WIDTH
    assert [s["layers"] for s in stages] == [[0, 19], [20, 39], [40, 59], [60, 79]]
    extra = [table, 0, 0, table + WIDTH]
    assert [s["weights_bytes"] for s in stages] == [BF16 * (20 * block + more) for more in extra]
    assert {s["kv_cache_bytes"] for s in stages} == {2 * 105 * 2 * 20 * KV * BF16}
    assert made["memory"]["estimate"]["weights_bytes"] == stages[3]["weights_bytes"]
    one = run("llama-3-70b")
    for name in ("prefill", "decode"):
        assert sum(s["flops"][name] for s in stages) == one["stages"][name]["flops"]
        assert sum(s["bytes"][name] for s in stages) == one["stages"][name]["bytes"]
        p2p = sends(made, name)["p2p"]
        rows = 200 if name == "prefill" else 2
        assert (p2p["calls"], p2p["sent_bytes"]) == (3, 3 * rows * WIDTH * BF16)
        waits = 3 * rows * WIDTH * BF16 / LINK
        assert made["stages"][name]["latency_s"] == pytest.approx(one["stages"][name]["latency_s"] + waits)


def test_a_tied_table_is_in_the_first_and_in_the_last_stage():
    stages = run("gpt2", pipeline_parallel=2)["parallelism"]["stages"]
    assert stages[0]["weights_bytes"] - stages[1]["weights_bytes"] == BF16 * (1024 - 2) * 768


@pytest.mark.parametrize(("layers", "stages", "sizes"), [(80, 4, [20] * 4), (61, 4, [15, 15, 16, 15]), (5, 5, [1] * 5)])
def test_layers_left_over_go_to_the_stages_before_the_last(layers, stages, sizes):
    ranges = layer_ranges(layers, stages)
    assert [last - first + 1 for first, last in ranges] == sizes
    assert [n for first, last in ranges for n in range(first, last + 1)] == list(range(layers))


def test_replicas_share_the_batch_and_the_slower_one_is_timed():
    three, two_replicas = run("gpt2", batch_size=3), run("gpt2", batch_size=5, data_parallel=2)
    for name in ("prefill", "decode"):
        assert two_replicas["stages"][name] == three["stages"][name]
    assert two_replicas["memory"]["estimate"] == three["memory"]["estimate"]
    seconds = three["metrics"]["prefill_time"]["value"]
    assert two_replicas["metrics"]["prefill_throughput"]["value"] == pytest.approx(5 * 100 / seconds)
    assert two_replicas["metrics"]["mfu_prefill"] == three["metrics"]["mfu_prefill"]
    assert two_replicas["parallelism"]["communication"]["rows"] == []


# --- what cannot be, what is unknown -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "degrees", "field", "says"),
    [
        ("gpt2", {"tensor_parallel": 16}, "tensor_parallel", "at most 12"),
        ("gpt2", {"pipeline_parallel": 13}, "pipeline_parallel", "at most 12"),
        ("gpt2", {"tensor_parallel": 2, "expert_parallel": 2}, "expert_parallel", "no experts"),
        ("gpt2", {"data_parallel": 3}, "data_parallel", "at most 2"),
        ("mixtral-8x7b", {"tensor_parallel": 16, "expert_parallel": 16}, "expert_parallel", "at most 8"),
        ("mixtral-8x7b", {"expert_parallel": 8}, "expert_parallel", "choose 1."),
        (
            "mixtral-8x7b",
            {"tensor_parallel": 6, "data_parallel": 2, "expert_parallel": 4},
            "expert_parallel",
            "1, 2, 3, 6 or 12",
        ),
        ("t5-base", {"pipeline_parallel": 2}, "pipeline_parallel", "an encoder and a decoder"),
    ],
)
def test_impossible_degrees_are_refused_at_their_field(model_id, degrees, field, says):
    with pytest.raises(SpecError, match=re.escape(says)) as caught:
        run(model_id, **degrees)
    assert caught.value.field == field


def test_without_a_known_interconnect_bytes_are_given_but_no_time():
    alone = replace(H100, interconnect_bandwidth=None)
    made = run("gpt2", alone, tensor_parallel=2)
    assert "interconnect_unknown" in codes(made)
    assert made["metrics"]["ttft"]["value"] is None
    assert made["stages"]["prefill"]["latency_s"] is None
    reduced = sends(made, "prefill")["all_reduce"]
    assert reduced["time_s"] is None
    assert reduced["sent_bytes"] == (2 * 12 + 1) * 200 * 768 * BF16
    replicas = run("gpt2", alone, data_parallel=2)
    assert replicas["metrics"]["ttft"]["value"] > 0
    assert "interconnect_unknown" not in codes(replicas)


def test_what_would_make_it_fit_does():
    (text,) = [t for t in run("llama-3-70b")["memory"]["estimate"]["suggestions"] if "devices" in t]
    degree = int(re.search(r"tensor parallelism over (\d+)", text)[1])
    assert run("llama-3-70b", tensor_parallel=degree)["memory"]["estimate"]["fits"] is True
    assert degree == 2
    large = run("deepseek-v3")["memory"]["estimate"]["suggestions"]
    assert any("tensor parallelism over 32" in t for t in large)


@pytest.mark.parametrize("model_id", ["gpt2", "deepseek-v3", "gpt-oss-20b", "mamba-130m", "t5-base", "gemma-3-1b"])
def test_activations_of_a_device_are_at_most_all_and_at_least_its_part(model_id):
    model = catalogue_model(model_id)
    built = cached_build(model, "bf16", "sdpa")
    made = trace(built, Pass("prefill", 2, 64, 0, 16 if model.kind == "encdec" else 0))
    peak = made.recording.activation_peak
    divided = Divided(built, {"prefill": made})
    (stage,) = divided.stages(Plan(tensor=2), Needs(built.weight_bytes, 0, 0, peak))
    assert peak / 2 <= stage.activations <= peak


# --- dividing ---------------------------------------------------------------------------------------------------------------


def passes(model: ModelSpec) -> list[Pass]:
    if model.kind in ("encoder", "vision"):
        return [Pass("encode", 2, 16)]
    source = 16 if model.kind == "encdec" else 0
    return [Pass("prefill", 2, 16, 0, source), Pass("decode", 2, 1, 16, source)]


@pytest.mark.parametrize("model_id", sorted(catalogue()))
def test_any_model_on_two_devices(model_id):
    """Two devices together do at least the whole, no operator more than itself on each; shapes change nothing static."""
    model = catalogue_model(model_id)
    built = cached_build(model, "bf16", "sdpa")
    assert sum(own_bytes(built).values()) == built.weight_bytes
    plan = Plan(tensor=2, layers=built.layers or 1)
    for spec in passes(model):
        made = trace(built, spec)
        plain = works(made, "eager")
        marked = mark_sharding(plain, made, built)
        assert len(marked) == len(plain)
        halved = [shard(work, plan) for work in marked]
        assert any(work.network for work in halved)
        for before, after in zip(plain, halved, strict=True):
            for channel in CHANNELS[:-2]:
                whole, part = getattr(before, channel), getattr(after, channel)
                assert whole / 2 <= part <= whole
        longer = trace(
            built,
            replace(spec, batch_size=3, tokens=spec.tokens if spec.tokens == 1 else 23, context=spec.context and 29),
        )
        others = mark_sharding(works(longer, "eager"), longer, built)
        assert [(w.sharding, w.collective) for w in marked] == [(w.sharding, w.collective) for w in others]
        heavy = [w for w in halved if w.op_class in ("matmul", "experts", "attention") and w.flops]
        divided = sum(w.times * w.flops for w in heavy if w.sharding)
        assert divided / sum(w.times * w.flops for w in heavy) > 0.85


def test_the_division_is_linear():
    plan = Plan(tensor=8, pipeline=2, expert=4, layers=10)
    how = Sharding("column", {"f": ((64, 128), (8, 256)), "w": ((64, 1),), "o": ((64, 1),)})
    for sharding, collective in (
        ("", "p2p"),
        (how.text(), "all_reduce"),
        (replace(how, routed=True, experts=6).text(), "combine"),
    ):
        numbers = [[float(i * n + 1) for i, _ in enumerate(CHANNELS)] for n in (3, 5)]
        static = {"op_class": "matmul", "sharding": sharding, "collective": collective}
        apart = [shard(Demand(**static, **dict(zip(CHANNELS, row, strict=True))), plan) for row in numbers]
        columns = {name: np.array([row[i] for row in numbers]) for i, name in enumerate(CHANNELS)}
        together = shard(Demand(**static, **columns), plan)
        for name in CHANNELS:
            assert list(getattr(together, name)) == pytest.approx([getattr(work, name) for work in apart])


def test_shares_and_their_text():
    assert largest_share(((64, 128),), 8) == Fraction(1, 8)
    assert largest_share(((8, 128),), 16) == Fraction(1, 8)
    assert largest_share(((64, 128), (8, 256)), 16) == Fraction(4 * 128 + 256, 64 * 128 + 8 * 256)
    assert largest_share(None, 4) == 1
    how = Sharding("row", {"f": ((64, 1),), "w": ((64, 10), (1, 7))}, routed=True, experts=16)
    assert parse(how.text()) == how
    assert parse("").name == "whole"


def test_ring_and_all_to_all():
    plan = Plan(tensor=4, expert=8, data=2, pipeline=3, layers=30)
    assert (plan.devices, plan.local, plan.inside_expert, plan.gathered) == (24, 4, 1, 2)
    assert sent("all_reduce", plan).factor == 2 * 3 / 4
    assert sent("all_gather", plan).factor == 3 / 4
    assert sent("dispatch", plan).factor == 7 / 8 / 4
    assert sent("expert_reduce", plan).primitive == "all_gather"
    assert sent("expert_reduce", replace(plan, expert=2)).primitive == "all_reduce"
    assert sent("p2p", plan).calls == Fraction(2, 30)
    assert sent("all_reduce", Plan()).primitive == ""


def test_what_is_sent_is_time_of_its_own():
    limits = Ceilings("datasheet", "bf16", "bf16", 1e12, 1e10, interconnect=1e9, linked=True)
    result = timing(Load("matmul", 1e9, 0, 1e6, network=1e9), limits)
    assert (result.network_s, result.bound) == (1.0, "network")
    assert result.time_s == pytest.approx(1 + 1e-3)
    assert not replace(limits, interconnect=None).known
    a, b = Load("matmul", 1e9, 0, 1e6, network=1e6), Load("matmul", 4e9, 0, 9e7, network=7e6)
    by_hand = sum(
        timing(Load("matmul", 1e9 + x / 4 * 3e9, 0, 1e6 + x / 4 * 89e6, network=1e6 + x / 4 * 6e6), limits).time_s
        for x in range(5)
    )
    assert sum(parts_over_contexts(a, b, 4, range(5), limits)) == pytest.approx(by_hand)


def test_what_limits_a_stage_names_the_time_of_sending():
    """Sending does not overlap: it is a part of the stage's time, also of operators that memory or arithmetic limits."""
    document = run("llama-3-70b", tensor_parallel=4)
    table = document["parallelism"]["communication"]
    at = {name: table["columns"].index(name) for name in ("stage", "time_s")}
    for name, stage in document["stages"].items():
        sending = sum(row[at["time_s"]] for row in table["rows"] if row[at["stage"]] == name)
        assert sending > 0
        assert stage["time_by_bound"]["network"] == pytest.approx(sending)
        assert sum(stage["time_by_bound"].values()) == pytest.approx(stage["latency_s"])


def test_decode_on_several_devices_is_the_sum_of_every_single_step():
    built = build(catalogue_model("llama-3-8b"), "bf16")
    workload = Workload(batch_size=2, tensor_parallel=4)
    limits = replace(ceilings(H100, "bf16")[0], interconnect=LINK, linked=True)

    def at(context: int):
        return trace(built, Pass("decode", 2, 1, context))

    def counted(made):
        return operators(made, built, workload)

    by_hand = sum(w.times * timing(w.load(), limits).time_s for context in range(30, 41) for w in counted(at(context)))
    assert decode_curve(at, 30, 40, counted).seconds(limits) == pytest.approx(by_hand, rel=1e-9)
    assert plan_of(workload, built).layers == 32


# --- transformers' own plans --------------------------------------------------------------------------------------------------

#: Types whose configuration class has a plan for tensor parallelism.
PLANNED = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi",
    "phi3",
    "phimoe",
    "cohere",
    "cohere2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "gpt_neox",
    "granite",
    "glm",
    "glm4",
    "glm4_moe",
    "olmo",
    "olmo2",
    "olmoe",
    "starcoder2",
    "exaone4",
    "smollm3",
    "ernie4_5_moe",
    "seed_oss",
    "helium",
    "minicpm3",
    "nemotron",
    "minimax_m2",
    "longcat_flash",
    "lfm2_moe",
    "jamba",
    "bailing_hybrid",
    "kimi_linear",
    "dots1",
]


@pytest.mark.parametrize("model_type", PLANNED)
def test_products_are_divided_as_transformers_plans_it(model_type):
    """A plan names the products by columns and by rows; where this engine follows the data flow it finds the same."""
    class_name = coverage_configs.types()["decoder"][model_type]
    config = coverage_configs.config_of(model_type, "decoder")
    built = build(ModelSpec(name=model_type, config=config, architecture=class_name), "bf16")
    made = trace(built, Pass("prefill", 2, 8))
    marks, structure = find_marks(made, built), Structure(made, built)
    found: dict[str, set[str]] = {}
    for index, product in structure.products.items():
        if product.block:
            how = marks.shardings.get(index)
            found.setdefault(made.calls[index].path, set()).add(how.name if how else "whole")
    checked = 0
    for pattern, style in built.config.base_model_tp_plan.items():
        wanted = "column" if "colwise" in style else "row" if "rowwise" in style else None
        path = re.sub(r"(experts)\.(gate_up|down)_proj$", r"\1", pattern)
        expression = re.compile(r"(\w+\.)?" + re.escape(path).replace(r"\*", r"\d+"))
        for module, names in found.items():
            if wanted and expression.fullmatch(module):
                assert wanted in names, (module, style)
                checked += 1
    assert checked >= 4
