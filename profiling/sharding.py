"""Which operators of a pass several devices divide, and what they then have to send each other. Needs no torch beyond what it is given.

Every tensor lies on the devices in one of a few ways: ``whole`` on each; ``split`` by heads, channels or columns; ``partial``, each
device with a summand; or it is (or stems from) a ``weight`` or the ``cache``, which lie as their readers need them. A pass is followed
operator by operator (as Megatron-LM divides a transformer, arXiv 1909.08053, but from the data flow, not from names):

* a product of a whole input with weights is computed by columns, its output split, or in full (:meth:`Structure.divides_columns`);
* a product of a split input is computed by rows, its output partial;
* partial tensors are added, scaled and copied as they are; whatever else reads them, an all-reduce comes first, right after the
  operator that made them;
* a reduction over all features of a split input sends its statistics; anything else with a split input is divided.

The table of tokens and the LM head are divided by vocabulary: an all-reduce follows the first, an all-gather of the logits the second.
Rows of experts are sent to the devices that have them and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from profiling import mla
from profiling.build import Built
from profiling.execution import Work
from profiling.layouts import CACHE, WEIGHT, WHOLE, Layout, Marks, by_head, cache_units, elements_of, units_of
from profiling.parallel import Parts, Sharding
from profiling.passes import Trace
from profiling.products import GATHERS, Block, Product, Structure, is_float, numel, rows_reduced
from profiling.recording import Call, Shaped

#: Keep a sum a sum: f(a) + f(b) = f(a + b).
_LINEAR = ("add", "sub", "_to_copy", "clone", "sum", "cat")
_SCALES = ("mul", "div")
_INTO = ("copy", "index_add", "scatter_add")
#: Add up what several experts made of a token.
_COMBINES = ("index_add", "scatter_add", "scatter_reduce", "sum")
#: Of a softmax over split features: its maximum and its sum in fp32; of a layer norm, mean and variance.
_STATISTICS_BYTES = 8


def mark_sharding(works: Sequence[Work], trace: Trace, built: Built, form: str = "executed") -> list[Work]:
    """``works`` of ``trace`` with ``sharding``, ``collective`` and its payload (``network``) set; nothing is divided yet.

    ``form``: the form of latent attention that ``works`` count (:class:`profiling.spec.Counting`).
    """
    return marked_by(find_marks(trace, built, form), works)


def marked_by(marks: Marks, works: Sequence[Work]) -> list[Work]:
    """``works`` with what ``marks`` found of their pass."""
    return [
        replace(
            work, sharding=marks.shardings[i].text() if i in marks.shardings else "", collective=name, network=payload
        )
        for i, work in enumerate(works)
        for name, payload in (marks.collectives.get(i, ("", 0)),)
    ]


def find_marks(trace: Trace, built: Built, form: str = "executed") -> Marks:
    """How the operators of a pass are divided, and every storage of it."""
    if trace.spec.front_end:
        return Marks()  # small beside the language model: whole on every device
    marks = _Marker(trace, built).marks
    for latent in mla.latents(trace.recording) if form == "expanded" else ():
        _mark_expanded(marks, latent, trace)
    return marks


def _mark_expanded(marks: Marks, latent: mla.Latent, trace: Trace) -> None:
    """Expanded keys and values are cached by head; a latent, which every head needs, is whole on each device."""
    units: Parts = ((latent.heads, 1),)
    kept = [index for index in (latent.latent_kept, latent.position_kept) if index is not None]
    for index in (*latent.attend, *latent.keys_made, *kept):
        how = marks.shardings.get(index, Sharding("divided"))
        marks.shardings[index] = replace(how, parts={**how.parts, "c": units})
    for index in kept:
        marks.layouts.update((t.uid, Layout("split", units)) for t in trace.calls[index].outputs)


class _Marker:
    def __init__(self, trace: Trace, built: Built) -> None:
        self.marks = Marks()
        self._recording = trace.recording
        self._structure = Structure(trace, built)
        self._layouts = self.marks.layouts
        self._vocabulary = 0
        for call, block in zip(trace.calls, self._structure.block_of, strict=True):
            self._mark(call, block)
        self._settle_rest(trace)
        self._divide_weights(trace.calls)
        self._mark_transfers(trace, built)

    # -- layouts -----------------------------------------------------------------------------------------------------

    def _layout(self, tensor: Shaped, block: Block | None) -> Layout:
        known = self._layouts.get(tensor.uid)
        if known is not None:
            if known.kind == "partial" and self._structure.block_of[known.maker] != block:
                return self._settle(tensor.uid)
            return known
        if tensor.source == "cache" or tensor.uid in self._recording.cache_uids:
            return CACHE
        return WEIGHT if tensor.source in ("weight", "buffer") else WHOLE

    def _settle(self, uid: int) -> Layout:
        """Add up a partial tensor after the call that made it; it is whole from then on."""
        layout = self._layouts[uid]
        if layout.maker not in self.marks.collectives:
            call = self._structure.calls[layout.maker]
            name = "expert_reduce" if layout.experts else "all_reduce"
            self.marks.collectives[layout.maker] = (name, sum(t.nbytes for t in call.outputs if t.uid == uid))
        self._layouts[uid] = replace(WHOLE, routed=layout.routed)
        return self._layouts[uid]

    def _write(self, call: Call, layout: Layout) -> None:
        for out in call.outputs:
            known = self._layouts.get(out.uid)
            partly = call.op_class in ("copy", "gather") and call.facts.get("in_place")
            if partly and known is not None and known.kind == "split" and layout.kind in ("whole", "weight"):
                continue  # one half of a tensor was split already (a key whose position all heads share)
            self._layouts[out.uid] = layout

    # -- one call ----------------------------------------------------------------------------------------------------

    def _mark(self, call: Call, block: Block | None) -> None:
        structure = self._structure
        product = structure.products.get(call.index)
        inputs = [t for t in call.inputs if t.nbytes]
        layouts = [self._layout(t, block) for t in inputs]
        if all(layout.kind == "weight" for layout in layouts) and layouts:
            self._write(call, WEIGHT)
        elif call.name in GATHERS and layouts and layouts[0].kind == "weight":
            self._gather_rows(call, block)
        elif product is not None:
            self._multiply(call, product, self._settled(inputs, layouts), inputs)
        elif any(layout.kind == "partial" for layout in layouts) and self._stays_partial(call, inputs, layouts):
            self._carry_partial(call, inputs, layouts)
        else:
            layouts = self._settled(inputs, layouts)
            if any(layout.kind == "split" for layout in layouts):
                self._divide(call, inputs, layouts)
            else:
                self._leave_whole(call, layouts)

    def _settled(self, inputs: list[Shaped], layouts: list[Layout]) -> list[Layout]:
        return [
            self._settle(t.uid) if layout.kind == "partial" else layout
            for t, layout in zip(inputs, layouts, strict=True)
        ]

    def _gather_rows(self, call: Call, block: Block | None) -> None:
        """Rows of a table of weights: of tokens, divided by vocabulary; of anything else, as its readers need them."""
        table = call.inputs[0]
        of_tokens = any(t.source == "input" for t in call.inputs[1:])
        if block is None and call.name == "embedding" and of_tokens and table.source == "weight":
            self._vocabulary = max(self._vocabulary, table.shape[0])
            parts = ((table.shape[0], table.shape[1]),)
            self._set(call, Sharding("vocabulary", {"w": parts}), {table.uid: parts})
            self._write(call, Layout("partial", maker=call.index))
        elif block is None:
            self._write(call, WHOLE)
        else:
            self._write(call, WEIGHT)

    def _multiply(self, call: Call, product: Product, layouts: list[Layout], inputs: list[Shaped]) -> None:
        data, weight = call.inputs[product.data], call.inputs[product.weight]
        layout = next((a for t, a in zip(inputs, layouts, strict=True) if t is data), WHOLE)
        experts = weight.shape[0] if call.op_class == "experts" else 0
        routed = bool(experts) or layout.routed
        if layout.kind == "split":
            if by_head(weight, layout):
                self._divide(call, inputs, layouts)
                return
            self._by_rows(call, product, layout.parts, experts, routed)
        elif product.block is None:
            self._head(call, product)
        elif self._structure.divides_columns(call.index) or experts:
            parts = self._structure.parts(call.index)
            if sum(units for units, _ in parts) == len(parts) and not experts:  # one head: nothing to divide
                self._write(call, WHOLE)
                return
            self._by_columns(call, product, parts, experts, routed)
            self._write(call, Layout("split", parts, product.rows, routed))
        else:
            self._write(call, replace(WHOLE, routed=routed))

    def _by_columns(self, call: Call, product: Product, parts: Parts, experts: int, routed: bool) -> None:
        channels = dict.fromkeys("fewo", parts) | self._cache_parts(call)
        self._set(call, Sharding("column", channels, routed, experts), {t.uid: parts for t in self._weights(call)})
        if experts and call.index:
            self._dispatch(call, product)

    def _by_rows(self, call: Call, product: Product, parts: Parts, experts: int, routed: bool) -> None:
        """Its bias is every device's: it is added once, after the sum."""
        weight = call.inputs[product.weight]
        bias = [t for t in self._weights(call) if t.uid != weight.uid]
        units = max(count for count, _ in parts)
        elements = elements_of(weight) // (experts or 1)
        own: Parts = ((units, elements // units),) if elements % units == 0 else ((units, 1),)
        whole = sum(elements_of(t) for t in bias)
        of_weights = (*own, (1, whole)) if whole and elements % units == 0 else own
        channels = {"f": ((units, 1),), "w": of_weights, "a": ((units, 1),)}
        self._set(call, Sharding("row", channels, routed, experts), {weight.uid: own})
        if experts:
            self.marks.collectives[call.index] = ("combine", sum(t.nbytes for t in call.outputs))
        self._write(call, Layout("partial", maker=call.index, routed=routed))

    def _dispatch(self, call: Call, product: Product) -> None:
        """The rows of the experts: after the gather that lays them out, where there is one."""
        rows = call.inputs[product.data]
        for index in sorted(self._structure.dispatches, reverse=True):
            made = self._structure.calls[index]
            if index < call.index and made.outputs[0].uid == rows.uid:
                self.marks.shardings.setdefault(index, Sharding("divided", {}, routed=True))
                self.marks.collectives.setdefault(index, ("dispatch", sum(t.nbytes for t in made.outputs)))
                self._layouts[rows.uid] = replace(self._layouts.get(rows.uid, WHOLE), routed=True)
                return

    def _head(self, call: Call, product: Product) -> None:
        """Outside of the blocks only a product with as many columns as the vocabulary has tokens is divided."""
        if not self._vocabulary or product.features < 0.9 * self._vocabulary:
            self._write(call, WHOLE)
            return
        parts = ((product.features, 1),)
        self._set(
            call,
            Sharding("column", dict.fromkeys("fewo", parts)),
            {t.uid: ((product.features, elements_of(t) // product.features),) for t in self._weights(call)},
        )
        self.marks.collectives[call.index] = ("all_gather", sum(t.nbytes for t in call.outputs))
        self._write(call, WHOLE)

    def _stays_partial(self, call: Call, inputs: list[Shaped], layouts: list[Layout]) -> bool:
        """Is ``call`` linear in what is partial, and is nothing else added to it?"""
        pairs = [(t, layout) for t, layout in zip(inputs, layouts, strict=True) if is_float(t)]
        kinds = [layout.kind for _, layout in pairs]
        if "split" in kinds or "cache" in kinds:
            return False
        if call.name in _SCALES:
            return kinds.count("partial") == 1 and (call.name == "mul" or kinds[0] == "partial")
        if call.name in _INTO:  # what was there before are zeros
            return kinds[-1] == "partial"
        if call.name in GATHERS:
            return kinds[0] == "partial"
        # A summand that is whole (the residual stream) must be added once, not by each device.
        return call.name in _LINEAR and all(kind in ("partial", "weight") for kind in kinds)

    def _carry_partial(self, call: Call, inputs: list[Shaped], layouts: list[Layout]) -> None:
        partial = [layout for layout in layouts if layout.kind == "partial"]
        routed = any(layout.routed for layout in partial)
        experts = all(layout.experts for layout in partial)
        combined = routed and call.name in _COMBINES
        if routed:
            self.marks.shardings[call.index] = Sharding("divided", {}, routed=True)
        self._write(
            call,
            Layout("partial", maker=call.index, routed=routed and not combined, experts=experts or combined),
        )

    def _leave_whole(self, call: Call, layouts: list[Layout]) -> None:
        """Read and computed by every device. What only the cache went into (a part of it cut out) lies as the cache does."""
        kinds = {layout.kind for layout in layouts}
        routed = any(layout.routed for layout in layouts)
        if routed:
            self.marks.shardings[call.index] = Sharding("divided", {}, routed=True)
        combined = routed and call.name in _COMBINES
        self._write(call, CACHE if kinds == {"cache"} else replace(WHOLE, routed=routed and not combined))

    def _divide(self, call: Call, inputs: list[Shaped], layouts: list[Layout]) -> None:
        split = [(t, layout) for t, layout in zip(inputs, layouts, strict=True) if layout.kind == "split"]
        rows = max(layout.rows for _, layout in split)
        routed = any(layout.routed for _, layout in split)
        chosen = split[:1] if call.op_class == "attention" and split[0][0] is call.inputs[0] else split
        units = max((units_of(t, layout) for t, layout in chosen), default=1)
        parts: Parts = ((units, 1),)
        groups = rows_reduced(call)
        collapsed = groups is not None and 0 < groups <= rows and not routed
        statistics = collapsed and all(numel(t) <= groups for t in call.outputs if groups)
        channels = {"f": parts, "e": parts, "a": parts}
        if not statistics:
            channels["o"] = parts
        channels |= self._cache_parts(call) if any(self._is_cache(t) for t in (*call.inputs, *call.outputs)) else {}
        features = max(numel(t) // max(layout.rows, 1) for t, layout in split)
        own = {
            t.uid: ((units, elements_of(t) // units),)
            for t in self._weights(call)
            if (elements_of(t) >= features or by_head(t, split[0][1])) and elements_of(t) % units == 0
        }
        if own:
            channels["w"] = parts
        self._set(call, Sharding("divided", channels, routed), own)
        for t, layout in zip(inputs, layouts, strict=True):
            if layout.kind == "cache":
                known = {count for _, other in split for count, _ in other.parts}
                self._layouts[t.uid] = Layout("split", ((cache_units(t, known), 1),), 0)
        if collapsed and groups:
            payload = sum(t.nbytes for t in call.outputs) if statistics else groups * _STATISTICS_BYTES
            self.marks.collectives[call.index] = ("all_reduce", payload)
        self._write(call, WHOLE if statistics else Layout("split", parts, rows, routed))

    # -- what a call reads ---------------------------------------------------------------------------------------------

    def _set(self, call: Call, how: Sharding, weights: Mapping[int, Parts]) -> None:
        self.marks.shardings[call.index] = how
        for t in self._weights(call):
            if t.uid in weights:
                self.marks.weights[call.path, elements_of(t)] = replace(how, parts={"w": weights[t.uid]})

    def _weights(self, call: Call) -> list[Shaped]:
        return [t for t in call.inputs if t.source == "weight"]

    def _is_cache(self, tensor: Shaped) -> bool:
        return tensor.source == "cache" or tensor.uid in self._recording.cache_uids

    def _cache_parts(self, call: Call) -> dict[str, Parts]:
        """Keys and values lie by their own heads, states by their channels."""
        known = {units for t in call.inputs for units, _ in self._layouts.get(t.uid, WHOLE).parts}
        counts = []
        for t in (*call.inputs, *call.outputs):
            layout = self._layouts.get(t.uid, CACHE)
            if self._is_cache(t) and t.nbytes and layout.kind in ("split", "cache"):
                counts.append(units_of(t, layout) if layout.parts else cache_units(t, known))
        return {"c": ((max(counts), 1),)} if counts else {}

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _settle_rest(self, trace: Trace) -> None:
        for uid, layout in list(self._layouts.items()):
            if layout.kind == "partial" and uid in trace.recording.result_uids:
                self._settle(uid)

    def _divide_weights(self, calls: Sequence[Call]) -> None:
        """Work on weights alone (a state matrix in another format, biases of chosen experts) is divided as all that reads it is."""
        readers: dict[int, list[int]] = {}
        for call in reversed(calls):
            outputs = [t.uid for t in call.outputs]
            if outputs and all(self._layouts.get(uid, WHOLE).kind == "weight" for uid in outputs):
                found = [self.marks.shardings.get(i) for uid in outputs for i in readers.get(uid, ())]
                shared = [how for how in found if how is not None and (how.routed or how.parts.get("f"))]
                if shared and len(shared) == len(found):
                    self._divide_like(call, shared[0])
            for t in call.inputs:
                readers.setdefault(t.uid, []).append(call.index)

    def _divide_like(self, call: Call, reader: Sharding) -> None:
        weights = self._weights(call)
        units = max((count for count, _ in reader.parts.get("f", ())), default=1)
        if any(elements_of(t) % units for t in weights):
            return
        experts = weights[0].shape[0] if weights and reader.routed and call.name in GATHERS else 0
        parts: dict[str, Parts] = dict.fromkeys("fewao", ((units, 1),)) if units > 1 else {}
        self._set(
            call,
            Sharding("divided", parts, reader.routed, experts),
            {t.uid: ((units, elements_of(t) // units),) for t in weights},
        )

    def _mark_transfers(self, trace: Trace, built: Built) -> None:
        """The output of each block goes to the next pipeline stage where that begins with the next block."""
        last: dict[int, int] = {}
        first: dict[Block, list[int]] = {}
        for call, block in zip(trace.calls, self._structure.block_of, strict=True):
            last.update((t.uid, call.index) for t in call.outputs)
            if block is not None:
                first.setdefault(block, []).append(call.index)
        for fold in built.folds:
            for index in range(fold.kept):
                output = trace.outputs().get(f"{fold.path}.{index}")
                if output is None or output.uid is None or not output.nbytes:
                    continue
                candidates = [last.get(output.uid, -1), *first.get((fold.path, index), ())]
                free = next((i for i in candidates if i >= 0 and i not in self.marks.collectives), None)
                if free is not None:
                    self.marks.collectives[free] = ("p2p", output.nbytes)
