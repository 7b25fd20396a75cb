"""Prefixes in the cache, tokens that a decoder begins with, and drafts: against torch's own counter and against sums by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from profiling.build import build
from profiling.estimate import estimate
from profiling.execution import works
from profiling.forms.store import FormStore
from profiling.measure import measure
from profiling.passes import Pass, trace
from profiling.roofline import ceilings, timing
from profiling.spec import ModelSpec, SpecError, Workload
from profiling.speculative import drafting, expected_tokens, steps_per_token
from profiling.sweep import sweep
from tests.profiling import tiny
from tests.profiling.documents import device

H100 = device("H100 SXM5 80GB")
T5 = ModelSpec("T5", tiny.T5, "T5ForConditionalGeneration", kind="encdec")
BERT = ModelSpec("Bert", tiny.BERT, kind="encoder")
MAMBA = ModelSpec("Mamba", tiny.MAMBA, kind="ssm")
SMALL = {k: v for k, v in tiny.LLAMA.items() if k not in ("model_type", "architectures")}
FAMILIES = {
    "llama": ModelSpec("Llama", tiny.LLAMA),
    # Five tokens of a window of eight lie in the cache of some layers, and all in that of the others.
    "gemma3": ModelSpec(
        "Gemma",
        {
            **{**SMALL, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 8},
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "Gemma3ForCausalLM",
    ),
    "deepseek": ModelSpec(
        "DeepSeek",
        {
            **{**SMALL, "model_type": "deepseek_v3", "num_key_value_heads": 4, "first_k_dense_replace": 2},
            **{"q_lora_rank": 12, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6},
        },
        "DeepseekV3ForCausalLM",
    ),
    "mamba": MAMBA,
}


def real(model: ModelSpec) -> Any:
    """The model with random weights on the processor, attention as single products, as torch counts them."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**{k: v for k, v in model.config.items() if k != "architectures"})
    name = model.architecture or model.config["architectures"][0]
    return getattr(transformers, name)._from_config(config, attn_implementation="eager").eval()


def ids(batch: int, tokens: int) -> torch.Tensor:
    return torch.randint(3, 100, (batch, tokens))


def flops(item) -> int:
    return sum(w.times * w.flops for w in works(item, "eager"))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize(("cached", "new"), [(5, 7), (9, 4), (20, 2)])
@pytest.mark.parametrize("logits", ["last", "all"])
def test_a_prefill_behind_a_prefix_has_the_flops_of_the_real_one(name, cached, new, logits):
    model = real(FAMILIES[name])
    held = "cache_params" if name == "mamba" else "past_key_values"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        before = model(input_ids=ids(2, cached), use_cache=True)
        prefix = counter.get_total_flops()
        extra = {"logits_to_keep": 1} if logits == "last" else {}
        model(input_ids=ids(2, new), use_cache=True, **{held: getattr(before, held)}, **extra)
    built = build(FAMILIES[name], "fp32", "eager")
    item = trace(built, Pass("prefill", 2, new, cached, 0, logits))
    assert flops(item) == counter.get_total_flops() - prefix
    assert item.cache_bytes >= trace(built, Pass("prefill", 2, cached)).cache_bytes


def test_tokens_in_the_cache_cost_no_prefill_but_memory():
    work = Workload(input_tokens=60, output_tokens=9)
    whole, hit = (estimate(tiny.MODEL, H100, w) for w in (work, replace(work, prefix_tokens=50)))
    assert (hit["stages"]["prefill"]["tokens"], hit["stages"]["prefill"]["context"]) == (10, 50)
    assert hit["stages"]["decode"] == whole["stages"]["decode"]
    values = {name: metric["value"] for name, metric in hit["metrics"].items()}
    assert values["ttft"] == values["prefill_time"] < whole["metrics"]["ttft"]["value"]
    assert values["tpot"] == whole["metrics"]["tpot"]["value"]
    assert values["prefill_throughput"] == pytest.approx(10 / values["ttft"])
    assert "10 new tokens" in hit["metrics"]["prefill_throughput"]["note"]
    assert "50 tokens" in hit["conventions"]["prefix_cache"]
    assert "note" not in whole["metrics"]["prefill_throughput"]
    assert "prefix_cache" not in whole["conventions"]
    kept = hit["memory"]["estimate"]["kv_cache_bytes"]
    assert kept == whole["memory"]["estimate"]["kv_cache_bytes"] == 68 * hit["memory"]["kv_cache_bytes_per_token"]


@pytest.mark.parametrize(
    ("model", "changes", "field"),
    [
        (tiny.MODEL, {"prefix_tokens": 16}, "prefix_tokens"),
        (tiny.MODEL, {"prefix_tokens": 17}, "prefix_tokens"),
        (MAMBA, {"prefix_tokens": 16}, "prefix_tokens"),
        (T5, {"prefix_tokens": 3}, "prefix_tokens"),
        (BERT, {"prefix_tokens": 3, "output_tokens": 0}, "prefix_tokens"),
        (BERT, {"draft_tokens": 3, "draft_acceptance": 0.5, "output_tokens": 0}, "draft_tokens"),
        (tiny.MODEL, {"decoder_tokens": 2}, "decoder_tokens"),
        (tiny.MODEL, {"draft_tokens": 2}, "draft_acceptance"),
        (tiny.MODEL, {"draft_acceptance": 0.5}, "draft_acceptance"),
        (tiny.MODEL, {"draft_cost": 0.1}, "draft_cost"),
        (tiny.MODEL, {"draft_tokens": 2, "draft_acceptance": 1.01}, "draft_acceptance"),
        (tiny.MODEL, {"draft_tokens": 2, "draft_acceptance": float("nan")}, "draft_acceptance"),
        (tiny.MODEL, {"draft_tokens": 2, "draft_acceptance": 0.5, "draft_cost": -1}, "draft_cost"),
        (tiny.MODEL, {"draft_tokens": 65, "draft_acceptance": 0.5}, "draft_tokens"),
        # 128 positions: the guesses of the last step have to fit too.
        (tiny.MODEL, {"input_tokens": 120, "draft_tokens": 5, "draft_acceptance": 0.5}, "output_tokens"),
    ],
)
def test_what_says_nothing_to_a_model_is_refused_at_its_field(model, changes, field):
    with pytest.raises(SpecError) as caught:
        estimate(model, H100, Workload(**{"input_tokens": 16, "output_tokens": 4} | changes))
    assert caught.value.field == field
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "options", [{"prefix_tokens": 3}, {"draft_tokens": 2, "draft_acceptance": 0.5}, {"decoder_tokens": 2}]
)
def test_a_measured_run_refuses_what_it_would_not_do(options):
    with pytest.raises(SpecError) as caught:
        measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, **options))
    assert caught.value.field == next(iter(options))


def test_a_decoder_begins_with_as_many_tokens_as_it_is_told():
    begin, source, output = 5, 12, 7
    model, built = real(T5), build(T5, "fp32", "eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids(2, source), decoder_input_ids=ids(2, begin), use_cache=True)
    assert flops(trace(built, Pass("prefill", 2, begin, 0, source))) == counter.get_total_flops()
    work = Workload(batch_size=2, input_tokens=source, output_tokens=output, decoder_tokens=begin)
    made = estimate(T5, H100, work)
    assert made["stages"]["prefill"]["tokens"] == begin
    assert made["stages"]["decode"]["context"] == begin + (output - 1) // 2
    steps = [seconds(build(T5, "bf16"), Pass("decode", 2, 1, begin + i, source)) for i in range(output - 1)]
    assert made["metrics"]["tpot"]["value"] == pytest.approx(sum(steps) / (output - 1), rel=1e-9)


def seconds(built, spec: Pass) -> float:
    limits, _ = ceilings(H100, "bf16")
    return sum(w.times * timing(w.load(), limits).time_s for w in works(trace(built, spec), "eager"))


# --- drafts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guesses", "acceptance", "expected"),
    [
        (0, None, 1),
        (0, 0.9, 1),
        (3, 0.0, 1),
        (3, 1.0, 4),
        (1, 0.5, 1.5),
        (4, 0.8, (1 - 0.8**5) / 0.2),
        (64, 0.99, (1 - 0.99**65) / 0.01),
    ],
)
def test_tokens_of_a_step(guesses, acceptance, expected):
    work = Workload(draft_tokens=guesses, draft_acceptance=acceptance)
    assert expected_tokens(work) == pytest.approx(expected)
    assert steps_per_token(work) == pytest.approx(1 / expected)
    # Theorem 3.8 of the paper: how much faster than a step for every token.
    paid = replace(work, draft_cost=0.1)
    assert 1 / steps_per_token(paid) == pytest.approx(expected / (0.1 * guesses + 1))


def test_tokens_of_a_step_are_those_of_a_simulation():
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(200_000, 4, generator=generator) < 0.7
    kept = right.long().cumprod(dim=1).sum(dim=1) + 1
    work = Workload(draft_tokens=4, draft_acceptance=0.7)
    assert kept.double().mean().item() == pytest.approx(expected_tokens(work), rel=5e-3)
    # Every position is as likely the beginning of a step, which is what the sum over all of them stands on.
    begins = torch.zeros(int(kept.sum()) + 1)
    begins[kept.cumsum(0)] = 1
    assert begins[50:].mean().item() == pytest.approx(1 / expected_tokens(work), rel=5e-3)


def test_decoding_with_a_draft_is_the_sum_of_steps_by_hand():
    guesses, tokens, output = 3, 20, 10
    work = Workload(batch_size=2, input_tokens=tokens, output_tokens=output, draft_tokens=guesses, draft_acceptance=0.6)
    built = build(tiny.MODEL, "bf16")
    steps = [seconds(built, Pass("decode", 2, guesses + 1, tokens + i, 0, "all")) for i in range(output - 1)]
    alone = sum(steps) / expected_tokens(work)
    for cost in (None, 0.0, 0.25):
        made = estimate(tiny.MODEL, H100, replace(work, draft_cost=cost))
        value = {name: metric["value"] for name, metric in made["metrics"].items()}
        decode = alone * (1 + guesses * (cost or 0))
        assert value["tpot"] == pytest.approx(decode / (output - 1), rel=1e-9)
        assert value["e2e_latency"] == pytest.approx(value["ttft"] + decode, rel=1e-9)
        assert value["decode_throughput"] == pytest.approx(2 * (output - 1) / decode, rel=1e-9)
        assert value["decode_time_per_step"] == pytest.approx(
            steps[(output - 1) // 2] * drafting(replace(work, draft_cost=cost))
        )
        for name in ("tpot", "e2e_latency", "decode_throughput", "output_throughput"):
            assert "3 drafted tokens" in made["metrics"][name]["note"]
        assert "4 tokens" in made["metrics"]["decode_time_per_step"]["note"]
        assert "note" not in made["metrics"]["ttft"]
        assert ("draft_not_counted" in {w["code"] for w in made["warnings"]}) == (cost is None)
        assert "tokens per step" in made["conventions"]["speculation"]


def test_a_step_with_guesses_has_logits_and_memory_for_each():
    plain = Workload(input_tokens=20, output_tokens=10)
    drafted = replace(plain, draft_tokens=3, draft_acceptance=0.6)
    one, four = (estimate(tiny.MODEL, H100, w) for w in (plain, drafted))
    head = 2 * 32 * 128

    def of_head(document) -> int:
        rows = [dict(zip(document["operators"]["columns"], r, strict=True)) for r in document["operators"]["rows"]]
        return next(r["flops"] for r in rows if r["stage"] == "decode" and r["group"] == "lm_head")

    assert (of_head(one), of_head(four)) == (head, 4 * head)
    assert four["stages"]["decode"]["tokens"] == 4
    kept = one["memory"]["kv_cache_bytes_per_token"]
    sizes = [d["memory"]["estimate"]["kv_cache_bytes"] // kept for d in (one, four)]
    assert sizes == [29, 32]
    assert "note" not in one["metrics"]["tpot"]
    assert "speculation" not in one["conventions"]
    real_model, built = real(tiny.MODEL), build(tiny.MODEL, "fp32", "eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        before = real_model(input_ids=ids(1, 9), use_cache=True)
        begun = counter.get_total_flops()
        real_model(input_ids=ids(1, 4), past_key_values=before.past_key_values)
    assert flops(trace(built, Pass("decode", 1, 4, 9, 0, "all"))) == counter.get_total_flops() - begun


def test_a_full_context_has_room_for_the_guesses():
    work = Workload(input_tokens=119, output_tokens=4, draft_tokens=5, draft_acceptance=0.5)
    assert estimate(tiny.MODEL, H100, work)["metrics"]["tpot"]["value"] > 0


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (tiny.MODEL, {"prefix_tokens": 9}),
        (tiny.MODEL, {"draft_tokens": 3, "draft_acceptance": 0.7, "draft_cost": 0.1}),
        (FAMILIES["gemma3"], {"draft_tokens": 2, "draft_acceptance": 0.7, "causal": "halved", "window": "windowed"}),
        (FAMILIES["deepseek"], {"mla": "expanded", "prefix_tokens": 4}),
        (FAMILIES["deepseek"], {"mla": "absorbed", "execution": "fused"}),
        (T5, {"decoder_tokens": 3}),
    ],
)
def test_closed_forms_say_the_same(model, options, tmp_path):
    work = Workload(batch_size=2, input_tokens=21, output_tokens=15, **options)
    table = next(sweep(model, [H100], [{}], work, store=FormStore(tmp_path)).rows())
    assert table["method"] == "closed form"
    made = estimate(model, H100, work)
    value = {name: metric["value"] for name, metric in made["metrics"].items()}
    names = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e_latency", "prefill_tokens_per_s": "prefill_throughput"}
    for column, name in {**names, "decode_tokens_per_s": "decode_throughput"}.items():
        assert table[column] == pytest.approx(value[name], rel=1e-9), column
    memory = made["memory"]["estimate"]
    assert table["cache_bytes"] == memory["kv_cache_bytes"] + memory["state_bytes"]


@pytest.mark.parametrize("device_count", [1, 2])
def test_the_activation_peak_is_that_of_the_last_step_where_decoding_needs_more(tmp_path, device_count):
    """A short prompt and a long answer: scores of the last step over all tokens, more than those of the step in the middle."""
    workload = Workload(
        input_tokens=1, output_tokens=120, batch_size=64, attn_implementation="eager", tensor_parallel=device_count
    )
    model = FAMILIES["llama"]
    memory = estimate(model, H100, workload)["memory"]["estimate"]
    peaks = {stage: item["activation_peak_bytes"] for stage, item in memory["stages"].items()}
    built = build(model, "bf16", "eager")
    if device_count == 1:
        assert peaks["decode"] == trace(built, Pass("decode", 64, 1, 119)).recording.activation_peak
        assert peaks["decode"] > trace(built, Pass("decode", 64, 1, 60)).recording.activation_peak
    assert memory["activation_peak_bytes"] == peaks["decode"] > peaks["prefill"]
    (row,) = sweep(model, [H100], [{}], workload, store=FormStore(tmp_path)).rows()
    assert row["method"] == "closed form"
    assert row["activation_peak_bytes"] == peaks["decode"]
