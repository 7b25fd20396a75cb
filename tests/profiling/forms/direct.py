"""Closed forms against direct traces: the same totals of every kind of operator, the same cache, the same peak."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from profiling import mla
from profiling.build import Built
from profiling.execution import works
from profiling.forms.terms import ModelForm, StageForm, activation_peak, cache_bytes, point_terms
from profiling.passes import Pass, Trace, trace
from profiling.roles import Roles
from profiling.spec import Workload

#: What is compared: every channel of a demand but ``network``, which one device does not have, and ``rows``, which do not add up.
CHANNELS = ("flops", "elementwise_flops", "weight_read", "cache_read", "other_read", "cache_written", "other_written")

#: (role, name of the operator) → totals by channel.
Totals = dict[tuple[str, str], dict[str, float]]


def direct(built: Built, workload: Workload, stage: str, point: Mapping[str, int]) -> Trace:
    """The pass at a point, traced; latent attention in the form that ``workload`` names."""
    drafted = stage == "decode" and workload.draft_tokens
    logits = {"prefill": workload.logits}.get(stage, "all" if drafted else "last")
    tokens, context, source = (point.get(name, 0) for name in ("tokens", "context", "source"))
    spec = Pass(stage, point["batch"], tokens or 1, context, source, logits)
    return mla.kept(trace(built, spec), workload.counting)


def differences(
    form: StageForm, built: Built, workload: Workload, point: Mapping[str, int], *, routed: bool = False
) -> list[str]:
    """Every number of the form that differs from a direct trace of ``built`` at ``point``, in words; [] where all agree.

    Reads of experts' weights are expected values, each rounded to whole bytes: they may differ by one byte per operator.
    """
    point = {**form.constants, **point}
    item = direct(built, workload, form.stage, point)
    seen, roles = defaultdict(lambda: dict.fromkeys((*CHANNELS, "slack"), 0.0)), Roles(built)
    for work in works(item, workload.counting):
        totals = seen[roles.of(work.call), work.call.name]
        for channel in CHANNELS:
            totals[channel] += work.times * getattr(work, channel)
        totals["slack"] += work.times * bool(work.routing)
    told: Totals = defaultdict(lambda: dict.fromkeys(CHANNELS, 0.0))
    for term in point_terms(form, point, workload.experts):
        totals = told[term.role, term.name]
        for channel in CHANNELS:
            totals[channel] += getattr(term, channel)
    found = []
    for key in seen.keys() | told.keys():
        for channel in CHANNELS:
            slack = seen[key]["slack"] if channel == "weight_read" else 0
            if abs(told[key][channel] - seen[key][channel]) > slack:
                found.append(
                    f"{'/'.join(key)} {channel}: {told[key][channel]:,.12g}, traced {seen[key][channel]:,.12g}"
                )
    for name, value, real in (
        ("cache", cache_bytes(form, point), item.cache_bytes),
        ("peak", activation_peak(form, point), item.recording.activation_peak),
    ):
        if value != real:
            found.append(f"{name}: {value:,}, traced {real:,}")
    where = ", ".join(f"{name} {value:,}" for name, value in point.items())
    return [f"{form.stage} at {where}: {text}" for text in sorted(found)]


def ends(form: StageForm) -> Iterator[dict[str, int]]:
    """The first and the last point of every piece, batch 1 or one of the others."""
    for number, piece in enumerate(form.pieces):
        batch = (2, 5, 3, 64)[number % 4] if piece.batched else 1
        for place in (0, 1):
            yield {"batch": batch, **{name: limits[place] for name, limits in piece.ranges.items()}}


def anywhere(form: StageForm, chance: random.Random, longest: int = 1 << 20) -> dict[str, int]:
    """A point drawn at random: pieces alike, then anywhere in one; half of the points near its beginning."""
    piece = chance.choice(form.pieces)
    point: dict[str, Any] = {"batch": chance.choice((2, 3, 5, 8, 33, 1000)) if piece.batched else 1}
    for name, (low, high) in piece.ranges.items():
        high = max(low, min(high, longest))
        point[name] = chance.choice((chance.randint(low, high), chance.randint(low, min(high, low + 300))))
    return point


def check_form(form: ModelForm, built: Built, workload: Workload, chance: random.Random, count: int) -> list[str]:
    """Differences at all ends of pieces and at ``count`` points of every stage, drawn at random."""
    found: list[str] = []
    for stage in form.stages.values():
        points = [*ends(stage), *(anywhere(stage, chance) for _ in range(count))]
        for point in {tuple(sorted(p.items())): p for p in points}.values():
            found += differences(stage, built, workload, point)
    return found
