"""Finding tensors: in arguments and results, and in transformers' caches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch


def distinct_bytes(tensor: torch.Tensor, itemsize: int | None = None) -> int:
    """Bytes of distinct elements: a broadcast dimension (stride 0) counts once. ``itemsize``: of an element, where it is known."""
    itemsize = itemsize or tensor.element_size()
    strides = tensor.stride()
    if 0 not in strides:
        return tensor.numel() * itemsize
    count = 1
    for size, stride in zip(tensor.shape, strides, strict=True):
        if stride != 0:
            count *= size
        elif size == 0:
            return 0
    return count * itemsize


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor in nested lists, tuples, dictionaries and caches, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors_in(item)]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in tensors_in(item)]
    return []


def cache_layers(cache: Any, *, counters: bool = False) -> list[list[torch.Tensor]]:
    """Tensors of each layer of a transformers cache (self-attention then cross-attention for encoder-decoders).

    Single numbers (how many tokens were seen) are left out, unless ``counters``.
    """
    if cache is None:
        return []
    nothing: list[torch.Tensor] = []
    if hasattr(cache, "self_attention_cache"):
        own = cache_layers(cache.self_attention_cache, counters=counters)
        cross = cache_layers(cache.cross_attention_cache, counters=counters)
        return [a + b for a, b in zip_longest(own, cross, fillvalue=nothing)]
    if not hasattr(cache, "layers"):
        # A state of the whole model: a list of tensors (RWKV), or an object of its own (xLSTM).
        return [tensors_in(cache if isinstance(cache, (list, tuple)) else list(vars(cache).values()))]
    # A list beside the layers holds what else each of them keeps (MiniMax: the states of its linear attention).
    beside = [v for name, v in vars(cache).items() if name != "layers" and isinstance(v, list) and tensors_in(v)]
    kept = [_layer_tensors(layer, counters) for layer in cache.layers]
    for items in beside:
        kept = [[*own, *tensors_in([more])] for own, more in zip_longest(kept, items, fillvalue=nothing)]
    return kept


def _layer_tensors(layer: Any, counters: bool) -> list[torch.Tensor]:
    unique: dict[int, torch.Tensor] = {}
    for value in vars(layer).values():
        for tensor in tensors_in(value):
            if tensor.numel() > 1 or counters:
                unique[tensor.untyped_storage()._cdata] = tensor
    return list(unique.values())


def cache_tensors(cache: Any) -> list[torch.Tensor]:
    """Every tensor of a cache that grows or is a state."""
    return [t for layer in cache_layers(cache) for t in layer]


def state_tensors(cache: Any) -> list[torch.Tensor]:
    """Those tensors of a cache that hold no keys and values of tokens but a state: of a convolution or a recurrence."""
    if cache is None:
        return []
    if hasattr(cache, "self_attention_cache"):
        return state_tensors(cache.self_attention_cache) + state_tensors(cache.cross_attention_cache)
    if not hasattr(cache, "layers"):
        return cache_tensors(cache)
    kept = {
        id(t) for layer in cache.layers for name in ("keys", "values") for t in tensors_in(getattr(layer, name, None))
    }
    return [t for t in cache_tensors(cache) if id(t) not in kept]
