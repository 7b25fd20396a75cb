"""The different operators of a traced pass: how each is called again, how often it runs, and which of its inputs are cold.

An input is cold when so many bytes pass through the caches between its last use and this one that none of it is left there: the
weights and the key/value cache of every model larger than the last-level cache, and activations that wait long. A call is evicted
when what came before it left nothing of its other inputs in the cache that a core has for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from profiling import host
from profiling.issued import Issued, Slot
from profiling.passes import Trace
from profiling.recording import Call


class Caches(NamedTuple):
    """Bytes of the last-level cache, and of the largest one that each core has for itself (0: none, nothing is ever evicted from it)."""

    last: int
    private: int = 0


#: Where the system does not say.
_UNKNOWN = Caches(32 << 20, 1 << 20)


#: No processor has more of its last-level cache for each core: a virtual machine that names more names what it shares with its neighbours.
_LAST_OF_A_CORE = 16 << 20


def caches_of_host() -> Caches:
    """The caches that this machine can count on. A virtual machine is told the last-level cache of the whole socket (480 MiB beside two
    cores), of which it has an unknown part: models smaller than that were predicted a third too fast, as if they stayed in it."""
    found = host.detect()
    last = found["cache_bytes"] or _UNKNOWN.last
    if found["virtualised"] and last > _LAST_OF_A_CORE * (found["cores_physical"] or 1):
        last = min(last, _UNKNOWN.last)
    return Caches(last, found["cpu"]["caches"].get("L2") or _UNKNOWN.private)


#: Kinds of storages that wait a whole pass for their next use.
_LASTING = frozenset(("weight", "buffer", "cache"))


@dataclass(frozen=True)
class Operator:
    """One operator of a pass. ``count``: how often it runs in the pass of the complete model.

    ``cold``: storages of its slots that come from memory. ``evicted``: the others come from the last-level cache. ``lasting``: it writes what stays until a later pass (keys and values).
    Per call: ``flops`` and ``elementwise_flops``, ``cold_bytes`` read of cold inputs, ``hot_bytes`` of everything else, ``rows``
    of the result, ``footprint`` bytes of memory that its inputs and outputs span.
    """

    key: str
    name: str
    op_class: str
    dtype: str
    issued: Issued
    cold: frozenset[int]
    evicted: bool
    lasting: bool
    in_place: bool
    count: int
    flops: int
    elementwise_flops: int
    cold_bytes: int
    hot_bytes: int
    rows: int
    footprint: int
    module: str
    facts: dict[str, Any] = field(default_factory=dict)


def operators(trace: Trace, caches: Caches) -> list[Operator]:
    """The different operators of ``trace`` (made inside :func:`profiling.issued.kept`), in the order of their first call.

    The counts add up to the calls of the complete model.
    """
    found: dict[str, Operator] = {}
    for call, issued, times, (cold, evicted) in zip(
        trace.calls, trace.recording.issued, trace.times, _cold(trace, caches), strict=True
    ):
        lasting = any(uid in trace.recording.cache_uids for uid, _ in call.writes)
        item = _operator(call, issued, times, cold, evicted, lasting)
        known = found.get(item.key)
        found[item.key] = item if known is None else replace(known, count=known.count + times)
    return list(found.values())


def _cold(trace: Trace, caches: Caches) -> Iterable[tuple[frozenset[int], bool]]:
    """Per call the storages of its inputs whose reuse distance exceeds the last-level cache, and whether what was moved since the last
    use of another, or since the operator last ran (whose program is evicted as well), exceeds a core's own.

    Of what lasts, the distance is that of the complete model, whose blocks a folded trace has once: each call counts as often as it
    stands for. Of activations it is what the trace itself moved since they were written.
    """
    whole = moved = 0
    total = sum(times * _bytes(call) for call, times in zip(trace.calls, trace.times, strict=True))
    last: dict[int, tuple[int, int]] = {}
    programs: dict[str, int] = {}
    for call, times in zip(trace.calls, trace.times, strict=True):
        cold = set()
        longest = moved - programs.get(call.name, 0)
        for uid, _, source in call.reads:
            before = last.get(uid)
            if source in _LASTING:
                distance = total if before is None else whole - before[0]
            else:
                distance = 0 if before is None else moved - before[1]
            if distance > caches.last:
                cold.add(uid)
            elif source not in _LASTING:
                longest = max(longest, distance)
        whole += times * _bytes(call)
        moved += _bytes(call)
        for uid in [*(uid for uid, _, _ in call.reads), *(uid for uid, _ in call.writes)]:
            last[uid] = (whole, moved)
        programs[call.name] = moved
        yield frozenset(cold), 0 < caches.private < longest


def _bytes(call: Call) -> int:
    return call.bytes_read + call.bytes_written


def _operator(call: Call, issued: Issued, times: int, cold: frozenset[int], evicted: bool, lasting: bool) -> Operator:
    from_memory = sum(nbytes for uid, nbytes, _ in call.reads if uid in cold)
    result = call.outputs[0] if call.outputs else None
    elements = 1
    for size in result.shape[:-1] if result else ():
        elements *= size
    spans = sum(slot.nbytes for slot in issued.slots) + sum(tensor.nbytes for tensor in call.outputs)
    marks = (" lasting" if lasting else "") + (" evicted" if evicted else "")
    return Operator(
        key=_key(issued, cold) + marks,
        name=call.name,
        op_class=call.op_class,
        dtype=result.dtype if result else "",
        issued=issued,
        cold=cold,
        evicted=evicted,
        lasting=lasting,
        in_place=bool(call.facts.get("in_place")),
        count=times,
        flops=call.flops,
        elementwise_flops=call.elementwise_flops,
        cold_bytes=from_memory,
        hot_bytes=_bytes(call) - from_memory,
        rows=elements,
        footprint=max(spans, _bytes(call)),
        module=call.path,
        facts=dict(call.facts),
    )


def _key(issued: Issued, cold: frozenset[int]) -> str:
    """Everything that decides how long the call takes, as text: equal text, equal call. It names no storage, so it holds across models."""
    numbers: dict[int, int] = {}

    def say(value: Any) -> str:
        if isinstance(value, Slot):
            which = numbers.setdefault(value.uid, len(numbers))
            dtype = str(value.dtype).removeprefix("torch.")
            form = f"{dtype}{list(value.shape)}/{list(value.stride)}".replace(" ", "")
            return f"{form}#{which}{'!' if value.uid in cold else ''}"
        if isinstance(value, (list, tuple)):
            return "[" + ",".join(say(item) for item in value) + "]"
        if isinstance(value, dict):
            return "{" + ",".join(f"{name}={say(item)}" for name, item in value.items()) + "}"
        return repr(value)

    if issued.reason:
        return f"{issued.name} ({issued.reason})"
    return f"{issued.name}({','.join(say(value) for value in issued.args)};{say(dict(issued.kwargs))})"
