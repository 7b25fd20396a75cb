"""What one device of a pipeline stage holds of a model's weights, cache and activations. Needs no torch beyond what it is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from profiling.build import Built, Fold, block_index
from profiling.layouts import Marks, cached
from profiling.parallel import Parts, Plan, Sharding, largest_share
from profiling.passes import Trace


def block_of(built: Built, path: str) -> tuple[str, int] | None:
    """(path of the list of blocks, number in it) of the block in which ``path`` lies."""
    for fold in built.folds:
        index = block_index(fold, path)
        if index is not None:
            return fold.path, index
    return None


def count_layers(built: Built) -> int:
    """Blocks of the complete model, in all of its lists."""
    return sum(len(fold.kinds) for fold in built.folds) or 1


def layer_ranges(count: int, stages: int) -> list[tuple[int, int]]:
    """(first, last) layer of each pipeline stage. What is left over goes to the stages before the last, which has the LM head."""
    sizes = [count // stages] * stages
    for extra in range(count % stages):
        sizes[-2 - extra] += 1
    found, start = [], 0
    for size in sizes:
        found.append((start, start + size - 1))
        start += size
    return found


def stage_index(bounds: Sequence[tuple[int, int]], layer: int) -> int:
    """Pipeline stage of a layer."""
    return next((i for i, (first, last) in enumerate(bounds) if first <= layer <= last), len(bounds) - 1)


def stage_of(built: Built, path: str, bounds: Sequence[tuple[int, int]], after: set[str]) -> int:
    """Pipeline stage of a module of the complete model."""
    place = block_of(built, path)
    if place is not None:
        return stage_index(bounds, place[1]) if len(bounds) > 1 else 0
    return len(bounds) - 1 if path in after else 0


def own_bytes(built: Built) -> dict[str, Fraction]:
    """Bytes of the parameters that each module has itself, each tensor at the first that has it."""
    counted: dict[str, int] = defaultdict(int)
    for name, elements in built.parameter_names.items():
        counted[name.rpartition(".")[0]] += elements
    inside: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    for info in built.modules:
        if info.parent is not None:
            inside[info.parent] += info.parameters
            sizes[info.parent] += info.weight_bytes
    found = {}
    for info in built.modules:
        elements = counted.get(info.path, 0)
        own = info.parameters - inside[info.path]
        if elements and own > 0:
            found[info.path] = Fraction((info.weight_bytes - sizes[info.path]) * elements, own)
        elif elements:
            found[info.path] = Fraction(built.weight_bytes * elements, built.parameters)
    return found


class WeightShares:
    """Part of a parameter that one device holds, by module path and number of elements."""

    def __init__(self, built: Built, marks: Mapping[str, Marks], plan: Plan) -> None:
        self._built, self._plan = built, plan
        self._known: dict[tuple[str, int], Sharding] = {}
        for item in reversed(list(marks.values())):
            self._known |= item.weights
        self._outside = {n: how for (path, n), how in self._known.items() if block_of(built, path) is None}
        self._names: dict[str, list[int]] = defaultdict(list)
        for name, elements in built.parameter_names.items():
            self._names[name.rpartition(".")[0]].append(elements)

    def of_module(self, path: str) -> Fraction:
        """Of all parameters that the module at ``path`` (of the complete model) has itself."""
        sizes = self._names[path]
        return sum((n * self.of_copy(path, n) for n in sizes), Fraction(0)) / sum(sizes)

    def of_copy(self, path: str, elements: int) -> Fraction:
        how = self._found(path, elements)
        return how.share("w", self._plan) if how else Fraction(1)

    def _found(self, path: str, elements: int) -> Sharding | None:
        """What reads it says how: the module itself or one around it; experts may be read together."""
        fold = next((f for f in self._built.folds if block_index(f, path) is not None), None)
        if fold is None:
            return self._known.get((path, elements)) or self._outside.get(elements)
        place = traced_in(fold, path)
        while place.startswith(fold.path + "."):
            for key in ((place, elements), *self._stacked(place, elements)):
                if key in self._known:
                    return self._known[key]
            place = place.rpartition(".")[0]
        return None

    def _stacked(self, place: str, elements: int) -> list[tuple[str, int]]:
        return [
            (path, n)
            for (path, n), how in self._known.items()
            if path == place and how.experts and n == how.experts * elements
        ]


def traced_in(fold: Fold, path: str) -> str:
    index = block_index(fold, path)
    if index is None:
        return path
    head = f"{fold.path}.{index}"
    return f"{fold.path}.{fold.kinds[index]}{path[len(head) :]}"


def cache_shares(
    built: Built, trace: Trace, marks: Marks, plan: Plan, bounds: Sequence[tuple[int, int]], states: bool | None = None
) -> list[Fraction]:
    """Part of the cache that one device of each stage holds; of its ``states``, or (False) of keys and values."""
    wanted = trace.recording.state_uids
    place = {t.uid: call.path for call in trace.calls for t in (*call.inputs, *call.outputs)}
    blocks: dict[tuple[str, int] | None, list[tuple[int, Fraction]]] = defaultdict(list)
    for tensor, layout in cached(trace, marks):
        if states is None or (tensor.uid in wanted) == states:
            share = largest_share(layout.parts, plan.tensor) if layout.kind == "split" else Fraction(1)
            blocks[block_of(built, place[tensor.uid])].append((tensor.nbytes, share))
    whole, found = 0, [Fraction(0)] * len(bounds)
    for key, tensors in blocks.items():
        fold = next((f for f in built.folds if key and f.path == key[0]), None)
        layers = [i for i, kind in enumerate(fold.kinds) if kind == key[1]] if fold and key else [0]
        for layer in layers:
            whole += sum(nbytes for nbytes, _ in tensors)
            found[stage_index(bounds, layer)] += sum((nbytes * share for nbytes, share in tensors), Fraction(0))
    return [part / whole if whole else Fraction(1) for part in found]


def divided_profile(trace: Trace, marks: Marks, plan: Plan) -> tuple[Fraction, ...]:
    """Bytes of activations alive after each allocation on one device: each tensor at the share that the device has of it."""
    shares: dict[int, Fraction] = {}
    alive = Fraction(0)
    found = []
    for uid, nbytes, birth in trace.recording.allocations:
        if uid not in shares:
            shares[uid] = _share_of_storage(uid, trace, marks, plan)
        alive += nbytes * shares[uid]
        if birth:
            found.append(alive)
    return tuple(found)


def divided_peak(trace: Trace, marks: Marks, plan: Plan) -> Fraction:
    """Most bytes of activations alive at one moment on one device."""
    return max(divided_profile(trace, marks, plan), default=Fraction(0))


def _share_of_storage(uid: int, trace: Trace, marks: Marks, plan: Plan) -> Fraction:
    call = trace.recording.workspace_calls.get(uid)
    if call is not None:
        how = marks.shardings.get(call)
        return how.share("o" if "o" in how.parts else "f", plan) if how else Fraction(1)
    layout = marks.layouts.get(uid)
    if layout is None:
        return Fraction(1)
    parts: Parts | None = layout.parts if layout.kind == "split" else None
    if layout.routed:
        return largest_share(parts, plan.inside_expert) / plan.local
    return largest_share(parts, plan.tensor)
