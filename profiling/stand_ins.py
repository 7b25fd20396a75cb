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
