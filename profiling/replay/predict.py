"""Predicted times of a model from the operators that were timed on a host, whether or not the model ever ran there.

On a processor the time of a pass is Σ count · time of each operator + glue. On a GPU the host runs ahead of the device, so the pass takes
as long as the slower of both: the larger of Σ count · device time and the host's time for the pass.

Operators that the table has are taken from it; others are interpolated by the law of their kind (:mod:`profiling.replay.law`); for what
neither knows there is no time, so the pass has none either.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiling.passes import Trace
from profiling.replay.law import LEAST_SHAPES, Answer, Law, Shape
from profiling.replay.names import METRICS
from profiling.replay.shapes import Caches, Operator, operators
from profiling.replay.table import Glue, Row, Table
from profiling.spec import ModelSpec, Workload, digest


@dataclass
class StageTime:
    """Predicted seconds of one pass. ``own``: from operators timed as they are; ``interpolated``, which may take ``less`` or ``more`` by so
    much, every part at its 90th percentile at once; ``glue``: beside them, with the least and most that it may be.

    ``combined``: how operators and glue make a pass, ``sum`` or ``larger``. ``unknown``: operators without a time. ``how``: key of each
    different operator → where its time is from, a name of ``counts`` or ``unknown``.
    """

    combined: str = "sum"
    own: float = 0.0
    interpolated: float = 0.0
    extrapolated: float = 0.0
    less: float = 0.0
    more: float = 0.0
    glue: float = 0.0
    glue_from: str = "unknown"
    glue_low: float = 0.0
    glue_high: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: {"own": 0, "interpolated": 0, "extrapolated": 0})
    unknown: list[str] = field(default_factory=list)
    calls: int = 0
    contended: int = 0
    largest: list[dict[str, Any]] = field(default_factory=list)
    how: dict[str, str] = field(default_factory=dict)

    def _pass(self, operators: float, glue: float) -> float:
        return operators + glue if self.combined == "sum" else max(operators, glue)

    @property
    def known(self) -> float:
        return self._pass(self.own + self.interpolated, self.glue)

    @property
    def low(self) -> float:
        return self._pass(self.own + self.interpolated - self.less, self.glue_low)

    @property
    def high(self) -> float:
        return self._pass(self.own + self.interpolated + self.more, self.glue_high)

    @property
    def seconds(self) -> float | None:
        return None if self.unknown or self.glue_from == "unknown" else self.known

    @property
    def bound(self) -> str | None:
        """Which of the two a pass waits for: ``host`` or ``device``; None where they are added, or not both known."""
        if self.combined == "sum" or self.seconds is None:
            return None
        return "host" if self.glue >= self.own + self.interpolated else "device"


class Laws:
    """The laws of a table, each fitted when it is first asked for: of the same operator and format, else of its class and format."""

    def __init__(self, table: Table) -> None:
        self._rows = list(table.rows.values())
        self._laws: dict[tuple[str, str, str], Law | None] = {}

    def at(self, operator: Operator) -> Answer | None:
        kinds: tuple[tuple[str, str, Callable[[Row], bool]], ...] = (
            ("name", operator.name, lambda row: row.name == operator.name),
            ("class", operator.op_class, lambda row: row.op_class == operator.op_class),
        )
        for kind, value, belongs in kinds:
            key = (kind, value, operator.dtype)
            if key not in self._laws:
                rows = [row for row in self._rows if row.dtype == operator.dtype and belongs(row)]
                enough = len(rows) >= LEAST_SHAPES
                self._laws[key] = Law([shape_of(row) for row in rows], [r.seconds for r in rows]) if enough else None
            law = self._laws[key]
            if law is not None:
                return law.at(shape_of(operator))
        return None


def shape_of(item: Row | Operator) -> Shape:
    return Shape(item.flops, item.elementwise_flops, item.cold_bytes, item.hot_bytes, item.rows)


def stage_time(found: Sequence[Operator], table: Table, laws: Laws, glue: tuple[float, float, float, str]) -> StageTime:
    """Add up a pass. ``glue``: seconds, lowest, highest, where from."""
    time = StageTime(calls=sum(item.count for item in found), combined="larger" if table.on_gpu else "sum")
    parts: list[tuple[float, str, Operator]] = []
    for item in found:
        row = table.rows.get(item.key)
        if row is not None:
            time.how[item.key] = "own"
            time.own += item.count * row.seconds
            time.counts["own"] += 1
            time.contended += row.quality != "ok"
            parts.append((item.count * row.seconds, "timed", item))
            continue
        answer = laws.at(item)
        if answer is None:
            time.how[item.key] = "unknown"
            if item.name not in time.unknown:
                time.unknown.append(item.name)
            continue
        seconds = item.count * answer.seconds
        time.interpolated += seconds
        time.less += seconds * (1 - 1 / answer.spread)
        time.more += seconds * (answer.spread - 1)
        how = "extrapolated" if answer.extrapolated else "interpolated"
        time.how[item.key] = how
        time.counts[how] += 1
        if answer.extrapolated:
            time.extrapolated += seconds
        parts.append((seconds, how, item))
    time.glue, time.glue_low, time.glue_high, time.glue_from = glue
    parts.sort(key=lambda part: -part[0])
    time.largest = [
        {
            "operator": item.name,
            "module": item.module,
            "inputs": [list(slot.shape) for slot in item.issued.slots],
            "count": item.count,
            "seconds": seconds,
            "from": how,
            "cold_bytes": item.cold_bytes,
        }
        for seconds, how, item in parts[:8]
    ]
    return time


def glue_key(model: ModelSpec, stage: str, dtype: str, attention: str) -> str:
    return digest({"config": model.config_sha256(), "stage": stage, "dtype": dtype, "attention": attention})


def glue_of(key: str, stage: str, calls: int, table: Table) -> tuple[float, float, float, str]:
    """Seconds, lowest, highest and where from: measured on the model's twin, or by operator as in the passes of other models."""
    own = table.glue.get(key)
    if own is not None:
        return own.seconds, own.seconds, own.seconds, "twin"
    each = [item.per_call for item in table.glue.values() if item.stage == stage] or [
        item.per_call for item in table.glue.values()
    ]
    if not each:
        return 0.0, 0.0, 0.0, "unknown"
    return calls * statistics.median(each), calls * min(each), calls * max(each), "other models"


def glue_row(
    key: str, stage: str, model: ModelSpec, dtype: str, pass_s: float, kernels_s: float, calls: int, at: str
) -> Glue:
    """What a twin's pass of ``pass_s`` took beside its own operators, timed alone (``kernels_s``; nothing on a GPU, which works on them while
    the host goes on). Never less than nothing."""
    seconds = max(0.0, pass_s - kernels_s)
    return Glue(key, stage, model.name, dtype, seconds, seconds / max(calls, 1), at)


def predict(
    model: ModelSpec,
    workload: Workload,
    traces: dict[str, Trace],
    table: Table,
    caches: Caches,
    before: Collection[str] | None = None,
) -> dict[str, Any]:
    """The prediction as JSON: ``metrics`` (value and bounds in seconds, origin ``estimated``, method), ``stages`` with their parts, and
    ``shapes``: how many different operators of all stages have their time from where. ``before``: keys that the table had before any were
    timed for this prediction (default: all that it has).

    A metric is null where an operator has no time or the glue is unknown; ``known_s`` of its stage is then a lower bound.
    """
    laws = Laws(table)
    stages: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    how: dict[str, str] = {}
    for stage, trace in traces.items():
        found = operators(trace, caches)
        key = glue_key(model, stage, workload.dtype, workload.attn_implementation)
        time = stage_time(found, table, laws, glue_of(key, stage, sum(item.count for item in found), table))
        how |= time.how
        known = time.seconds is not None
        metrics[METRICS[stage]] = {
            "value": time.seconds,
            "low": time.low if known else None,
            "high": time.high if known else None,
            "unit": "s",
            "definition": f"{METRICS[stage]}/1",
            "origin": "estimated",
            "method": "operator replay",
        }
        stages[stage] = {
            "known_s": time.known,
            "own_s": time.own,
            "interpolated_s": time.interpolated,
            "extrapolated_s": time.extrapolated,
            "glue_s": time.glue,
            "glue_from": time.glue_from,
            "combined": time.combined,
            "bound": time.bound,
            "operators": time.counts | {"unknown": len(time.unknown)},
            "unknown_operators": time.unknown,
            "calls": time.calls,
            "contended_operators": time.contended,
            "context": trace.spec.context,
            "tokens": trace.spec.tokens,
            "largest": time.largest,
        }
    return {
        "schema": "llmcompare-replay",
        "schema_version": "1.2",
        "model": {"name": model.name, "config_sha256": model.config_sha256()},
        "workload": workload.to_json(),
        "host": {
            "fingerprint": table.fingerprint,
            "torch": table.torch,
            "threads": table.threads,
            "device": table.device,
        },
        "metrics": metrics,
        "stages": stages,
        "shapes": _shapes(how, table, table.rows if before is None else before),
    }


def _shapes(how: dict[str, str], table: Table, before: Collection[str]) -> dict[str, Any]:
    """How many different operators were timed now, are from the table, or follow from others; ``measured_at``: when the oldest and the
    newest of those that were timed, were."""
    own = [key for key, source in how.items() if source == "own"]
    counts = Counter(how.values())
    times = sorted(table.rows[key].measured_at for key in own)
    return {
        "timed_now": sum(key not in before for key in own),
        "from_table": sum(key in before for key in own),
        **{source: counts[source] for source in ("interpolated", "extrapolated", "unknown")},
        "measured_at": [times[0], times[-1]] if times else None,
    }
