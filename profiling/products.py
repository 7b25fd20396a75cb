"""The weighted products of a traced pass, and what follows each until the next: the structure that decides how devices share them.

Read from the data flow alone. In a block that repeats, values start from what came into the block (the residual stream), go
through products with weights, and return to the stream where they are added to it. Needs no torch beyond what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from profiling.build import Built, block_index
from profiling.passes import Trace
from profiling.recording import Call, Shaped

#: Choose among features: who needs the choice needs all of them.
_SELECTS = ("topk", "sort", "argsort", "argmax", "argmin", "max", "min", "kthvalue")
_ALONG_LAST = (*_SELECTS, "_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax")
_NORMS = ("native_layer_norm", "_fused_rms_norm", "rms_norm", "native_group_norm")
GATHERS = ("embedding", "index", "_unsafe_index", "index_select", "gather", "take")

Block = tuple[str, int]


@dataclass(slots=True)
class Product:
    """A product of activations with weights: call number ``index``.

    ``data``, ``weight``: positions of its inputs. ``features``: outputs per row of the ``rows``. ``next``: products that its output
    reaches with none between, each with whether a reduction over all its features lies on the way. ``selected``: it decides a
    choice. ``returns``: it reaches the residual stream or leaves the block. ``queries``, ``keys``: (heads, size of one) of the
    attention whose queries, or whose keys and values, it makes; sizes of keys and values added up.
    """

    index: int
    data: int
    weight: int
    features: int
    rows: int
    block: Block | None
    next: set[tuple[int, bool]] = field(default_factory=set)
    selected: bool = False
    returns: bool = False
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None
    cached_heads: int | None = None


Labels = frozenset[tuple[int, bool]]
_NONE: Labels = frozenset()


def numel(tensor: Shaped) -> int:
    return math.prod(tensor.shape)


def is_float(tensor: Shaped) -> bool:
    return tensor.dtype.startswith(("float", "bfloat", "complex"))


def rows_reduced(call: Call) -> int | None:
    """Into how many groups ``call`` reduces the last dimension of its input, or None where it does not."""
    if call.op_class != "reduction" or not call.inputs or not call.outputs:
        return None
    source, out = call.inputs[0], call.outputs[0]
    if not source.shape or not source.shape[-1]:
        return None
    if call.name in _NORMS:
        return (
            numel(call.outputs[1])
            if len(call.outputs) > 1 and numel(call.outputs[1])
            else numel(source) // source.shape[-1]
        )
    if call.name in ("max", "min") and len(call.outputs) == 1 and not out.shape:
        return None
    if call.name in _ALONG_LAST and (out.shape[:-1] == source.shape[:-1] or out.shape == source.shape[:-1]):
        return numel(source) // source.shape[-1]
    return numel(out) if out.shape in (source.shape[:-1], (*source.shape[:-1], 1)) else None


class Structure:
    """Products by call number, and which storages stem from weights alone. ``block_of``: of each call, or None outside."""

    def __init__(self, trace: Trace, built: Built) -> None:
        self.calls = trace.calls
        self.products: dict[int, Product] = {}
        self.weights: set[int] = set()
        self.dispatches: set[int] = set()
        self._cache = trace.recording.cache_uids
        self._labels: dict[int, Labels] = {}
        self._origin: dict[int, Block | None] = {}  # storage → block that wrote it last
        self._makers: dict[int, Call] = {}
        places: dict[str, Block | None] = {}
        self.block_of = [places.setdefault(c.path, _block(built, c.path)) for c in self.calls]
        self._streams = _streams(trace, built)
        for call, block in zip(self.calls, self.block_of, strict=True):
            self._follow(call, block)

    # -- one call ----------------------------------------------------------------------------------------------------

    def _follow(self, call: Call, block: Block | None) -> None:
        if self._stems_from_weights(call, block):
            self.weights.update(t.uid for t in call.outputs)
            return
        data = [t for t in call.inputs if t.nbytes and is_float(t) and not self.is_weight(t)]
        labels = [self._arriving(t, block) for t in data]
        product = self._product(call, block)
        if product is not None:
            self.products[call.index] = product
            self._connect(frozenset().union(*labels), call.index)
            made: Labels = frozenset({(call.index, False)}) if block else _NONE
            if call.op_class == "experts":
                self._note_dispatch(call.inputs[product.data])
        elif self._returns_to_stream(call, block, data, labels):
            self._end(frozenset().union(*labels))
            made = _NONE
        else:
            made = self._through(call, frozenset().union(*self._carried(call, data, labels)))
            self._note_heads(call)
        for out in call.outputs:
            known = self._labels.get(out.uid, _NONE) if self._origin.get(out.uid) == block else _NONE
            partly = call.facts.get("in_place") and call.op_class in ("copy", "gather")
            self._labels[out.uid] = made | known if partly else made
            self._origin[out.uid] = block
            self._makers[out.uid] = call
            if out.uid in self._cache and len(out.shape) == 4:
                for index, _ in made:
                    self.products[index].cached_heads = out.shape[1]

    def is_weight(self, tensor: Shaped) -> bool:
        """A parameter, or made of parameters alone."""
        return tensor.source in ("weight", "buffer") or tensor.uid in self.weights

    def _stems_from_weights(self, call: Call, block: Block | None) -> bool:
        """Also rows of a table of weights inside a block: biases of the chosen experts, positions relative to each other."""
        if not any(t.source == "weight" or t.uid in self.weights for t in call.inputs):
            return False
        if call.name in GATHERS:
            return block is not None and self.is_weight(call.inputs[0])
        return all(self.is_weight(t) for t in call.inputs)

    def _arriving(self, tensor: Shaped, block: Block | None) -> Labels:
        """What flows in with a tensor: what another block (or none) made belongs to the stream."""
        labels = self._labels.get(tensor.uid, _NONE)
        if labels and self._origin.get(tensor.uid) != block:
            self._end(labels)
            return _NONE
        return labels

    def _product(self, call: Call, block: Block | None) -> Product | None:
        if call.op_class not in ("matmul", "experts", "convolution") or len(call.inputs) < 2 or not call.outputs:
            return None
        if call.op_class == "convolution":
            source, kernel = call.inputs[:2]
            channels = source.shape[-len(kernel.shape) + 1] if len(source.shape) >= len(kernel.shape) else 0
            if not self.is_weight(kernel) or channels != kernel.shape[1]:
                return None  # of groups of channels: each stays with its own
            return Product(call.index, 0, 1, kernel.shape[0], numel(call.outputs[0]) // kernel.shape[0], block)
        first = len(call.inputs) - 2 if call.name in ("addmm", "baddbmm") else 0
        left, right = call.inputs[first], call.inputs[first + 1]
        if len(left.shape) < 2 or len(right.shape) < 2 or self.is_weight(left) == self.is_weight(right):
            return None
        if self.is_weight(right):
            data, weight, features = first, first + 1, right.shape[-1]
        else:
            data, weight, features = first + 1, first, left.shape[-2]
        return Product(call.index, data, weight, features, numel(call.outputs[0]) // max(features, 1), block)

    def _connect(self, labels: Labels, target: int) -> None:
        for index, collapsed in labels:
            self.products[index].next.add((target, collapsed))

    def _end(self, labels: Labels) -> None:
        for index, _ in labels:
            self.products[index].returns = True

    def _returns_to_stream(self, call: Call, block: Block | None, data: list[Shaped], labels: list[Labels]) -> bool:
        """x + f(x): an addition to a tensor of the residual stream's shape that no product of the block has made."""
        if block is None or call.name != "add" or len(data) != 2 or bool(labels[0]) == bool(labels[1]):
            return False
        wanted = self._streams.get(block)
        return wanted is not None and all((numel(t), t.shape[-1:]) == wanted for t in (*data, call.outputs[0]))

    def _carried(self, call: Call, data: list[Shaped], labels: list[Labels]) -> list[Labels]:
        """Whose values are in the output: an index only says where."""
        return labels[:1] if call.name in GATHERS and data and call.inputs[0] is data[0] else labels

    def _through(self, call: Call, labels: Labels) -> Labels:
        """The labels behind a call, and what the call says of their products."""
        groups = rows_reduced(call)
        if groups is None or not labels:
            return labels
        made = set()
        for index, collapsed in labels:
            product = self.products[index]
            whole = groups <= product.rows
            if whole and call.name in _SELECTS:
                product.selected = True
                continue
            made.add((index, collapsed or whole))
        return frozenset(made)

    def _note_dispatch(self, rows: Shaped) -> None:
        """The gather that lays out the rows of each expert."""
        maker = self._makers.get(rows.uid)
        if maker is not None and maker.name in GATHERS:
            self.dispatches.add(maker.index)

    def _note_heads(self, call: Call) -> None:
        """Whose outputs an attention takes as queries, keys and values, and in how many heads."""
        if call.op_class == "attention" and len(call.inputs[0].shape) == 4 and len(call.inputs[1].shape) == 4:
            query, key, value = call.inputs[:3]
            for index in self._makers_of(query):
                self.products[index].queries = (query.shape[1], query.shape[-1])
            for index in (*self._makers_of(key), *self._makers_of(value)):
                self.products[index].keys = (key.shape[1], key.shape[-1] + value.shape[-1])
        elif call.name == "_softmax" and len(call.inputs[0].shape) == 4:
            for index in self._makers_of(call.inputs[0]):
                product = self.products[index]
                if product.cached_heads is None:
                    product.queries = (call.inputs[0].shape[1], 0)

    def _makers_of(self, tensor: Shaped) -> Iterable[int]:
        return [index for index, _ in self._labels.get(tensor.uid, _NONE)]

    # -- what follows ------------------------------------------------------------------------------------------------

    def last(self, index: int) -> bool:
        """Does nothing but the way back to the residual stream follow the product?"""
        return not self.products[index].next

    def divides_columns(self, index: int) -> bool:
        """Whether a product whose input every device has is computed by output columns, each device its own.

        Not where its output decides a choice, goes back to the stream directly, or is normalised as a whole before a product that
        makes more of it (a low-rank bottleneck): those take all columns.
        """
        product = self.products[index]
        if product.block is None or product.selected or not product.next:
            return False
        return not any(collapsed and not self.last(target) for target, collapsed in product.next)

    def parts(self, index: int) -> tuple[tuple[int, int], ...]:
        """The output columns of a product as ((units, columns each), …): heads, which stay in one piece, or single columns."""
        product = self.products[index]
        total = product.features
        heads = product.queries[0] if product.queries else 0
        kv = product.cached_heads or (product.keys[0] if product.keys else 0)
        if heads and kv and product.queries and product.keys:
            own = total - heads * product.queries[1]
            if own > 0 and own == kv * product.keys[1]:
                return (heads, product.queries[1]), (kv, product.keys[1])
        if not heads and kv:
            heads = kv
        return ((heads, total // heads),) if heads and total % heads == 0 else ((total, 1),)


def _block(built: Built, path: str) -> Block | None:
    for fold in built.folds:
        index = block_index(fold, path)
        if index is not None:
            return fold.path, index
    return None


def _streams(trace: Trace, built: Built) -> dict[Block, tuple[int, tuple[int, ...]]]:
    """Of each traced block: number of elements and last dimension of what it returns."""
    found = {}
    for fold in built.folds:
        for index in range(fold.kept):
            output = trace.outputs().get(f"{fold.path}.{index}")
            if output is not None and output.shape:
                found[fold.path, index] = (math.prod(output.shape), output.shape[-1:])
    return found
