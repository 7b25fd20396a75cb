"""What a trace leaves behind: tensors, calls and module outputs as frozen values. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from profiling.workspace import Workspace


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


@dataclass(frozen=True, slots=True)
class Occupied:
    """A kernel's workspace: allocation number ``index`` of :attr:`Recording.alive`, and the bytes alive before it."""

    index: int
    alive: int
    workspace: Workspace


class Allocation(NamedTuple):
    """``nbytes`` more (or fewer) of a storage alive. ``birth``: followed by the next number of :attr:`Recording.alive`."""

    uid: int
    nbytes: int
    birth: bool


@dataclass(frozen=True, slots=True)
class Span:
    """One run of a module: most bytes of activations alive meanwhile, and which of :attr:`Recording.occupied` ran in it."""

    path: str
    alive: int
    first: int
    end: int


@dataclass(frozen=True)
class Recording:
    """One traced forward pass. ``unknown``: names of operators without a formula. ``state_uids``: of ``cache_uids``, what is no key or value.

    ``alive``: bytes of activations alive after each allocation, in order.
    ``occupied``: the calls whose kernels take memory of their own, which an accelerator's take as counted in ``alive``.
    ``allocations``: what ``alive`` sums up. ``workspace_calls``: storage → call it is a workspace of.
    ``issued``: how each of the ``calls`` was made (:class:`profiling.issued.Issued`); empty unless asked for.
    ``vectors``: storage of cached keys or values → how many values one token has in one head.
    """

    calls: tuple[Call, ...]
    outputs: dict[str, ModuleOutput]
    unknown: tuple[str, ...]
    alive: tuple[int, ...]
    cache_uids: frozenset[int]
    input_uids: frozenset[int]
    result_uids: frozenset[int]
    state_uids: frozenset[int] = frozenset()
    vectors: Mapping[int, int] = field(default_factory=dict)
    occupied: tuple[Occupied, ...] = ()
    spans: tuple[Span, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    workspace_calls: Mapping[int, int] = field(default_factory=dict)
    issued: tuple[Any, ...] = ()

    @property
    def activation_peak(self) -> int:
        """Most bytes of activations alive at one moment."""
        return max(self.alive, default=0)

    def alive_on_cpu(self, threads: int) -> tuple[int, ...]:
        """``alive`` with the workspaces that a processor's kernels take on ``threads`` threads."""
        alive = list(self.alive)
        for item in self.occupied:
            alive[item.index] = item.alive + item.workspace.on_cpu(threads)
        return tuple(alive)

    def peak(self, threads: int | None = None) -> int:
        """Most bytes of activations alive at one moment. ``threads``: of a processor; None for an accelerator."""
        return self.activation_peak if threads is None else max(self.alive_on_cpu(threads), default=0)

    def peak_module(self, threads: int | None = None) -> str:
        """The innermost module that was running at the peak; the first of them where several reach it."""
        peaks = self.module_peaks(threads)
        top = max(peaks.values(), default=0)
        return max((path for path, peak in peaks.items() if peak == top), key=_depth, default="")

    def module_peaks(self, threads: int | None = None) -> dict[str, int]:
        """Traced module → most bytes of activations alive while it ran, its own and those of others that wait meanwhile.

        ``threads``: of a processor, whose kernels take other workspaces; None for an accelerator.
        """
        taken = [
            o.alive + (o.workspace.nbytes if threads is None else o.workspace.on_cpu(threads)) for o in self.occupied
        ]
        peaks: dict[str, int] = {}
        for span in self.spans:
            peaks[span.path] = max(peaks.get(span.path, 0), span.alive, *taken[span.first : span.end])
        return peaks


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0
