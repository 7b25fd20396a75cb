"""Memory that a kernel takes while it runs, beyond its inputs and outputs. Pure functions over shapes.

Followed in torch 2.13's allocator, call by call (tests/profiling/test_peaks.py compares every case with the real kernels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

FP32 = 4


class Shaped(Protocol):
    """Logical shape and bytes per element."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def itemsize(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Workspace:
    """Bytes while the kernel runs. ``cpu_bytes`` and ``thread_bytes`` (for each thread): what a processor takes instead."""

    nbytes: int
    cpu_bytes: int
    thread_bytes: int = 0

    def on_cpu(self, threads: int) -> int:
        return self.cpu_bytes + threads * self.thread_bytes


def kernel_threads(kind: str, threads: int | None) -> int | None:
    """Threads that share a kernel's work on hardware of ``kind``: None where it has none; 1 where nobody says how many."""
    return (threads or 1) if kind == "cpu" else None


def runs_unfused(query: Shaped, key: Shaped, gqa: bool) -> bool:
    """Whether ``scaled_dot_product_attention`` has no fused kernel for these heads on any device.

    Keys of fewer heads that are to be broadcast over the queries' heads, without grouped-query attention being asked for, go to
    the plain implementation, which writes out the scores.
    """
    return len(query.shape) != 4 or (query.shape[1] != key.shape[1] and not gqa)


def attention(inputs: Sequence[Shaped], output: Shaped, *, causal: bool, gqa: bool) -> Workspace:
    """Of one ``scaled_dot_product_attention``: ``inputs`` are query, key, value and, where there is one, the mask.

    Processors have a fused kernel only for values as wide as keys; accelerators also for others (multi-head latent attention).
    """
    query, key, value = inputs[:3]
    mask = _mask_bytes(inputs)
    plain = _plain(inputs, output, causal)
    if runs_unfused(query, key, gqa):
        return Workspace(mask + plain, mask + plain)
    batch, heads, queries, width = query.shape
    fused = mask + batch * heads * queries * FP32  # the logarithms of the sums, which fused kernels return
    if value.shape[-1] != width:
        return Workspace(fused, mask + plain)
    return Workspace(fused, fused, _tile_bytes(query, key.shape[-2]))


def _mask_bytes(inputs: Sequence[Shaped]) -> int:
    """A mask of truth values is turned into one of numbers that are added."""
    if len(inputs) < 4 or inputs[3].itemsize != 1:
        return 0
    return _numel(inputs[3]) * inputs[0].itemsize


def _tile_bytes(query: Shaped, keys: int) -> int:
    """Tiles of the fused kernel of processors, for each thread: scores, their maximum and sum, output, in fp32.

    Half-precision inputs have the scores in their own format as well.
    """
    queries, width = query.shape[-2:]
    rows = min(queries, 256 if queries >= 768 else 64 if queries >= 192 else 32)
    columns = min(keys, 512)
    half = rows * columns * query.itemsize if query.itemsize < FP32 else 0
    return FP32 * (rows * columns + 2 * rows + rows * width) + half


def _plain(inputs: Sequence[Shaped], output: Shaped, causal: bool) -> int:
    """The plain implementation: copies in fp32 of half-precision inputs, scaled queries and keys, scores, softmax.

    The softmax checks for rows that are masked completely, with a truth value for each score. Returned is the most that is
    alive at once, less the output, which is not there yet at that moment but counted among the outputs.
    """
    query, key, value = inputs[:3]
    queries, keys = query.shape[-2], key.shape[-2]
    size = max(FP32, query.itemsize)
    heads = math.prod(query.shape[:-2])
    scores = heads * queries * keys
    held = _numel(query) * size  # scaled
    if query.itemsize < FP32:
        held += sum(_numel(t) for t in (query, key, value)) * size
    if causal and len(inputs) < 4:
        held += queries * keys * size
    spread = math.prod(query.shape[:-2]) != math.prod(key.shape[:-2])
    wide_keys = heads * keys * key.shape[-1] * size if spread else 0
    wide_values = heads * keys * value.shape[-1] * size if spread else 0
    out = _numel(output)
    product = _numel(key) * size + wide_keys + scores * size
    softmax = 2 * scores * size + scores + heads * queries
    weighted = scores * size + wide_values + out * size
    return max(0, held + max(product, softmax, weighted) - out * output.itemsize)


def selective_scan(*, batch: int, channels: int, steps: int, state: int, itemsize: int, skips: bool) -> Workspace:
    """Of transformers' reference loop over the steps of a selective scan, which runs where there is no kernel of its own.

    Ā, B̄ and B̄·x of all steps in fp32; the time steps after their softplus, the outputs of the single steps and these joined.
    ``skips``: x·D is added at the end, in fp32, for which the joined outputs are cast.
    """
    cells = batch * channels * steps
    held = 3 * cells * state * FP32 + 2 * cells * itemsize  # Ā, B̄, B̄·x; time steps, outputs of the single steps
    if skips:
        cast = FP32 - itemsize  # the sum is fp32 as well, where the output is counted in the model's own format
        held += cells * (itemsize + FP32) + (cells * (FP32 + cast) if cast else 0)
    return Workspace(held, held)


def _numel(tensor: Shaped) -> int:
    return math.prod(tensor.shape)
