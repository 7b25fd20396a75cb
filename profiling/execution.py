"""Execution models: which of an operator's tensors really travel to and from memory. Pure functions over a trace.

``eager``: each operator is a kernel that reads its inputs from memory and writes its outputs to it, as PyTorch does without
compilation. ``fused``: an element-wise operator or a copy rides along with whatever produced its input, so what lies between
the two never leaves the chip; a growing cache is appended to in place; attention skips what its window masks; a state-space
scan is one kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from profiling.operators import experts_touched
from profiling.passes import Trace
from profiling.recording import Call
from profiling.roofline import Load

_RIDES_ALONG = ("elementwise", "copy", "reduction")
_CAN_CARRY = ("matmul", "elementwise", "copy", "reduction", "attention", "experts", "convolution", "scan", "gather")


@dataclass(frozen=True, slots=True)
class Work:
    """One operator under an execution model, with the number of times the complete model executes it."""

    call: Call
    times: int
    flops: int
    elementwise_flops: int
    bytes_read: int
    bytes_written: int
    weight_bytes: int

    @property
    def bytes_moved(self) -> int:
        return self.bytes_read + self.bytes_written

    def load(self) -> Load:
        call = self.call
        rows = 0
        if call.op_class in ("matmul", "experts"):
            product = call.inputs[-2] if call.name in ("addmm", "baddbmm") else call.inputs[0]
            rows = product.shape[-2] if len(product.shape) > 1 else 1
            if call.op_class == "experts" and rows and call.facts.get("tokens"):
                tokens = call.facts["tokens"]
                # Rows of one expert: its weights are streamed for those alone.
                rows = math.ceil(rows / experts_touched(call.inputs[1].shape[0], rows / tokens, tokens))
        elif call.op_class == "attention":
            rows = call.facts.get("queries", 0)
        return Load(call.op_class, self.flops, self.elementwise_flops, self.bytes_moved, rows)


def works(trace: Trace, execution: str) -> list[Work]:
    """Every operator of a trace as ``execution`` runs it."""
    if execution == "fused":
        return _fused(trace)
    return [
        Work(
            call,
            times,
            call.flops,
            call.elementwise_flops,
            call.bytes_read + call.hidden_bytes,
            call.bytes_written,
            call.weight_bytes,
        )
        for call, times in zip(trace.calls, trace.times, strict=True)
    ]


def _fused(trace: Trace) -> list[Work]:
    skipped_reads, skipped_writes = _on_chip(trace)
    result = []
    for call, times in zip(trace.calls, trace.times, strict=True):
        share = _window_share(call)
        appended = _cache_append(trace, call)
        read = sum(
            b
            for i, (_, b, source) in enumerate(call.reads)
            if (call.index, i) not in skipped_reads and not (appended and source == "cache")
        )
        written = sum(b for i, (_, b) in enumerate(call.writes) if (call.index, i) not in skipped_writes)
        if appended:
            written = sum(b for _, b, source in call.reads if source != "cache")
        result.append(
            Work(
                call,
                times,
                round(call.flops * share),
                round(call.elementwise_flops * share),
                read,
                written,
                call.weight_bytes,
            )
        )
    return result


def _window_share(call: Call) -> float:
    """Part of the query-key pairs that a kernel which knows the window visits: each query at most ``window`` keys."""
    window = call.facts.get("window")
    keys = call.facts.get("keys", 0)
    if call.op_class != "attention" or not window or keys <= window:
        return 1.0
    return window / keys


def _cache_append(trace: Trace, call: Call) -> bool:
    """Does this call copy the old cache and the new token into a new cache? Serving engines write the new token only."""
    return (
        call.name == "cat"
        and any(source == "cache" for _, _, source in call.reads)
        and all(uid in trace.recording.cache_uids for uid, _ in call.writes)
    )


def _on_chip(trace: Trace) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Reads (call, input) and writes (call, output) that stay on chip when element-wise operators ride along."""
    producer: dict[int, tuple[Call, int]] = {}
    readers: dict[tuple[int, int], list[bool]] = {}
    skipped_reads: set[tuple[int, int]] = set()
    keep = trace.recording.cache_uids | trace.recording.result_uids
    for call in trace.calls:
        for position, (uid, nbytes, source) in enumerate(call.reads):
            made = producer.get(uid)
            if made is None or source != "activation" or not nbytes:
                continue
            rides = call.op_class in _RIDES_ALONG and made[0].op_class in _CAN_CARRY and not _cache_append(trace, call)
            readers.setdefault((made[0].index, made[1]), []).append(rides)
            if rides:
                skipped_reads.add((call.index, position))
        for position, (uid, _) in enumerate(call.writes):
            producer[uid] = (call, position)
    skipped_writes = {key for key, rides in readers.items() if all(rides)}
    skipped_writes = {
        (index, position) for index, position in skipped_writes if trace.calls[index].writes[position][0] not in keep
    }
    return skipped_reads, skipped_writes
