"""What torch's allocator gave out and took back during a profiled pass, from the memory events of the profiler's trace.

The profiler reports each allocation and each return with its size, its moment and its address. Here they stand under the stage, the
module and the operator in which they happened, beside what was held then. Nothing is known of what lay in memory before the pass
(weights and inputs), nor of memory that libraries take without torch's allocator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What the events of a profiled pass are called.
MODULE, STAGE, MEMORY = "module: ", "stage: ", "[memory]"
#: Device types of torch in these events.
_CPU, _CUDA = 0, 1
#: Kinds of spans on the host: torch names marks of ours one or the other, by how they were made.
_HOST = ("cpu_op", "user_annotation")
COLUMNS = ["t_ns", "stage", "path", "operator", "bytes", "held_bytes", "kind"]


@dataclass
class Allocation:
    """One allocation (``size`` above 0) or return: bytes, nanoseconds since the first event, and where it happened.

    ``held``: bytes given out since the profiled pass began and not returned, after this one. ``kind``: ``cache`` for storages that a
    pass left in the model's cache, else ``activation``; of returns, that of what was returned (``before``: it is older than the pass).
    """

    t_ns: int
    stage: str | None
    path: str | None
    operator: str | None
    size: int
    held: int
    kind: str


@dataclass(frozen=True)
class Peak:
    """Most bytes of a stage, beyond what lay in memory before the profiled pass: ``held`` at one moment, ``activations`` without the
    cache (None: the cache was not found among the allocations)."""

    held: int
    activations: int | None


def storages(values: Sequence[Any]) -> dict[int, int]:
    """address → bytes of the different storages behind tensors; of one that is divided over devices, behind the part that is here."""
    here = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in values)
    return {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in here)}


def allocations(
    events: Sequence[Mapping[str, Any]], caches: Sequence[Mapping[int, int]], *, cuda: bool
) -> tuple[list[Allocation], dict[str, Peak]]:
    """Every allocation in order of time, and stage → its :class:`Peak`. ``events``: of the profiler's trace, times in µs.

    ``caches``: storages of the cache after each pass (each call of the whole model), in order.
    """
    wanted = _CUDA if cuda else _CPU
    memory = [e for e in events if e.get("name") == MEMORY and (e.get("args") or {}).get("Device Type") == wanted]
    memory.sort(key=lambda event: float(event["ts"]))
    if not memory:
        return [], {}
    found = _placed(memory, events)
    ends = sorted(
        float(e["ts"]) + float(e.get("dur") or 0) for e in events if e.get("name") == MODULE and e.get("cat") in _HOST
    )
    complete = _name_caches(memory, found, ends, caches)
    return found, _peaks(found, complete)


def _placed(memory: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> list[Allocation]:
    """The memory events under the spans that enclose them on their thread; of the host's clock, on devices too."""
    spans: dict[Any, list[tuple[float, float, str]]] = {}
    for event in events:
        if event.get("ph") == "X" and event.get("cat") in _HOST:
            begin = float(event["ts"])
            spans.setdefault(event.get("tid"), []).append((begin, begin + float(event.get("dur") or 0), event["name"]))
    for own in spans.values():
        own.sort(key=lambda span: (span[0], -span[1]))
    origin, held, found = float(memory[0]["ts"]), 0, []
    at = dict.fromkeys(spans, 0)
    stacks: dict[Any, list[tuple[float, float, str]]] = {thread: [] for thread in spans}
    for event in memory:
        thread, now = event.get("tid"), float(event["ts"])
        own, stack = spans.get(thread, []), stacks.get(thread, [])
        while at.get(thread, 0) < len(own) and own[at[thread]][0] <= now:
            span = own[at[thread]]
            while stack and stack[-1][1] <= span[0]:
                stack.pop()
            stack.append(span)
            at[thread] += 1
        while stack and stack[-1][1] < now:
            stack.pop()
        size = int(event["args"]["Bytes"])
        held += size
        names = [name for _, _, name in stack]
        found.append(
            Allocation(
                round((now - origin) * 1000),
                next((name[len(STAGE) :] for name in names if name.startswith(STAGE)), None),
                next((name[len(MODULE) :] for name in reversed(names) if name.startswith(MODULE)), None),
                names[-1] if names and not names[-1].startswith((STAGE, MODULE)) else None,
                size,
                held,
                "activation",
            )
        )
    return found


def _name_caches(
    memory: Sequence[Mapping[str, Any]],
    found: list[Allocation],
    ends: Sequence[float],
    caches: Sequence[Mapping[int, int]],
) -> bool:
    """Mark what belongs to a cache, and returns by what they return. False where a cache is not among the allocations."""
    live: dict[int, int] = {}
    returned: list[tuple[int, int | None]] = []
    pending, complete = list(zip(ends, caches, strict=False)), len(ends) >= len(caches)
    marked: set[int] = set()

    def look(now: float | None) -> None:
        nonlocal complete
        while pending and (now is None or pending[0][0] < now):
            for address, size in pending.pop(0)[1].items():
                index = live.get(address)
                if index is not None:
                    marked.add(index)
                elif size:
                    complete = False

    for index, event in enumerate(memory):
        look(float(event["ts"]))
        address = int(event["args"].get("Addr") or 0)
        if found[index].size >= 0:
            live[address] = index
        else:
            returned.append((index, live.pop(address, None)))
    look(None)
    for index in marked:
        found[index].kind = "cache"
    for index, source in returned:
        found[index].kind = "before" if source is None else found[source].kind
    return complete


def _peaks(found: Sequence[Allocation], complete: bool) -> dict[str, Peak]:
    cache, stage = 0, None
    peaks: dict[str, tuple[int, int]] = {}
    for item in found:
        stage = item.stage or stage
        cache += item.size if item.kind == "cache" else 0
        if stage is not None:
            most, alone = peaks.get(stage, (0, 0))
            peaks[stage] = (max(most, item.held), max(alone, item.held - cache))
    return {name: Peak(most, alone if complete else None) for name, (most, alone) in peaks.items()}


def timeline(found: Sequence[Allocation]) -> dict[str, Any]:
    """The allocations as a table, one row each."""
    rows = [[a.t_ns, a.stage, a.path, a.operator, a.size, a.held, a.kind] for a in found]
    return {"columns": COLUMNS, "rows": rows}
