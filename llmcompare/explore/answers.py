"""The answer to an address: one JSON document that the page, its charts, the exports and saved sweeps are all made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.utils import translation
from django.utils.translation import gettext_noop

from llmcompare.explore.asked import ALONG, CURVE_METRICS, HEAT_METRICS, Question
from llmcompare.explore.series import Series, series_of
from profiling import __version__
from profiling.forms.evaluate import COLUMNS
from profiling.forms.timing import PARTS
from profiling.quantities import number
from profiling.units import DEFINITIONS, metric
from profiling.what_if import Point

SCHEMA, SCHEMA_VERSION = "llmcompare-explore", "1.0"

#: Column → metric of ``profiling.units``; of a model that only reads, other ones.
METRICS = {
    "ttft_s": "ttft",
    "tpot_s": "tpot",
    "e2e_s": "e2e_latency",
    "interactivity": "interactivity",
    "output_tokens_per_s": "output_throughput",
    "device_tokens_per_s": "device_throughput",
    "prefill_tokens_per_s": "prefill_throughput",
    "decode_tokens_per_s": "decode_throughput",
    "total_bytes": "peak_memory",
    "cost": "cost_per_million_tokens",
    "energy": "energy_per_million_tokens",
}
READING_METRICS = {"e2e_s": "encode_time", "prefill_tokens_per_s": "encode_throughput", "total_bytes": "peak_memory"}
MEMORY = ("weights_bytes", "cache_bytes", "activation_peak_bytes", "widened_bytes", "total_bytes")
#: What is added to the engine's columns here.
DERIVED = ("interactivity", "device_tokens_per_s", "cost", "energy", "bound")
ROW_HEADER = (
    "part", "model", "hardware", "devices", "level", "batch_size", "input_tokens", "output_tokens",
    *COLUMNS, *DERIVED, "on_frontier", "note",
)  # fmt: skip


def plain(value: Any) -> float | None:
    """A number of an array for JSON; None where it is unknown."""
    return number(float(value))


@dataclass(frozen=True)
class Answered:
    """A series at some points: the engine's columns and the derived ones."""

    series: Series
    points: Sequence[Point]
    columns: Mapping[str, np.ndarray]
    reasons: Sequence[str | None]

    @classmethod
    def of(cls, series: Series, points: Sequence[Point]) -> Answered:
        columns, reasons = series.at(points)
        return cls(series, points, columns | _derived(series, points, columns), reasons)

    def value(self, name: str, n: int) -> Any:
        """One value; ``fits`` as a truth, ``bound`` as a word, None where unknown."""
        if name == "bound":
            return self.bound(n)
        found = plain(self.columns[name][n])
        return bool(found) if name == "fits" and found is not None else found

    def bound(self, n: int) -> str | None:
        """What takes the largest part of the time."""
        shares = [self.columns[f"{part}_share"][n] for part in PARTS]
        return None if np.isnan(shares[0]) else PARTS[int(np.argmax(shares))]


def _derived(series: Series, points: Sequence[Point], columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    devices, place = series.devices, series.place
    tokens = np.array([batch * out for batch, _, out in points], dtype=np.float64)
    tokens[(tokens == 0) | series.reads_only] = np.nan
    hours = devices * columns["e2e_s"] / 3600 / tokens * 1e6
    unknown = np.full(len(points), np.nan)
    return {
        "interactivity": 1 / columns["tpot_s"],
        "device_tokens_per_s": columns["output_tokens_per_s"] / devices,
        "cost": unknown if place.price is None else place.price * hours,
        "energy": unknown if place.power is None else place.power / 1000 * hours,
    }


class Exploration:
    """A question with everything that is known about it. Reads the database for forms only."""

    def __init__(self, question: Question) -> None:
        self.question = question
        # What an answer says is kept and exported: in English, whoever asks. Pages translate it (``presentation.translated``).
        with translation.override("en"):
            self.series: list[Series] = [] if question.errors else series_of(question)
        values = question.values if not question.errors else {}
        self._at: list[Answered] = []
        self._curves: list[Answered] = []
        self._frontier: list[Answered] = []
        self._heat: Answered | None = None
        if not self.series:
            return
        self.along: str = values["along"] or "batch_size"
        self.metric: str = values["curve"] or "output_tokens_per_s"
        self.heat_metric: str = values["heat"] or "e2e_s"
        self.heat_along: str = values["heat_along"] or "input_tokens"
        self.batches, self.lengths = values["batches"], values["lengths"]
        self.heat_of = min(values["heat_of"] or 0, len(self.series) - 1)
        with translation.override("en"):
            for item in self.series:
                self._answer(item)

    def _answer(self, item: Series) -> None:
        """All points of a series at once: the asked one, its line, its front, and the heat map of the chosen one."""
        here = tuple(self.question.values[name] for name in ALONG)
        steps = self.batches if self.along == "batch_size" else self.lengths
        parts: list[list[Point]] = [
            [here],
            [self._moved(here, self.along, value) for value in steps],
            [self._moved(here, "batch_size", value) for value in self.batches],
        ]
        if item.index == self.heat_of:
            parts.append(
                [
                    self._moved(self._moved(here, "batch_size", batch), self.heat_along, length)
                    for batch in self.batches
                    for length in self.lengths
                ]
            )
        whole = Answered.of(item, [point for part in parts for point in part])
        cut = list(_split(whole, [len(part) for part in parts]))
        self._at.append(cut[0])
        self._curves.append(cut[1])
        self._frontier.append(cut[2])
        if len(cut) > 3:
            self._heat = cut[3]

    @staticmethod
    def _moved(point: tuple[int, ...], along: str, value: int) -> Point:
        batch, into, out = (value if name == along else old for name, old in zip(ALONG, point, strict=True))
        return batch, into, out

    @property
    def answered(self) -> bool:
        """Has any series an answer?"""
        return any(item.state == "ready" for item in self.series)

    def document(self) -> dict[str, Any]:
        with translation.override("en"):
            return self._document()

    def _document(self) -> dict[str, Any]:
        question = self.question
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "engine": __version__,
            "origin": "estimated",
            "question": {
                "models": [model.slug for model in question.models],
                "hardware": [place.key for place in question.places],
                "workload": question.form.workload() if not question.errors else None,
                "factors": question.factors if not question.errors else None,
            },
            "errors": question.errors,
            "series": [self._series_json(item, self._at[item.index]) for item in self.series],
            "curves": self._curves_json(),
            "frontier": self._frontier_json(),
            "heat_map": self._heat_json(),
            "warnings": self._warnings(),
        }

    def _series_json(self, item: Series, at: Answered) -> dict[str, Any]:
        found: dict[str, Any] = {
            "index": item.index,
            "label": item.label,
            "model": item.model.slug,
            "model_name": item.model.name,
            "hardware": item.place.key,
            "hardware_name": item.spec.name if item.spec else item.place.name,
            "devices": item.devices,
            "state": item.state,
            "problem": item.problem or at.reasons[0] or "",
            "level": item.level or None,
            "optimistic_bound": item.level == "datasheet" if item.level else None,
            "notes": item.notes(),
            "suspicious": list(item.device.suspicious) if item.device else [],
            "made_with": item.form.made_with if item.form else {},
            "price_per_device_hour": item.place.price,
            "power_w": item.place.power,
            "metrics": {},
            "memory": None,
            "shares": {},
            "stages": {},
            "bound": None,
        }
        if item.state != "ready" or at.reasons[0]:
            return found
        names = READING_METRICS if item.reads_only else METRICS
        found["metrics"] = {key: metric(key, at.value(column, 0), "estimated") for column, key in names.items()}
        found["memory"] = _memory(at, item)
        found["shares"] = {part: at.value(f"{part}_share", 0) for part in PARTS}
        found["bound"] = at.bound(0)
        found["stages"] = {name: _stage(parts) for name, parts in item.stages().items()}
        return found

    def _curves_json(self) -> dict[str, Any] | None:
        if not self.answered:
            return None
        lines = []
        position = list(ALONG).index(self.along)
        for answered in self._curves:
            if answered.series.state != "ready":
                continue
            n = range(len(answered.points))
            lines.append(
                {
                    "series": answered.series.index,
                    "x": [point[position] for point in answered.points],
                    "y": [answered.value(self.metric, i) for i in n],
                    "fits": [answered.value("fits", i) for i in n],
                    "notes": list(answered.reasons),
                }
            )
        unit = unit_of(self.metric)
        return {
            "along": self.along,
            "metric": self.metric,
            "title": str(CURVE_METRICS[self.metric]),
            "unit": unit,
            "lines": lines,
        }

    def _frontier_json(self) -> dict[str, Any] | None:
        """Throughput of a device against interactivity; a frontier for each level of ceilings, never one over both."""
        if not self.answered:
            return None
        lines: list[dict[str, Any]] = []
        for answered in self._frontier:
            if answered.series.state != "ready" or answered.series.reads_only:
                continue
            points = [
                {
                    "batch_size": answered.points[n][0],
                    "interactivity": answered.value("interactivity", n),
                    "device_throughput": answered.value("device_tokens_per_s", n),
                    "fits": answered.value("fits", n),
                    "cost": answered.value("cost", n),
                    "energy": answered.value("energy", n),
                    "on_frontier": False,
                    "note": answered.reasons[n],
                }
                for n in range(len(answered.points))
            ]
            lines.append({"series": answered.series.index, "level": answered.series.level, "points": points})
        # Rates that cannot be right are no ground for a verdict.
        sound = [line for line in lines if not self._suspicious(line["series"])]
        for level in {line["level"] for line in sound}:
            mark_frontier([p for line in sound if line["level"] == level for p in line["points"]])
        return {"lines": lines, "levels": sorted({line["level"] for line in lines})}

    def _suspicious(self, index: int) -> bool:
        device = self.series[index].device
        return bool(device and device.suspicious)

    def _heat_json(self) -> dict[str, Any] | None:
        heat = self._heat
        if heat is None or heat.series.state != "ready":
            return None
        width = len(self.lengths)

        def matrix(name: str) -> list[list[Any]]:
            flat = [heat.value(name, n) for n in range(len(heat.points))]
            return [flat[i : i + width] for i in range(0, len(flat), width)]

        return {
            "series": heat.series.index,
            "label": heat.series.label,
            "level": heat.series.level,
            "metric": self.heat_metric,
            "title": str(HEAT_METRICS[self.heat_metric]),
            "unit": unit_of(self.heat_metric),
            "batch_size": list(self.batches),
            "along": self.heat_along,
            "lengths": list(self.lengths),
            "values": matrix(self.heat_metric),
            "fits": matrix("fits"),
            "bound": matrix("bound"),
            "notes": [list(heat.reasons[i : i + width]) for i in range(0, len(heat.reasons), width)],
        }

    def _warnings(self) -> list[str]:
        found = []
        levels = {item.level for item in self.series if item.state == "ready"}
        if len(levels) > 1:
            found.append(
                gettext_noop(
                    "These figures stand on ceilings of different levels: those of a datasheet are optimistic bounds, measured ones are not. "
                    "They are not ranked against each other, and each level has a frontier of its own."
                )
            )
        if self.question.is_scaled and "measured" in levels:
            found.append(
                gettext_noop(
                    "Measured rates were multiplied by your factors: such figures are a projection, nobody measured that device."
                )
            )
        return found

    def rows(self) -> Iterator[list[Any]]:
        """Every point as a line of :data:`ROW_HEADER`."""
        marked: dict[tuple[int, int], bool] = {}
        for line in (self._frontier_json() or {"lines": []})["lines"]:
            marked |= {(line["series"], p["batch_size"]): p["on_frontier"] for p in line["points"]}
        parts = (("point", self._at), ("curve", self._curves), ("frontier", self._frontier))
        heat: Iterable[Answered] = [self._heat] if self._heat else []
        for name, several in (*parts, ("heat_map", heat)):
            for answered in several:
                item = answered.series
                for n, point in enumerate(answered.points):
                    on = marked.get((item.index, point[0])) if name == "frontier" else None
                    values = [answered.value(column, n) for column in (*COLUMNS, *DERIVED)]
                    where = item.spec.name if item.spec else item.place.name
                    head = [name, item.model.name, where, item.devices, item.level or None, *point]
                    yield [*head, *values, on, answered.reasons[n] or (item.problem or None)]


def _split(whole: Answered, sizes: Sequence[int]) -> Iterator[Answered]:
    start = 0
    for size in sizes:
        chosen = slice(start, start + size)
        columns = {name: values[chosen] for name, values in whole.columns.items()}
        yield Answered(whole.series, whole.points[chosen], columns, whole.reasons[chosen])
        start += size


def _memory(at: Answered, item: Series) -> dict[str, Any]:
    found: dict[str, Any] = {name: at.value(name, 0) for name in MEMORY}
    capacity = item.device.capacity if item.device else None
    total = found["total_bytes"]
    short = total - capacity if capacity is not None and total is not None else None
    found |= {"capacity_bytes": capacity, "fits": at.value("fits", 0)}
    return found | {"shortfall_bytes": short if short is not None and short > 0 else None}


def _stage(parts: Mapping[str, float | None]) -> dict[str, Any]:
    known = {name: value for name, value in parts.items() if value is not None}
    whole = len(known) == len(parts)
    return {
        "time_s": sum(known.values()) if whole else None,
        "bound": max(known, key=lambda name: known[name]) if whole else None,
        "parts_s": dict(parts),
    }


def unit_of(column: str) -> str:
    """The unit of a column; "" for words."""
    key = METRICS.get(column)
    return DEFINITIONS[f"{key}/1"].unit if key else ""


def mark_frontier(points: Sequence[dict[str, Any]]) -> None:
    """Set ``on_frontier`` where no other point is at least as good in both and better in one. What is known not to fit takes no part."""
    able = [
        p
        for p in points
        if p["interactivity"] is not None and p["device_throughput"] is not None and p["fits"] is not False
    ]
    best: tuple[float, float] = (-1.0, -1.0)
    ordered = sorted(able, key=lambda p: (-p["interactivity"], -p["device_throughput"]))
    for point in ordered:
        here = (point["interactivity"], point["device_throughput"])
        if here[1] > best[1] or here == best:  # what is equal is no better
            best = here
            point["on_frontier"] = True
