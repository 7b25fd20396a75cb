"""Where the tensors of a pass lie on several devices, and what was found of its operators. Needs no torch beyond what it is given."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from profiling.parallel import Parts, Sharding
from profiling.passes import Trace
from profiling.products import numel
from profiling.recording import Shaped


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a tensor lies. ``split``: ``parts`` as of a sharding, of ``rows`` rows. ``routed``: rows sorted by expert.

    ``partial``: ``maker`` is the call after which it is added up; ``experts``: it is what experts made of each token, and nothing else.
    """

    kind: str
    parts: Parts = ()
    rows: int = 0
    routed: bool = False
    maker: int = -1
    experts: bool = False


WHOLE, WEIGHT, CACHE = Layout("whole"), Layout("weight"), Layout("cache")


@dataclass
class Marks:
    """What was found of a pass, by number of call: ``shardings``, ``collectives`` (with the payload in bytes), absent for the rest.

    ``layouts``: of every storage at the end. ``weights``: (module path, elements) of each weight → how it is divided.
    """

    shardings: dict[int, Sharding] = field(default_factory=dict)
    collectives: dict[int, tuple[str, int]] = field(default_factory=dict)
    layouts: dict[int, Layout] = field(default_factory=dict)
    weights: dict[tuple[str, int], Sharding] = field(default_factory=dict)


def units_of(tensor: Shaped, layout: Layout) -> int:
    """Units of a split tensor; of a product that makes several, those that its shape shows."""
    counts = [units for units, _ in layout.parts]
    shown = [units for units in counts if units in tensor.shape[1:-1]]
    return max(shown or counts)


def cache_units(tensor: Shaped, known: Collection[int]) -> int:
    """Heads of cached keys and values, channels of a state: as many as what is computed with it has, or the dimension after the sequences."""
    shown = [units for units in tensor.shape[1:-1] if units in known]
    if shown:
        return max(shown)
    return tensor.shape[1] if len(tensor.shape) > 2 else math.prod(tensor.shape[1:]) or 1


def elements_of(weight: Shaped) -> int:
    """Distinct elements: a matrix that is read once for each sequence is one matrix."""
    return weight.nbytes // weight.itemsize


def by_head(weight: Shaped, layout: Layout) -> bool:
    """A stack of matrices, or numbers that are read alike wherever they are added, one for each unit of a split tensor."""
    counts = {units for units, _ in layout.parts if units > 1}
    if len(weight.shape) == 3 and weight.nbytes == numel(weight) * weight.itemsize:
        return weight.shape[0] in counts
    return elements_of(weight) in counts and elements_of(weight) in weight.shape[:-1]


def cached(trace: Trace, marks: Marks) -> Iterable[tuple[Shaped, Layout]]:
    """The tensors of the cache that a pass wrote or read, each once, with their layouts."""
    found = {
        t.uid: t for call in trace.calls for t in (*call.inputs, *call.outputs) if t.uid in trace.recording.cache_uids
    }
    return [(t, marks.layouts.get(uid, CACHE)) for uid, t in found.items()]
