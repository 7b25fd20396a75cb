"""What an address asks of history, for pages, their exports and the REST API: the parameters are the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext

from llmcompare.history import exports
from llmcompare.history.lookback import DEFAULT_LOOKBACK
from llmcompare.history.reading import LIST_METRICS, Series, load_lines, load_series, series_keys, series_runs
from llmcompare.runs.filters import RunFilter
from llmcompare.runs.models import Run
from llmcompare.runs.querysets import RunQuerySet

#: Series that an export of the list holds at most; it says how many there are.
MOST_EXPORTED = 500
#: Series whose bands are looked at when only those outside are asked for.
MOST_JUDGED = 200
LOOKBACKS = (5, 10, 20, 50, 100)
#: Filters of the list of runs that narrow the list of series, too.
NARROWING = ("q", "model", "hardware", "dtype", "whose", "tag")


def narrowed_runs(request: HttpRequest) -> tuple[RunQuerySet, RunFilter, str]:
    """The finished runs that the address asks for, the filter behind them, and the kind of run."""
    asked_kind = request.GET.get("kind", "")
    kind = asked_kind if asked_kind in Run.Kind.values else Run.Kind.MEASURE.value
    asked = {name: request.GET[name] for name in NARROWING if name in request.GET}
    chosen = RunFilter(asked, queryset=Run.objects.visible_to(request.user).filter(kind=kind), request=request)
    return series_runs(request.user, chosen.qs), chosen, kind


def list_metric(request: HttpRequest) -> str:
    asked = request.GET.get("metric", "")
    return asked if asked in LIST_METRICS else "e2e"


def lines_of(runs: RunQuerySet, rows: list[Any], metric: str) -> list[dict[str, Any]]:
    found = load_lines(runs, rows, metric=metric)
    asked = asked_of([series.newest for series in found])
    return [exports.line_object(series, metric, asked.get(series.newest.pk) or {}) for series in found]


def asked_of(runs: Iterable[Run]) -> dict[int, dict[str, Any]]:
    """Run → its frozen workload, of an endpoint with ``load``, ``sweep`` and ``endpoint`` (how prompts begin) beside."""
    parts = [f"spec__{name}" for name in ("workload", "load", "sweep", "endpoint")]
    rows = Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("pk", "kind", *parts)
    return {
        pk: (workload or {}) | ({"load": load, "sweep": sweep, "endpoint": of} if kind == Run.Kind.ENDPOINT else {})
        for pk, kind, workload, load, sweep, of in rows
    }


def only_outside(request: HttpRequest) -> bool:
    return request.GET.get("show") == "outside"


def those_outside(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines whose newest accepted run lies outside its band."""
    return [line for line in lines if line["verdict"] in ("better", "worse", "outside")]


def exported_list(request: HttpRequest) -> dict[str, Any]:
    runs, _, _ = narrowed_runs(request)
    metric = list_metric(request)
    keys = series_keys(runs)
    if only_outside(request):
        lines = those_outside(lines_of(runs, list(keys[:MOST_JUDGED]), metric))
        return exports.list_object(lines, metric, len(lines))
    return exports.list_object(lines_of(runs, list(keys[:MOST_EXPORTED]), metric), metric, keys.count())


def asked_lookback(request: HttpRequest) -> int:
    asked = request.GET.get("lookback", "")
    return int(asked) if asked in map(str, LOOKBACKS) else DEFAULT_LOOKBACK


def runs_of_whom(request: HttpRequest) -> RunQuerySet:
    """The runs that the user sees, of those people that the address asks for."""
    asked = {"whose": request.GET.get("whose", "")}
    return RunFilter(asked, queryset=Run.objects.visible_to(request.user), request=request).qs


def series_or_404(request: HttpRequest, key: str) -> tuple[Series, dict[str, Any]]:
    """The series and what its newest run was asked (:func:`asked_of`). Without a run that the user may see, there is none."""
    series = load_series(request.user, key, lookback=asked_lookback(request), runs=runs_of_whom(request))
    if series is None:
        raise Http404(gettext("There is no such series, or none of its runs is shared with you."))
    return series, asked_of([series.newest]).get(series.newest.pk) or {}
