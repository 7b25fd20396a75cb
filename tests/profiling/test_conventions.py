"""What is counted under each convention: latent attention by hand, masks by counting the pairs of real ones, experts by bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from torch.overrides import TorchFunctionMode

from profiling import mla
from profiling.build import build
from profiling.cli import main
from profiling.estimate import estimate
from profiling.execution import works
from profiling.passes import Pass, cache_shape, trace
from profiling.spec import Counting, ModelSpec, Workload
from tests.profiling import tiny
from tests.profiling.documents import ROOT, catalogue_model, device

H100 = device("H100 SXM5 80GB")
FORMS = ("executed", "expanded", "absorbed")
CASES = {c["id"]: c for c in json.loads((ROOT / "tests/data/reference_cases.json").read_text())["cases"]}


def total(item, counting: Counting, channel: str = "flops") -> int:
    return sum(w.times * getattr(w, channel) for w in works(item, counting))


# --- latent attention ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latent:
    """A DeepSeek-like decoder on paper: only what decides the FLOPs of matrix products and the size of the cache."""

    layers: int
    width: int
    heads: int
    query_rank: int | None
    rank: int
    nope: int
    rope: int
    value: int
    inner: int
    vocabulary: int
    dense: int = 0  # layers with one block of ``inner``; the others have experts
    experts: int = 0
    active: int = 0
    shared: int = 0
    expert_inner: int = 0

    def flops(self, form: str, batch: int, new: int, keys: int) -> int:
        key = self.nope + self.rope
        queries = self.heads * key
        ask = self.width * queries if self.query_rank is None else self.query_rank * (self.width + queries)
        each = ask + self.width * (self.rank + self.rope) + self.heads * self.value * self.width
        made = self.rank * self.heads * (self.nope + self.value)
        expanded = keys if form == "executed" else new
        pair = 2 * self.rank + self.rope if form == "absorbed" else key + self.value
        attention = 2 * new * each + 2 * expanded * made + 2 * self.heads * new * keys * pair
        gates = 3 * self.width
        routed = (self.active + self.shared) * gates * self.expert_inner + self.width * self.experts
        blocks = self.dense * gates * self.inner + (self.layers - self.dense) * routed
        return batch * (self.layers * attention + 2 * new * blocks + 2 * self.width * self.vocabulary)

    def cached(self, form: str) -> int:
        """Bytes of one token in bf16."""
        one = self.heads * (self.nope + self.rope + self.value) if form == "expanded" else self.rank + self.rope
        return 2 * self.layers * one


MINICPM3: dict[str, Any] = {
    "model_type": "minicpm3",
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}
LATENT = {
    "deepseek-v2-lite": Latent(
        *(27, 2048, 16, None, 512, 128, 64, 128, 10944, 102400),
        dense=1,
        experts=64,
        active=6,
        shared=2,
        expert_inner=1408,
    ),
    "deepseek-v3": Latent(
        *(61, 7168, 128, 1536, 512, 128, 64, 128, 18432, 129280),
        dense=3,
        experts=256,
        active=8,
        shared=1,
        expert_inner=2048,
    ),
    "minicpm3": Latent(4, 48, 6, 24, 16, 8, 4, 10, 96, 128, dense=4),
}


def latent_model(name: str) -> ModelSpec:
    if name == "minicpm3":
        return ModelSpec(name=name, config=MINICPM3, architecture="MiniCPM3ForCausalLM")
    return catalogue_model(name)


@pytest.fixture(scope="module")
def latent_built():
    known: dict[tuple[str, str], Any] = {}

    def get(name: str, attention: str = "sdpa"):
        if (name, attention) not in known:
            known[name, attention] = build(latent_model(name), "bf16", attention)
        return known[name, attention]

    return get


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_forms_have_the_flops_of_the_reference_case(latent_built, attention):
    case = CASES["deepseek-v2-lite"]
    names = {"executed": "flops", "expanded": "by_hand_expanded_cache", "absorbed": "by_hand_absorbed"}
    for point in case["decode"]:
        item = trace(latent_built("deepseek-v2-lite", attention), Pass("decode", point["batch"], 1, point["context"]))
        assert {f: total(item, Counting(mla=f)) for f in FORMS} == {f: point[key] for f, key in names.items()}
    for tokens, nbytes in case["kv_cache"]["hf_cache_bytes"].items():
        item = trace(latent_built("deepseek-v2-lite"), Pass("prefill", 1, int(tokens)))
        expanded = int(tokens) * case["kv_cache"]["bytes_per_token_expanded"]
        sizes = {f: mla.kept(item, Counting(mla=f)).cache_bytes for f in FORMS}
        assert sizes == {"executed": nbytes, "expanded": expanded, "absorbed": nbytes}


@pytest.mark.parametrize("name", sorted(LATENT))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spec", [Pass("prefill", 2, 40), Pass("decode", 3, 1, 70), Pass("prefill", 2, 9, 31)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_forms_by_hand(latent_built, name, form, spec, attention):
    hand, item = LATENT[name], trace(latent_built(name, attention), spec)
    keys = spec.context + spec.tokens
    assert total(item, Counting(mla=form)) == hand.flops(form, spec.batch_size, spec.tokens, keys)
    assert mla.kept(item, Counting(mla=form)).cache_bytes == spec.batch_size * keys * hand.cached(form)


@pytest.mark.parametrize("name", sorted(LATENT))
@pytest.mark.parametrize("form", FORMS)
def test_a_decode_step_reads_the_cache_once_and_adds_the_new_token(latent_built, name, form):
    item = trace(latent_built(name), Pass("decode", 3, 1, 70))
    counting = Counting(execution="fused", mla=form)
    assert (
        total(item, counting, "cache_read")
        == mla.kept(item, counting).cache_bytes
        == 3 * 71 * LATENT[name].cached(form)
    )
    assert total(item, counting, "cache_written") == 3 * LATENT[name].cached(form)
    # A dynamic cache copies what it had to add to it: read by the copy, written, and read by attention.
    eager = Counting(mla=form)
    assert total(item, eager, "cache_read") == (3 * 70 + 3 * 71) * LATENT[name].cached(form)
    assert total(item, eager, "cache_written") == 3 * 71 * LATENT[name].cached(form)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("execution", ["eager", "fused"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_the_calls_and_the_weights(latent_built, attention, execution, form):
    for spec in (Pass("decode", 2, 1, 30), Pass("prefill", 2, 30)):
        item = trace(latent_built("minicpm3", attention), spec)
        counted = works(item, Counting(execution=execution, mla=form))
        assert [w.call for w in counted] == list(item.calls)
        assert sum(w.times * w.weight_read for w in counted) == total(
            item, Counting(execution=execution), "weight_read"
        )
        channels = ("flops", "elementwise_flops", "cache_read", "other_read", "cache_written", "other_written", "rows")
        assert all(getattr(w, channel) >= 0 for w in counted for channel in channels)


def test_forms_differ_in_what_is_alive_and_in_the_document(latent_built):
    item = trace(latent_built("deepseek-v3"), Pass("decode", 1, 1, 4000))
    peaks = {form: mla.kept(item, Counting(mla=form)).recording.activation_peak for form in FORMS}
    expansion = 4001 * 128 * (128 + 128 + 192) * 2
    assert peaks["executed"] > expansion > 20 * max(peaks["expanded"], peaks["absorbed"])
    assert mla.kept(item, Counting()) is item
    per_token = {}
    for form in FORMS:
        document = estimate(latent_model("minicpm3"), H100, Workload(input_tokens=30, output_tokens=5, mla=form))
        assert document["conventions"]["mla"].startswith(("as executed", form))
        per_token[form] = document["memory"]["kv_cache_bytes_per_token"]
        assert document["memory"]["estimate"]["kv_cache_bytes"] == 34 * per_token[form]
    assert per_token == {form: LATENT["minicpm3"].cached(form) for form in FORMS}


def test_a_model_without_latent_attention_is_counted_the_same():
    for model in (tiny.MODEL, ModelSpec("T5", tiny.T5, kind="encdec"), ModelSpec("Mamba", tiny.MAMBA, kind="ssm")):
        item = trace(build(model, "bf16"), Pass("decode", 2, 1, 12, 7 if model.kind == "encdec" else 0))
        assert mla.latents(item.recording) == []
        for form in FORMS:
            assert works(item, Counting(mla=form)) == works(item, Counting())
    document = estimate(tiny.MODEL, H100, Workload(input_tokens=8, output_tokens=2, mla="absorbed"))
    assert document["conventions"]["mla"].startswith("does not apply")


# --- masks --------------------------------------------------------------------------------------------------------------

SMALL = {k: v for k, v in tiny.LLAMA.items() if k not in ("model_type", "architectures")}
WINDOWED = {**SMALL, "sliding_window": 6, "head_dim": 8}
BART: dict[str, Any] = {
    **{"model_type": "bart", "vocab_size": 128, "d_model": 32, "max_position_embeddings": 64},
    **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in (("layers", 2), ("ffn_dim", 64))},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
}
MASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("decoder", "LlamaForCausalLM", tiny.LLAMA),
    "mistral": ("decoder", "MistralForCausalLM", {**WINDOWED, "model_type": "mistral"}),
    "gemma3": (
        "decoder",
        "Gemma3ForCausalLM",
        {**WINDOWED, "model_type": "gemma3_text", "layer_types": ["sliding_attention", "full_attention"]},
    ),
    # The full layers of this one carry the size of the window as well, and do not use it.
    "exaone4": (
        "decoder",
        "Exaone4ForCausalLM",
        {**WINDOWED, "model_type": "exaone4", "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "bart": ("encdec", "BartForConditionalGeneration", BART),
    "t5": ("encdec", "T5ForConditionalGeneration", tiny.T5),
    "bert": ("encoder", "BertModel", tiny.BERT),
    # A window to both sides.
    "modernbert": (
        "encoder",
        "ModernBertModel",
        {
            **{k: v for k, v in tiny.BERT.items() if k != "architectures"},
            **{"model_type": "modernbert", "local_attention": 8, "global_attn_every_n_layers": 2, "pad_token_id": 0},
        },
    ),
}


class Pairs(TorchFunctionMode):
    """Counts the pairs, over batch and heads, that each attention kernel's real mask lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, key = args[:2]
            shape = (*query.shape[:-1], key.shape[-2])
            mask = kwargs.get("attn_mask")
            if mask is None:
                rows = torch.arange(shape[-2])[:, None] >= torch.arange(shape[-1])[None, :]
                mask = rows if kwargs.get("is_causal") else torch.ones(shape[-2:], dtype=torch.bool)
            # An additive mask shuts out with the lowest number there is; a bias of positions is nowhere near it.
            let = mask if mask.dtype == torch.bool else mask > -1e30
            self.seen.append(int(let.expand(shape).sum()))
        return func(*args, **kwargs)


def real_pairs(name: str, spec: Pass) -> list[int]:
    kind, cls, config = MASKED[name]
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(**{k: v for k, v in config.items() if k != "architectures"})
    model = getattr(transformers, cls)._from_config(made, attn_implementation="sdpa").eval()

    def ids(tokens: int) -> torch.Tensor:
        return torch.randint(3, 100, (spec.batch_size, tokens))

    with torch.no_grad():
        if kind == "encoder":
            with Pairs() as pairs:
                model(input_ids=ids(spec.tokens))
            return pairs.seen
        given: dict[str, Any] = {"use_cache": True}
        inputs = "decoder_input_ids" if kind == "encdec" else "input_ids"
        if kind == "encdec":
            given["input_ids"] = ids(spec.source_tokens)
        if spec.context:
            before = model(**given, **{inputs: ids(spec.context)})
            given["past_key_values"] = before.past_key_values
            if kind == "encdec":
                hidden = before.encoder_last_hidden_state
                given["encoder_outputs"] = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)
                del given["input_ids"]
        with Pairs() as pairs:
            model(**given, **{inputs: ids(spec.tokens)})
    return pairs.seen


def passes_of(kind: str) -> list[Pass]:
    if kind == "encoder":
        return [Pass("encode", 2, 13), Pass("encode", 1, 5)]
    source = 9 if kind == "encdec" else 0
    stage = "decode" if kind == "encdec" else "prefill"
    decode = [Pass("decode", 2, 1, context, source) for context in (3, 12)]
    return [Pass("prefill", 2, 13, 0, source), Pass(stage, 2, 5, 8, source), Pass(stage, 2, 5, 3, source), *decode]


@pytest.mark.parametrize("name", sorted(MASKED))
def test_halved_and_windowed_count_the_pairs_of_real_masks(name):
    kind, cls, config = MASKED[name]
    model = ModelSpec(name=name, config=config, architecture=cls, kind=kind)
    built = build(model, "fp32", fold=False)
    for spec in passes_of(kind):
        counted = works(trace(built, spec), Counting(causal="halved", window="windowed"))
        attention = [w for w in counted if w.op_class == "attention"]
        sizes = [w.call.inputs[1].shape[-1] + w.call.inputs[2].shape[-1] for w in attention]
        pairs = [w.flops // (2 * size) for w, size in zip(attention, sizes, strict=True)]
        assert pairs == real_pairs(name, spec), spec
        plain = works(trace(built, spec), Counting())
        assert [w.flops for w in plain] == [w.call.flops for w in plain], "every pair counts without the conventions"


def test_queries_of_a_chunk_see_that_chunk_alone():
    config = {
        **{**SMALL, "model_type": "llama4_text", "head_dim": 8, "attention_chunk_size": 4, "num_local_experts": 2},
        **{"layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0], "moe_layers": []},
        **{"intermediate_size_mlp": 64},
    }
    built = build(ModelSpec("llama4", config, "Llama4ForCausalLM"), "bf16", fold=False)
    item = trace(built, Pass("prefill", 1, 10))
    counted = [w for w in works(item, Counting(causal="halved", window="windowed")) if w.op_class == "attention"]
    assert [w.flops // (2 * 4 * 16) for w in counted] == [10 + 10 + 3, 55]
    # Where a query stands in its chunk is unknown once some keys are cached: at most a chunk of keys each.
    step = works(trace(built, Pass("decode", 1, 1, 9)), Counting(causal="halved", window="windowed"))
    assert [w.flops // (2 * 4 * 16) for w in step if w.op_class == "attention"] == [4, 10]


def test_eager_attention_computes_every_score_and_says_so():
    config = {**WINDOWED, "model_type": "mistral"}
    model = ModelSpec("Mistral", config, "MistralForCausalLM")
    item = trace(build(model, "bf16", "eager"), Pass("prefill", 1, 20))
    assert works(item, Counting(causal="halved", window="windowed")) == works(item, Counting())
    asked = Workload(input_tokens=20, output_tokens=2, attn_implementation="eager", causal="halved", window="windowed")
    told = estimate(model, H100, asked)["conventions"]
    assert told["causal_attention"].startswith("does not apply")
    assert told["window"].startswith("does not apply")


# --- experts, the document, the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_uniform_routing_reads_no_less_than_topk_and_no_more_than_all(batch):
    item = trace(build(catalogue_model("mixtral-8x7b"), "bf16"), Pass("decode", batch, 1, 20))
    read = {how: total(item, Counting(experts=how), "weight_read") for how in ("topk", "uniform", "all")}
    assert read["topk"] <= read["uniform"] <= read["all"]
    assert (read["topk"] == read["uniform"]) == (batch == 1)
    experts = 32 * 3 * 4096 * 14336 * 2
    assert read["all"] - read["topk"] == 6 * experts
    assert read["uniform"] - read["topk"] == pytest.approx((8 * (1 - 0.75**batch) - 2) * experts, rel=1e-9)
    assert len({total(item, Counting(experts=how)) for how in read}) == 1


@pytest.mark.parametrize(("how", "rows"), [("topk", 64), ("uniform", 16), ("all", 16)])
def test_an_expert_has_the_rows_that_its_convention_sends_to_it(how, rows):
    """Of two experts that all 64 tokens choose, each has all of them. It had the rows of one of the eight of uniform routing: two were read, at
    the rate of products with a quarter of their rows."""
    item = trace(build(catalogue_model("mixtral-8x7b"), "bf16"), Pass("decode", 64, 1, 20))
    experts = [work for work in works(item, Counting(experts=how)) if work.op_class == "experts" and work.rows]
    assert {round(work.rows, 4) for work in experts} == {rows}
    assert {work.spread is None for work in experts} == {how != "uniform"}


def test_every_convention_is_named():
    asked = Workload(
        input_tokens=16, output_tokens=4, causal="halved", window="windowed", experts="all", mla="absorbed"
    )
    told = estimate(catalogue_model("deepseek-v2-lite"), H100, asked)["conventions"]
    assert told["causal_attention"].startswith("halved")
    assert told["window"].startswith("windowed")
    assert told["experts_touched"].startswith("all")
    assert told["mla"].startswith("absorbed")


def test_the_command_line_has_every_option(tmp_path, capsys):
    file = tmp_path / "run.json"
    options = {
        **{"execution": "fused", "causal": "halved", "window": "executed", "mla": "expanded", "experts": "topk"},
        **{"prefix_tokens": 5, "draft_tokens": 2, "draft_acceptance": 0.5, "draft_cost": 0.1},
    }
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = ["estimate", "-m", "gpt2", "-d", "nvidia-h100-sxm5-80gb", "--input-tokens", "16", "--json", str(file)]
    assert main([*command, *flags]) == 0
    made = json.loads(file.read_text())["workload"]
    assert {name: made[name] for name in options} == options
    command[2] = "t5-base"
    assert main([*command, "--decoder-tokens", "3"]) == 0
    assert json.loads(file.read_text())["workload"]["decoder_tokens"] == 3
    capsys.readouterr()
    assert main([*command, "--decoder-tokens", "3", "--prefix-tokens", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: prefix_tokens: ")


def test_the_cache_of_a_latent_model_grows_as_its_form_says(latent_built):
    assert cache_shape(latent_built("deepseek-v3")).bytes_per_token == LATENT["deepseek-v3"].cached("executed")
