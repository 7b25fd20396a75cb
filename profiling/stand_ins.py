"""Stand-ins for functions of transformers' modelling files that ask for values or loop over tokens or experts in Python.

Each one is for one file, and says what it assumes. Adding one is one function here; see :func:`profiling.fused.stand_in`.
"""

from __future__ import annotations

import torch

from profiling.fused import grouped_mm, stand_in

_DBRX = "transformers.models.dbrx.modeling_dbrx"
_JETMOE = "transformers.models.jetmoe.modeling_jetmoe"
_XMOD = "transformers.models.xmod.modeling_xmod"
_RWKV = "transformers.models.rwkv.modeling_rwkv"
_LONGCAT = "transformers.models.longcat_flash.modeling_longcat_flash"
_SWITCH = "transformers.models.switch_transformers.modeling_switch_transformers"
_QWEN4 = "transformers.models.qwen4_exp.modeling_qwen4_exp"
_MRA = "transformers.models.mra.modeling_mra"


@stand_in(_JETMOE, "JetMoeParallelExperts.forward", pin=True)
def _jetmoe_experts(tracer, module, inputs, expert_size):
    """A loop over experts that splits rows by the router's counts: one grouped product. Routing is uniform."""
    if tracer is None:
        return torch.cat([torch.nn.functional.linear(rows, module.weight[0]) for rows in inputs.split(1)])
    weight = module.weight.transpose(1, 2)
    with tracer.paused():
        out = inputs.new_empty(inputs.shape[0], weight.shape[-1])
    tracer.fused("grouped_mm", [inputs, weight], [out], tokens=tracer.tokens(1) or inputs.shape[0])
    return out


@stand_in(_DBRX, "DbrxExperts.forward", pin=True)
def _dbrx_experts(tracer, module, hidden_states, top_k_index, top_k_weights):
    """A loop over the experts that were hit: three grouped products on the rows gathered for them, then added back."""
    flat = hidden_states.reshape(-1, module.hidden_size)
    places = top_k_index.flatten()
    rows = flat.index_select(0, places)
    shape = (module.num_experts, module.ffn_hidden_size, module.hidden_size)
    w1, v1, w2 = (w.view(shape) for w in (module.mlp.w1, module.mlp.v1, module.mlp.w2))
    if tracer is None:
        out = module.mlp(rows, w1[0], v1[0], w2[0])
    else:
        gate = module.mlp.activation_fn(grouped_mm(tracer, rows, w1.transpose(1, 2)))
        out = grouped_mm(tracer, gate * grouped_mm(tracer, rows, v1.transpose(1, 2)), w2)
    out = out * top_k_weights.reshape(-1, 1)
    return torch.zeros_like(flat).index_add_(0, places, out).view(hidden_states.shape)


@stand_in(_XMOD, "XmodOutput.lang_adapter", pin=True)
def _one_language(tracer, module, lang_ids, hidden_states):
    """Rows go through the adapter of their language: here all through one, as prompts of a workload have one language."""
    residual = hidden_states
    if module.adapter_layer_norm is not None:
        hidden_states = module.adapter_layer_norm(hidden_states)
    elif module.adapter_reuse_layer_norm:
        hidden_states = module.LayerNorm(hidden_states)
    if module.ln_before_adapter:
        residual = hidden_states
    adapter = next(iter(module.adapter_modules.values()))
    return module.dropout(adapter(hidden_states.flatten(0, 1)).view_as(hidden_states)) + residual


@stand_in(_RWKV, "rwkv_linear_attention")
def _rwkv(tracer, time_decay, time_first, key, value, state=None, return_state=False):
    """RWKV's recurrence over the tokens, one kernel on hardware."""
    with tracer.paused():
        out = torch.empty_like(key)
        last = [key.new_empty(key.shape[0], key.shape[2], dtype=torch.float32) for _ in range(3)]
    keeps = return_state or state is not None
    inputs = [time_decay, time_first, key, value, *(state or ())]
    tracer.fused("rwkv_scan", inputs, [out, *last] if keeps else [out])
    return out, last if keeps else state


@stand_in(_LONGCAT, "LongcatFlashExperts.forward", pin=True)
def _longcat_experts(tracer, module, hidden_states, top_k_index, top_k_weights):
    """A loop over the experts that were hit. Of all experts some do nothing: under uniform routing, so do as many of the rows."""
    places = top_k_index.flatten()
    working = round(places.numel() * module.num_routed_experts / module.total_experts)
    rows = hidden_states.index_select(0, places)
    if tracer is None:
        gate, up = torch.nn.functional.linear(rows[:working], module.gate_up_proj[0]).chunk(2, dim=-1)
        worked = torch.nn.functional.linear(module.act_fn(gate) * up, module.down_proj[0])
    else:
        weights = module.gate_up_proj[: module.num_routed_experts].transpose(1, 2)
        gate, up = grouped_mm(tracer, rows[:working], weights).chunk(2, dim=-1)
        worked = grouped_mm(tracer, module.act_fn(gate) * up, module.down_proj.transpose(1, 2))
    out = torch.cat([worked, rows[working:]]) * top_k_weights.reshape(-1, 1)
    return torch.zeros_like(hidden_states).index_add_(0, places, out.to(hidden_states.dtype))


@stand_in(_SWITCH, "SwitchTransformersExperts.forward", pin=True)
def _switch_experts(tracer, module, hidden_states, selected_experts, routing_weights):
    """A loop over the experts that were hit, each a module of its own: two grouped products. No expert overflows."""
    experts = list(module.values())
    act = experts[0].act
    if tracer is None:
        out = experts[0](hidden_states)
    else:
        inner = grouped_mm(tracer, hidden_states, _together(tracer, [e.wi.weight.t() for e in experts]))
        out = grouped_mm(tracer, act(inner), _together(tracer, [e.wo.weight.t() for e in experts]))
    out = out * routing_weights
    places = selected_experts.flatten(1).argmax(-1)
    return torch.zeros_like(hidden_states).index_add_(0, places, out.to(hidden_states.dtype))


def _together(tracer, weights):
    """Weights that lie apart as the one tensor that a grouped product takes; they stay the model's weights."""
    with tracer.paused():
        stacked = torch.stack(weights)
    tracer.adopt(stacked)
    return stacked


@stand_in(_QWEN4, "Qwen4ExpTextQSAIndexer.forward", pin=True)
def _qwen4_indexer(tracer, module, hidden_states, position_embeddings, attention_mask, past_key_values):
    """A loop over sequences and queries that pools the keys anew for each: here as a kernel does it.

    Blocks of keys are pooled once and scored for all queries in one product. Causal pairs count in full, as for attention.
    """
    from transformers.models.qwen4_exp.modeling_qwen4_exp import apply_rotary_pos_emb

    batch, length, _ = hidden_states.shape
    cos, sin = position_embeddings
    sizes = [heads * module.index_head_dim for heads in (module.index_n_heads, module.index_kv_heads)]
    queries, keys = module.index_qk_proj(hidden_states).split(sizes, dim=-1)
    queries = module.q_layernorm(queries.reshape(batch, length, -1, module.index_head_dim))
    queries = apply_rotary_pos_emb(queries, cos=cos[:, -length:], sin=sin[:, -length:], unsqueeze_dim=2)
    if past_key_values is not None:
        keys = past_key_values.update_indexer(keys, module.layer_idx)
    ratio, total = module.compress_ratio, attention_mask.shape[-1]
    blocks = total // ratio
    chosen = torch.zeros(batch, length, total + 1, dtype=torch.bool, device=hidden_states.device)
    if blocks:
        pooled = keys[:, : blocks * ratio].unflatten(1, (blocks, ratio)).float().mean(2).to(keys.dtype)
        starts = slice(0, blocks * ratio, ratio)
        pooled = apply_rotary_pos_emb(
            module.k_layernorm(pooled).unsqueeze(2), cos=cos[:, starts], sin=sin[:, starts], unsqueeze_dim=2
        )
        scores = torch.matmul(queries.flatten(1, 2).float(), pooled.squeeze(2).float().transpose(1, 2))
        scores = scores.view(batch, length, -1, blocks).relu().sum(2)
        best = scores.topk(min(module.block_topk, blocks), dim=-1).indices
        tokens = best.unsqueeze(-1) * ratio + torch.arange(ratio, device=best.device)
        chosen = chosen.scatter(-1, tokens.flatten(-2), True)
    return chosen[..., :total].unsqueeze(1)


@stand_in(_MRA, "mra2_attention")
def _mra_attention(tracer, query, key, value, *_, **__):
    """Attention that exists as a CUDA kernel only: without it the class returns zeros. No formula knows it, so it is named."""
    with tracer.paused():
        out = torch.empty_like(query)
    tracer.fused("mra2_attention", [query, key, value], [out])
    return out
