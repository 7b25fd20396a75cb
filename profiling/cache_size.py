"""What the cache of a folded model would hold in the complete one."""

from __future__ import annotations

from typing import Any

import torch

from profiling.build import Built, Fold
from profiling.tensors import cache_layers


def _cached_fold(built: Built, layers: int) -> Fold | None:
    """The list of blocks to which the layers of the cache belong: the decoder's, where there are two."""
    fitting = [f for f in built.folds if len(f.kinds) <= layers or f.kept <= layers]
    named = [f for f in fitting if "decoder" in f.path]
    found = named or fitting
    return found[-1] if found else None


def _per_layer(built: Built, cache: Any) -> list[tuple[int, list[torch.Tensor]]]:
    """(how many layers it stands for, its tensors) for each traced layer of the cache."""
    layers = cache_layers(cache)
    if not hasattr(cache, "layers") and not hasattr(cache, "self_attention_cache"):
        return [(1, tensors) for tensors in layers]  # made for the complete model at once
    fold = _cached_fold(built, len(layers))
    if fold is None:
        return [(1, tensors) for tensors in layers]
    times = (*fold.stands_for, *(1 for _ in layers))
    return [(times[i], tensors) for i, tensors in enumerate(layers) if tensors]


def cache_bytes(built: Built, cache: Any) -> int:
    """Bytes of a cache as the complete model would hold it."""
    return sum(times * t.numel() * t.element_size() for times, tensors in _per_layer(built, cache) for t in tensors)


def own_elements(built: Built, cache: Any) -> int:
    """Elements of a cache, as the complete model would hold it, that are in the model's own dtype."""
    layers = _per_layer(built, cache)
    return sum(times * t.numel() for times, tensors in layers for t in tensors if t.dtype == built.dtype)
