"""What a trace leaves behind: tensors, calls and module outputs as frozen values. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shaped:
    """A tensor as a formula sees it. ``nbytes``: bytes of distinct elements (a broadcast dimension counts once)."""

    uid: int
    shape: tuple[int, ...]
    dtype: str
    itemsize: int
    nbytes: int
    source: str  # weight, buffer, cache, input, activation


@dataclass(frozen=True, slots=True)
class Call:
    """One executed operator. ``reads``: per input tensor (storage uid, bytes, source); ``writes``: (storage uid, bytes).

    ``path``: the module it ran in; ``label``: the function of the modelling file around it, "" in ``forward`` itself.
    ``hidden_bytes`` is traffic that only eager execution has. ``inputs``/``outputs`` keep shapes for the data-flow graph.
    """

    index: int
    path: str
    label: str
    name: str
    op_class: str
    flops: int
    elementwise_flops: int
    reads: tuple[tuple[int, int, str], ...]
    writes: tuple[tuple[int, int], ...]
    hidden_bytes: int
    inputs: tuple[Shaped, ...]
    outputs: tuple[Shaped, ...]
    facts: Mapping[str, Any]

    @property
    def bytes_read(self) -> int:
        return sum(b for _, b, _ in self.reads)

    @property
    def bytes_written(self) -> int:
        return sum(b for _, b in self.writes)

    @property
    def weight_bytes(self) -> int:
        return sum(b for _, b, source in self.reads if source == "weight")


@dataclass(frozen=True, slots=True)
class ModuleOutput:
    """What a module returned: the first tensor of it, and how often the module ran."""

    calls: int
    shape: tuple[int, ...] | None
    nbytes: int | None
    uid: int | None


@dataclass(frozen=True)
class Recording:
    """One traced forward pass. ``unknown``: names of operators without a formula. ``state_uids``: of ``cache_uids``, what is no key or value.

    ``alive``: most bytes of activations alive during each call, and one number more for what came after the last.
    """

    calls: tuple[Call, ...]
    outputs: dict[str, ModuleOutput]
    unknown: tuple[str, ...]
    alive: tuple[int, ...]
    cache_uids: frozenset[int]
    input_uids: frozenset[int]
    result_uids: frozenset[int]
    state_uids: frozenset[int] = frozenset()

    @property
    def activation_peak(self) -> int:
        """Most bytes of activations alive at one moment."""
        return max(self.alive, default=0)
