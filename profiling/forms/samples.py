"""What a fit learns from one traced pass: per operator its static facts and whole numbers. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from profiling.demand import CHANNELS, STATIC, Demand

#: Numbers of an operator: the channels, how often it runs, and the tokens that its routing spreads over the experts.
NUMBERS = (*CHANNELS, "calls", "routed_tokens")
_ROWS, _CALLS, _TOKENS = NUMBERS.index("rows"), NUMBERS.index("calls"), NUMBERS.index("routed_tokens")


@dataclass(frozen=True, slots=True)
class Static:
    """What does not depend on the point. ``facts``: those of :data:`profiling.demand.STATIC`. ``experts``, ``top_k``,
    ``expert_bytes``: of a routed product, else 0."""

    role: str
    name: str
    facts: tuple[Any, ...]
    experts: int
    top_k: float
    expert_bytes: int


@dataclass(frozen=True)
class Sample:
    """One pass. ``signature``: which operator ran in which module, in order. ``numbers``: aligned with ``statics``, of one operator
    each (``calls`` says how often the complete model runs it). ``alive``: bytes of activations alive after each allocation."""

    signature: tuple[tuple[str, str, str], ...]
    statics: tuple[Static, ...]
    numbers: tuple[tuple[int, ...], ...]
    alive: tuple[int, ...]
    cache_bytes: int
    unknown: tuple[str, ...]


def row(work: Demand, role: str, name: str, times: int, all_experts: int) -> tuple[Static, tuple[int, ...]]:
    """One operator. ``all_experts``: bytes of the weights of all experts, read or not."""
    routing = work.routing
    values = [getattr(work, channel) for channel in CHANNELS]
    if routing is not None:
        # Which of them are read and how many rows each gets are no polynomials; they follow from the routing.
        values[CHANNELS.index("weight_read")] = 0
        values[_ROWS] = 0
    static = Static(
        role,
        name,
        tuple(getattr(work, fact) for fact in STATIC),
        routing.experts if routing else 0,
        routing.top_k if routing else 0.0,
        all_experts if routing else 0,
    )
    return static, (*values, times, routing.tokens if routing else 0)


def summed(sample: Sample) -> Sample:
    """Operators of one module and name as one: for loops whose length depends on the point. Order within a module is lost."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for (path, label, name), static, numbers in zip(sample.signature, sample.statics, sample.numbers, strict=True):
        times = numbers[_CALLS]
        known = groups.setdefault((path, label, name, static), [0] * len(NUMBERS))
        for i, number in enumerate(numbers):
            if i in (_ROWS, _TOKENS):
                known[i] = max(known[i], number)
            else:
                known[i] += number if i == _CALLS else number * times
    keys = sorted(groups, key=repr)
    return Sample(
        signature=tuple((k[0], k[1], k[2]) for k in keys),
        statics=tuple(k[3] for k in keys),
        numbers=tuple(tuple(groups[k]) for k in keys),
        alive=(max(sample.alive, default=0),),
        cache_bytes=sample.cache_bytes,
        unknown=sample.unknown,
    )


def same_operators(samples: Sequence[Sample]) -> bool:
    first = samples[0]
    return all(s.signature == first.signature and s.statics == first.statics for s in samples[1:])
