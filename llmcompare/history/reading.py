"""Series from the database: the runs that somebody may see, their figures, bands and steps.

A series holds the finished runs of one key (``llmcompare.runs.series``) in the order in which they ended. Everything starts from
``Run.objects.visible_to(user)``: two people may see different parts of one series, and one without a visible run does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import Count, F, Max, Window
from django.db.models.functions import Coalesce, RowNumber
from django.utils.translation import gettext_noop

from llmcompare.history.lookback import DEFAULT_LOOKBACK, Judged, Point, judged
from llmcompare.history.models import Mark
from llmcompare.history.steps import Step, steps
from llmcompare.runs.models import Run, RunMetric
from llmcompare.runs.querysets import RunQuerySet
from llmcompare.runs.tiles import ORDER
from profiling.quantities import number
from profiling.units import DEFINITIONS

#: The newest runs of a series that its page and exports show, and those that a line of the list looks at.
MOST_RUNS = 500
RUNS_OF_A_LINE = 60
ORIGINS = {"measure": "measured", "estimate": "estimated", "endpoint": "measured"}
#: Of a run of an endpoint, what stands on tokens that were counted here is an estimate, and nothing else is.
ALSO = {"endpoint": ("estimated",)}
#: What the list can show → the metrics that stand for it, the first that a run has.
LIST_METRICS = {
    "e2e": ("e2e_latency", "encode_time", "endpoint_e2e_latency"),
    "ttft": ("ttft", "endpoint_ttft"),
    "tpot": ("tpot", "endpoint_tpot"),
    "throughput": ("output_throughput", "encode_throughput", "request_output_throughput"),
    "memory": ("peak_memory",),
}
FIRST_METRICS = ("e2e_latency", "encode_time", "ttft")


@dataclass(frozen=True)
class Metric:
    """One metric of a series over time. ``points`` in the order of the runs; ``steps`` index into :attr:`counted`. ``origin``: of the newest
    figure."""

    key: str
    title: str
    unit: str
    definition: str
    formula: str
    better: str
    origin: str
    points: list[Judged]
    breaks: tuple[int, ...] = ()

    @property
    def counted(self) -> list[Judged]:
        return [judgement for judgement in self.points if judgement.point.counts]

    @cached_property
    def steps(self) -> list[Step]:
        return steps([j.point.value for j in self.counted if j.point.value is not None], breaks=self.breaks)

    @property
    def newest(self) -> Judged | None:
        """The newest run that counts."""
        return self.counted[-1] if self.counted else None


@dataclass(frozen=True)
class Series:
    """``runs`` oldest first; ``total``: how many there are, older ones than the shown included; ``marks`` by run (kept ones)."""

    key: str
    runs: list[Run]
    total: int
    lookback: int
    figures: Mapping[int, Mapping[str, RunMetric]] = field(repr=False)
    marks: Mapping[int, list[Mark]] = field(default_factory=dict, repr=False)

    @property
    def newest(self) -> Run:
        return self.runs[-1]

    @cached_property
    def metrics(self) -> list[Metric]:
        present = {key for figures in self.figures.values() for key in figures}
        return [self.metric(key) for key in (*(k for k in ORDER if k in present), *sorted(present - set(ORDER)))]

    def metric(self, key: str) -> Metric:
        rows = [self.figures.get(run.pk, {}).get(key) for run in self.runs]
        known = next((row for row in reversed(rows) if row is not None), None)
        identifier = known.definition if known else f"{key}/1"
        definition = DEFINITIONS.get(identifier)
        points = [self._point(run, row, identifier, known) for run, row in zip(self.runs, rows, strict=True)]
        better = definition.better if definition else ""
        counted = [point for point in points if point.counts]
        return Metric(
            key=key,
            title=definition.name if definition else key.replace("_", " ").capitalize(),
            unit=known.unit if known else "",
            definition=identifier,
            formula=definition.formula if definition else "",
            better=better,
            origin=known.origin if known else ORIGINS.get(self.newest.kind, ""),
            points=judged(points, better=better, lookback=self.lookback),
            breaks=tuple(_breaks(points, counted)),
        )

    def _point(self, run: Run, row: RunMetric | None, definition: str, newest: RunMetric | None) -> Point:
        accepted, why_not = acceptance(run)
        value = number(row.value) if row is not None else None
        if row is not None and row.definition != definition:
            accepted, why_not = (
                False,
                gettext_noop("measured by another definition (%(definition)s)") % {"definition": row.definition},
            )
        elif row is not None and newest is not None and run.kind == Run.Kind.ENDPOINT and (why := _unlike(row, newest)):
            accepted, why_not = False, why
        low, high = _interval(row.detail.get("ci95")) if row is not None else (None, None)
        listed = row.detail.get("processes") if row is not None else None
        processes = [number(item) for item in listed] if isinstance(listed, list) else []
        return Point(
            run=run.public_id,
            at=run.at,  # type: ignore[attr-defined]  # annotated in series_runs()
            value=value,
            low=low,
            high=high,
            processes=tuple(item for item in processes if item is not None),
            accepted=accepted,
            why_not=why_not,
            expected=any(mark.kind == Mark.Kind.EXPECTED for mark in self.marks.get(run.pk, ())),
            origin=row.origin if row is not None else "",
        )


def _breaks(points: Sequence[Point], counted: Sequence[Point]) -> Iterable[int]:
    """Where, among the points that count, changes marked as expected begin; the marked run itself may not count."""
    position = {id(point): at for at, point in enumerate(counted)}
    waiting = False
    for point in points:
        waiting = waiting or point.expected
        if waiting and point.counts:
            yield position[id(point)]
            waiting = False


def acceptance(run: Run) -> tuple[bool, str]:
    """Whether a run's figures count for bands and steps, and why not. A measurement must say that nothing disturbed it."""
    if run.kind != Run.Kind.MEASURE or run.contended is False:
        return True, ""
    return False, gettext_noop("contended: other work disturbed it") if run.contended else gettext_noop(
        "its conditions are unknown"
    )


def _unlike(row: RunMetric, newest: RunMetric) -> str:
    """Why a figure of an endpoint says nothing beside the newest one of its series; "" where it does."""
    before, now = (str(one.detail.get("note") or "") for one in (row, newest))
    # Sweeps: the figures are those of the best level, and more users wait longer.
    if row.unit == "s" and _level(before) != _level(now):
        return gettext_noop("of a level with another number of users than the newest run's")
    if row.origin != newest.origin or _tokenizer(before) != _tokenizer(now):
        return gettext_noop("its tokens were counted in another way than those of the newest run")
    return ""


def _level(note: str) -> str:
    """The part of a metric's note (:mod:`profiling.remote.document`) that names the level of a sweep."""
    found = re.match(r"with \d+ at once", note)
    return found.group() if found else ""


def _tokenizer(note: str) -> str:
    """The part that names the tokenizer with which tokens were counted here; "" where the server counted them."""
    return note[note.find("output tokens counted here") :] if "output tokens counted here" in note else ""


def _interval(values: Any) -> tuple[float | None, float | None]:
    if not isinstance(values, list | tuple) or len(values) != 2:
        return None, None
    return number(values[0]), number(values[1])


# --- queries ---------------------------------------------------------------------------------------------------------


def series_runs(user, runs: RunQuerySet | None = None) -> RunQuerySet:
    """Finished runs that belong to a series; ``at``: when each ended. ``runs``: narrower than all that the user may see."""
    visible = Run.objects.visible_to(user) if runs is None else runs
    done = visible.filter(state=Run.State.DONE).exclude(series="")
    return done.annotate(at=Coalesce("finished", "created")).defer("spec", "notes", "error")


def load_series(user, key: str, *, lookback: int = DEFAULT_LOOKBACK, runs: RunQuerySet | None = None) -> Series | None:
    """One series with all metrics, or None where the user sees no run of it. ``runs``: narrower than all that the user may see."""
    mine = series_runs(user, runs).filter(series=key)
    shown = list(mine.select_related("owner", "host", "hardware", "model").order_by("-at", "-pk")[:MOST_RUNS])[::-1]
    if not shown:
        return None
    total = len(shown) if len(shown) < MOST_RUNS else mine.count()
    return _filled({key: shown}, {key: total}, lookback, None)[0]


def series_keys(runs: RunQuerySet) -> RunQuerySet:
    """``series``, ``total``, ``latest`` of every series of ``runs``, the one with the newest run first."""
    grouped = runs.order_by().values("series").annotate(total=Count("pk"), latest=Max("at"))
    return grouped.order_by("-latest", "series")


def load_lines(
    runs: RunQuerySet, rows: Sequence[Mapping[str, Any]], *, metric: str, lookback: int = DEFAULT_LOOKBACK
) -> list[Series]:
    """Series for lines of the list, in the order of ``rows`` (of :func:`series_keys`), with the newest runs and one figure each."""
    keys = [row["series"] for row in rows]
    place = Window(RowNumber(), partition_by=[F("series")], order_by=[F("at").desc(), F("pk").desc()])
    newest = runs.filter(series__in=keys).annotate(place=place).filter(place__lte=RUNS_OF_A_LINE)
    by_key: dict[str, list[Run]] = {key: [] for key in keys}
    for run in newest.select_related("host").order_by("at", "pk"):
        by_key[run.series].append(run)
    totals = {row["series"]: row["total"] for row in rows}
    return _filled({key: found for key, found in by_key.items() if found}, totals, lookback, LIST_METRICS[metric])


def _filled(
    by_key: Mapping[str, list[Run]], totals: Mapping[str, int], lookback: int, keys: Sequence[str] | None
) -> list[Series]:
    kinds = {run.pk: run.kind for runs in by_key.values() for run in runs}
    rows = RunMetric.objects.filter(run__in=kinds)
    if keys is not None:
        rows = rows.filter(key__in=keys)
    figures: dict[int, dict[str, RunMetric]] = {}
    for row in rows:
        kind = kinds[row.run_id]
        if row.origin == ORIGINS.get(kind) or row.origin in ALSO.get(kind, ()):
            figures.setdefault(row.run_id, {})[row.key] = row
    marks: dict[int, list[Mark]] = {}
    for mark in Mark.objects.kept().filter(run__in=kinds).select_related("by"):
        marks.setdefault(mark.run_id, []).append(mark)
    return [Series(key, runs, totals[key], lookback, figures, marks) for key, runs in by_key.items()]


def line_metric(series: Series, metric: str) -> Metric:
    """The metric of a line of the list: the first of its names that the newest run has, else any run."""
    names = LIST_METRICS[metric]
    for run in reversed(series.runs):
        for name in names:
            if name in series.figures.get(run.pk, {}):
                return series.metric(name)
    return series.metric(names[0])


def version_changes(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Where the versions that runs were made with change: ``run``, ``at``, ``changes`` (name → [before, after]). What a run does not say
    is no change."""
    found: list[dict[str, Any]] = []
    last: dict[str, str] = {}
    for run in runs:
        changes = {
            name: [last[name], value] for name, value in run.versions.items() if name in last and last[name] != value
        }
        if changes:
            found.append({"run": run.public_id, "at": run.at, "changes": changes})  # type: ignore[attr-defined]
        last |= run.versions
    return found
