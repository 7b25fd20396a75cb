"""The layer graph against what is known of architectures: what flows where, what is skipped, cached, shared and repeated."""

from __future__ import annotations

from typing import Any

import pytest

from profiling.estimate import estimate
from profiling.spec import HardwareSpec, ModelSpec, Workload
from tests.profiling.documents import catalogue_model
from tests.profiling.tiny import LLAMA

DEVICE = HardwareSpec(name="Device", peak_flops={"bf16": 1e14, "fp32": 1e13}, memory_bandwidth=1e12)
INPUT_TOKENS, OUTPUT_TOKENS = 32, 8

SMALL: dict[str, dict[str, Any]] = {
    "jamba": {
        "model_type": "jamba", "architectures": ["JambaForCausalLM"], "vocab_size": 128, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
        "attn_layer_period": 4, "attn_layer_offset": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 8, "mamba_dt_rank": 4, "pad_token_id": 0,
    },
    "albert": {
        "model_type": "albert", "architectures": ["AlbertModel"], "vocab_size": 128, "hidden_size": 64,
        "embedding_size": 32, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    },
    "qwen2_moe": {
        "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "vocab_size": 128, "hidden_size": 64,
        "intermediate_size": 128, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8,
        "num_experts_per_tok": 2,
    },
    "untied": LLAMA | {"tie_word_embeddings": False},
}  # fmt: skip


class Graph:
    """One stage of a document's graph, to ask questions of."""

    def __init__(self, document: dict[str, Any], stage: str) -> None:
        self.document = document
        graph = document["graph"][stage]
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.edges = graph["edges"]
        parents = {node["parent"] for node in graph["nodes"]}
        self.leaves = [node for node in graph["nodes"] if node["id"] not in parents]

    def edge(self, source: str, target: str) -> dict[str, Any]:
        found = [e for e in self.edges if (e["source"], e["target"]) == (source, target) and e["kind"] != "repeat"]
        assert len(found) == 1, (source, target, found)
        return found[0]

    def sources(self, target: str, kind: str | None = None) -> set[str]:
        return {e["source"] for e in self.edges if e["target"] == target and kind in (None, e["kind"])}

    def kinds(self, kind: str) -> set[tuple[str, str]]:
        return {(e["source"], e["target"]) for e in self.edges if e["kind"] == kind}

    def repeated(self, key: str, **where: Any) -> int:
        chosen = [node for node in self.leaves if all(node[k] == v for k, v in where.items())]
        return sum(node["repeat"] * node[key] for node in chosen)


_DOCUMENTS: dict[str, dict[str, Any]] = {}


def graph(name: str, stage: str) -> Graph:
    if name not in _DOCUMENTS:
        kind = "encoder" if name == "albert" else "decoder"
        model = ModelSpec(name=name, config=SMALL[name], kind=kind) if name in SMALL else catalogue_model(name)
        output = 0 if model.kind in ("encoder", "vision") else OUTPUT_TOKENS
        _DOCUMENTS[name] = estimate(model, DEVICE, Workload(input_tokens=INPUT_TOKENS, output_tokens=output))
    return Graph(_DOCUMENTS[name], stage)


def stages_of(name: str) -> list[str]:
    return ["encode"] if name.startswith(("vit", "bert")) else ["prefill", "decode"]


# --- encoder and decoder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "encoder", "cross"),
    [
        ("t5-base", "encoder.final_layer_norm", ["decoder.block.0.layer.1.EncDecAttention", "decoder.block.1.layer.1.EncDecAttention"]),
        ("bart-large", "model.encoder.layers.0.final_layer_norm", ["model.decoder.layers.0.encoder_attn"]),
        ("whisper-base", "model.encoder.layer_norm", ["model.decoder.layers.0.encoder_attn"]),
    ],
)  # fmt: skip
def test_every_decoder_block_reads_the_encoder_once_and_its_cache_at_every_step(name, encoder, cross):
    prefill, decode = graph(name, "prefill"), graph(name, "decode")
    for attention in cross:
        key, value = ("k", "v") if name == "t5-base" else ("k_proj", "v_proj")
        for projection in (key, value):
            edge = prefill.edge(encoder, f"{attention}.{projection}")
            assert edge["kind"] == "data"
            assert edge["bytes"] == prefill.nodes[encoder]["output_bytes"]
            assert f"{attention}.{projection}" not in decode.nodes, "keys and values of the prompt are not made again"
        assert (f"{attention}#cache", "cache") in prefill.kinds("cache")
        both = prefill.edge(f"{attention}#cache", f"{attention}#sdpa")["bytes"]
        assert both == prefill.nodes[f"{attention}.{key}"]["output_bytes"] * 2
        assert decode.edge("cache", f"{attention}#sdpa")["bytes"] == both
    assert not any(node["id"].split(".")[-1] == "encoder" for node in decode.nodes.values())


# --- cache --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["gpt2", "llama-3-8b", "gemma-3-1b", "gpt-oss-20b", "deepseek-v2-lite", "mamba-130m", "t5-base", "whisper-base", "jamba"],
)  # fmt: skip
def test_the_cache_nodes_together_hold_the_whole_cache(name):
    for stage in ("prefill", "decode"):
        found = graph(name, stage)
        memory = found.document["memory"]["estimate"]
        whole = memory["kv_cache_bytes"] + memory["state_bytes"]
        held = found.repeated("memory_bytes", kind="cache")
        # The memory of a run is of its end; a stage is of its own place. Tokens are in the cache one by one.
        assert 0 < held <= whole
        if name == "mamba-130m":
            assert held == whole, "a state does not grow"
        if name in ("gpt2", "llama-3-8b", "deepseek-v2-lite"):
            facts = found.document["stages"][stage]
            assert held == whole * (facts["tokens"] + facts["context"]) / (INPUT_TOKENS + OUTPUT_TOKENS - 1)


def test_a_decode_step_reads_what_is_cached_and_writes_one_token_more():
    found = graph("llama-3-8b", "decode")
    cache = "model.layers.0.self_attn#cache"
    before, after = found.edge("cache", cache), found.edge(cache, "cache")
    context = found.document["stages"]["decode"]["context"]
    assert before["shape"] == [1, 8, context, 128]
    assert after["shape"] == [1, 8, context + 1, 128]
    assert after["bytes"] == found.nodes[cache]["output_bytes"] == 2 * 2 * 8 * (context + 1) * 128
    assert found.edge(cache, "model.layers.0.self_attn#sdpa")["bytes"] == after["bytes"]
    assert not graph("llama-3-8b", "prefill").kinds("cache") & {("cache", cache)}


def test_latent_attention_caches_the_latent_and_expands_it():
    found = graph("deepseek-v2-lite", "decode")
    attention = "model.layers.1.self_attn"
    assert found.edge(f"{attention}.kv_a_layernorm", f"{attention}#cache")["shape"] == [1, 1, 1, 512]
    assert found.edge(f"{attention}#cache", f"{attention}.kv_b_proj")["kind"] == "cache"
    assert f"{attention}.kv_b_proj" in found.sources(f"{attention}#sdpa")
    per_token = found.nodes[f"{attention}#cache"]["memory_bytes"] / (found.document["stages"]["decode"]["context"] + 1)
    assert per_token == 2 * (512 + 64)


def test_a_state_space_model_reads_and_writes_its_states():
    for stage in ("prefill", "decode"):
        found = graph("mamba-130m", stage)
        cache = "backbone.layers.0.mixer#cache"
        assert found.nodes[cache]["repeat"] == 24
        assert (cache, "cache") in found.kinds("cache")
        # The window of the convolution in bf16 and the state in fp32: 1536 channels, 4 taps, 16 states.
        assert found.nodes[cache]["memory_bytes"] == 1536 * (4 * 2 + 16 * 4)
    assert not {e for e in graph("mamba-130m", "prefill").edges if e["source"] == "cache"}
    read = [e for e in graph("mamba-130m", "decode").edges if e["source"] == "cache"]
    assert {tuple(e["shape"]) for e in read} == {(1, 1536, 4), (1, 1536, 16)}


# --- skip connections and branches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", {("transformer#add", "h.0#add"), ("transformer.h.0#add", "h.0#add_2")}),
        ("gpt-j-6b", {("transformer.wte", "h.0#add_2")}),
        ("bert-base-uncased", {("embeddings.LayerNorm", "layer.0.attention.output#add"),
                               ("encoder.layer.0.attention.output.LayerNorm", "layer.0.output#add")}),
        ("mamba-130m", {("backbone.layers.0#_to_copy", "layers.0#add")}),
        ("qwen2_moe", {("model.embed_tokens", "layers.0#add"), ("model.layers.0#add", "layers.0#add_2")}),
    ],
)  # fmt: skip
def test_skip_connections_and_nothing_else_are_residual(name, expected):
    for stage in stages_of(name):
        found = graph(name, stage).kinds("residual")
        assert len(found) == len(expected)
        for source, ending in expected:
            assert any(s == source and t.endswith(ending) for s, t in found), (source, ending, found)


@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_experts_and_shared_experts_are_branches_that_join(stage):
    found = graph("deepseek-v2-lite", stage)
    mlp = "model.layers.1.mlp"
    assert found.edge("model.layers.1.post_attention_layernorm", f"{mlp}.gate")["kind"] == "data"
    first = next(node["id"] for node in found.leaves if node["id"].startswith(f"{mlp}.experts#"))
    assert f"{mlp}.gate" in found.sources(first), "the router says which experts"
    joined = found.sources(f"{mlp}#add")
    assert len(joined) == 2
    assert f"{mlp}.shared_experts.down_proj" in joined
    assert {e["kind"] for e in found.edges if e["target"] == f"{mlp}#add"} == {"data"}


def test_experts_carry_their_weights_where_they_are_read():
    found = graph("mixtral-8x7b", "prefill")
    experts = "model.layers.0.mlp.experts"
    up, down = found.nodes[f"{experts}#grouped_mm"], found.nodes[f"{experts}#grouped_mm_2"]
    assert up["parameters"] == 8 * 2 * 14336 * 4096
    assert down["parameters"] == 8 * 14336 * 4096
    assert up["weight_bytes"] + down["weight_bytes"] == found.nodes[experts]["weight_bytes"]


def test_a_hybrid_has_attention_states_and_experts_in_one_chain():
    for stage in ("prefill", "decode"):
        found = graph("jamba", stage)
        blocks = {n["id"]: n["repeat"] for n in found.nodes.values() if n["class"].endswith("DecoderLayer")}
        assert sum(blocks.values()) == 8
        assert len(blocks) == 3, "Mamba, Mamba with experts, attention"
        assert {n["class"] for n in found.nodes.values()} >= {
            "JambaMambaMixer",
            "JambaAttention",
            "JambaSparseMoeBlock",
        }
        last = "model.layers.1#add_2"
        assert found.edge(last, "model.final_layernorm")["kind"] == "data"
        assert len({n["id"] for n in found.leaves if n["kind"] == "cache" and n["parent"]}) == 3


def test_a_layer_that_runs_many_times_is_one_node_with_all_its_work():
    found = graph("albert", "encode")
    attention = "encoder.albert_layer_groups.0.albert_layers.0.attention"
    rows = found.document["modules"]
    at = {name: i for i, name in enumerate(rows["columns"])}
    query = next(row for row in rows["rows"] if row[at["path"]] == f"{attention}.query")
    assert found.nodes[f"{attention}.query"]["flops"] == query[at["flops"]] == 4 * 2 * INPUT_TOKENS * 64 * 64


# --- folding, weights, memory -------------------------------------------------------------------------------------------


def test_blocks_of_two_kinds_follow_each_other_and_the_last_goes_on_to_the_norm():
    found = graph("gemma-3-1b", "prefill")
    assert found.nodes["model.layers.0"]["repeat"] == 22
    assert found.nodes["model.layers.5"]["repeat"] == 4
    assert found.edge("model.layers.0#add_2", "model.layers.5.input_layernorm")["kind"] == "data"
    assert found.edge("model.layers.0#add_2", "model.norm")["kind"] == "data", "the 26th block is of the first kind"
    loops = found.kinds("repeat")
    assert ("model.layers.5#add_2", "model.layers.0.input_layernorm") in loops
    assert ("model.layers.0#add_2", "model.layers.0#add") in loops


@pytest.mark.parametrize("name", ["gpt2", "gemma-3-1b", "t5-base"])
def test_tied_weights_count_once(name):
    found = graph(name, "prefill")
    tied = [node for node in found.leaves if "tied" in node]
    assert tied, name
    for node in tied:
        owner = found.nodes[node["tied"]]
        assert owner["weight_bytes"] == node["weight_bytes"]
        assert node["memory_bytes"] == node["output_bytes"]
    whole = found.repeated("weight_bytes") - sum(node["weight_bytes"] for node in tied)
    assert whole == found.document["model"]["weight_bytes"]


def test_untied_weights_are_all_there():
    found = graph("untied", "prefill")
    assert not any("tied" in node for node in found.leaves)
    assert found.repeated("weight_bytes") == found.document["model"]["weight_bytes"]


@pytest.mark.parametrize("name", ["gpt2", "deepseek-v2-lite", "mamba-130m"])
@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_memory_is_weights_and_outputs_and_adds_up(name, stage):
    found = graph(name, stage)
    for node in found.leaves:
        if node["id"] != "cache":
            held = 0 if "tied" in node else node["weight_bytes"]
            assert node["memory_bytes"] == held + node["output_bytes"], node["id"]
    for parent in {leaf["parent"] for leaf in found.leaves} - {None}:
        inside = [leaf for leaf in found.leaves if leaf["id"].startswith((f"{parent}.", f"{parent}#"))]
        outputs = sum(leaf["repeat"] * leaf["output_bytes"] for leaf in inside) / found.nodes[parent]["repeat"]
        assert found.nodes[parent]["memory_bytes"] == found.nodes[parent]["weight_bytes"] + outputs


def test_an_output_is_the_whole_tensor_however_it_is_read():
    found = graph("llama-3-8b", "prefill")
    query = "model.layers.0.self_attn.q_proj"
    edge = found.edge(query, "model.layers.0.self_attn#apply_rotary_pos_emb")
    # The rotation reads halves of it as well.
    assert edge["bytes"] == found.nodes[query]["output_bytes"] == 2 * INPUT_TOKENS * 4096
    rotated = found.nodes["model.layers.0.self_attn#apply_rotary_pos_emb"]
    assert rotated["output_bytes"] == 2 * INPUT_TOKENS * (4096 + 1024), "queries and keys"
    assert rotated["output_shape"] == [1, 32, INPUT_TOKENS, 128]


@pytest.mark.parametrize("name", ["gpt2", "t5-base", "mamba-130m", "jamba", "mixtral-8x7b", "vit-base-patch16-224"])
def test_nothing_that_is_computed_leads_nowhere(name):
    for stage in stages_of(name):
        found = graph(name, stage)
        sources = {e["source"] for e in found.edges}
        loose = [n["id"] for n in found.leaves if n["id"] not in sources and n["id"] not in ("output", "cache")]
        assert loose in ([], ["model#arange"]), "positions that Jamba's attention never asks for"
