"""Execution models and conventions: which of an operator's tensors travel to and from memory, and what of it is counted.

``eager``: each operator is a kernel that reads its inputs from memory and writes its outputs to it, as PyTorch does without
compilation. ``fused``: operators join into the kernels of :mod:`profiling.kernels`, so what lies inside of one never leaves the
chip; a growing cache is appended to in place; a state-space scan is one kernel. Pure functions over a trace; the other
conventions are those of :class:`profiling.spec.Counting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from profiling import mla
from profiling.demand import (
    Demand,
    Routing,
    expert_share,
    pairs_within,
    rows_of_expert,
    spread_of,
    visible_pairs,
    weights_in_product,
)
from profiling.kernels import on_chip
from profiling.passes import Trace
from profiling.recording import Call
from profiling.roofline import Ceilings, Load
from profiling.spec import Counting


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Demand):
    """One operator of a trace under an execution model, with the number of times the complete model executes it."""

    call: Call
    times: int

    def load(self) -> Load:
        return Load(
            self.op_class,
            self.flops,
            self.elementwise_flops,
            self.bytes_moved,
            self.rows,
            self.network,
            self.compute_dtype,
            weights_in_product(self.routing, self.flops, self.rows, self.routed_share) if self.inner else 0,
            self.inner,
            self.spread,
            self.quantised,
        )


def seconds_at_peak(works: Iterable[Work], limits: Ceilings) -> float:
    """Seconds that matrix products and convolutions take at the peak rates of their formats, which must be known."""
    by_format = {True: 0.0, False: 0.0}
    for work in works:
        by_format[bool(work.compute_dtype)] += work.times * work.flops
    return by_format[False] / limits.roof()[0] + by_format[True] / (limits.low_peak or limits.roof()[0])


def works(trace: Trace, counting: Counting | str) -> list[Work]:
    """Every operator of a trace under ``counting``; a name stands for the usual conventions of that execution model."""
    if isinstance(counting, str):
        counting = Counting(execution=counting)
    fused = counting.execution == "fused"
    appends = {c.index for c in trace.calls if _cache_append(trace, c)} if fused else set()
    skipped_reads: set[tuple[int, int]] = set()
    skipped_writes: set[tuple[int, int]] = set()
    if fused:
        # What leaves a block is written, after the last one as after all others: so do the kernels that add and normalise, and
        # a block can stand for others.
        outlive = trace.recording.cache_uids | trace.recording.result_uids | trace.leaving
        skipped_reads, skipped_writes = on_chip(trace.calls, outlive, appends, trace.blocks)
    kept = trace.recording.cache_uids  # what this pass adds to the cache and then reads is cache as well
    result = []
    for call, times in zip(trace.calls, trace.times, strict=True):
        weights = cache = other = cache_written = other_written = 0
        appended = call.index in appends
        for position, (uid, nbytes, source) in enumerate(call.reads):
            if source == "weight":
                weights += nbytes
            elif (call.index, position) in skipped_reads:
                continue
            elif source == "cache" or uid in kept:
                cache += 0 if appended else nbytes
            else:
                other += nbytes
        for position, (uid, nbytes) in enumerate(call.writes):
            if (call.index, position) in skipped_writes:
                continue
            if uid in kept:
                cache_written += nbytes
            else:
                other_written += nbytes
        if appended:
            cache_written = sum(b for _, b, source in call.reads if source != "cache")
        routing = _routing(call)
        if routing is not None:
            weights = round(weights * expert_share(routing, counting.experts))
        flops, elementwise = _visible(call, counting)
        result.append(
            Work(
                call=call,
                times=times,
                op_class=call.op_class,
                flops=flops,
                elementwise_flops=elementwise,
                weight_read=weights,
                cache_read=cache,
                other_read=other + (0 if fused else call.hidden_bytes),
                cache_written=cache_written,
                other_written=other_written,
                rows=rows_of(call, routing, counting.experts),
                routing=routing,
                cache_vector=_cache_vector(call, trace.recording.vectors),
                appends=call.name == "cat" and all(uid in kept for uid, _ in call.writes),
                inner=_inner(call),
                spread=spread_of(routing, counting.experts),
            )
        )
    return mla.in_form(trace, result, counting)


def _cache_vector(call: Call, vectors: Mapping[int, int]) -> int:
    """Length of the keys or values that ``call`` reads from the cache or writes to it: of those of one token in one head.

    As they are cached: a product with the keys has them transposed.
    """
    return next((vectors[t.uid] for t in (*call.inputs, *call.outputs) if t.uid in vectors), 0)


def _routing(call: Call) -> Routing | None:
    if call.op_class != "experts" or len(call.inputs) < 2 or not call.facts.get("tokens"):
        return None
    tokens = call.facts["tokens"]
    return Routing(call.inputs[1].shape[0], call.inputs[0].shape[0] / tokens, tokens)


def rows_of(call: Call, routing: Routing | None, experts: str) -> float:
    """Rows of the left matrix of a product (for experts: of one that is read under the convention ``experts``), queries of attention, else 0."""
    if call.op_class == "attention":
        return call.facts.get("queries", 0)
    if call.op_class not in ("matmul", "experts"):
        return 0
    product = call.inputs[-2] if call.name in ("addmm", "baddbmm") else call.inputs[0]
    rows = product.shape[-2] if len(product.shape) > 1 else 1
    # Rows of one expert: its weights are streamed for those alone.
    return rows_of_expert(routing, experts) if routing is not None and rows else rows


def _inner(call: Call) -> int:
    """Weights that one result of a product adds up; 0 without weights."""
    if call.op_class not in ("matmul", "experts"):
        return 0
    last = len(call.inputs) - 1
    for position, tensor in enumerate(call.inputs):
        if tensor.source == "weight" and len(tensor.shape) > 1:
            return tensor.shape[-2 if position == last else -1]  # right or left of the product
    return 0


def _visible(call: Call, counting: Counting) -> tuple[int, int]:
    """FLOPs and element-wise operations of an operator; of a fused attention kernel, those of the pairs that count."""
    if call.op_class != "attention" or not call.facts.get("queries"):
        return call.flops, call.elementwise_flops
    queries, keys, causal = call.facts["queries"], call.facts["keys"], bool(call.facts.get("causal"))
    window, chunk = (call.facts.get(name) if counting.windowed else None for name in ("window", "chunk"))
    if causal or not window:
        counted = visible_pairs(
            queries, keys, halved=causal and counting.causal == "halved", window=window, chunk=chunk
        )
    else:
        counted = pairs_within(queries, keys, window)
    pairs = queries * keys
    return call.flops * counted // pairs, call.elementwise_flops * counted // pairs


def _cache_append(trace: Trace, call: Call) -> bool:
    """Does this call copy the old cache and the new token into a new cache? Serving engines write the new token only."""
    return (
        call.name == "cat"
        and any(source == "cache" for _, _, source in call.reads)
        and all(uid in trace.recording.cache_uids for uid, _ in call.writes)
    )
