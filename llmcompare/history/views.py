"""Pages of history: the list of series and one series. Every control is in the address; .csv and .json of it are its export."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.history import asking, charts, exports, lookback, services, steps
from llmcompare.history.lookback import DEFAULT_LOOKBACK
from llmcompare.history.models import Mark
from llmcompare.history.presentation import line_row, run_rows, series_name, tiles, workload_words
from llmcompare.history.reading import Series, series_keys
from llmcompare.runs.endpointtags import told_apart
from llmcompare.runs.exports import json_response
from llmcompare.runs.filters import WHOSE
from llmcompare.runs.models import Run

PAGE_SIZE = 25
METRIC_WORDS = {
    "e2e": _("Total time"),
    "ttft": _("Time to first token"),
    "tpot": _("Time per output token"),
    "throughput": _("Throughput"),
    "memory": _("Peak memory"),
}
WHAT = (("measure", _("measured")), ("estimate", _("estimated")), ("endpoint", _("endpoints")))


@login_required
@require_safe
def series_list(request: UserRequest) -> HttpResponse:
    """Every series with a run that the user may see; the one that was measured last comes first."""
    runs, narrowed, kind = asking.narrowed_runs(request)
    metric = asking.list_metric(request)
    keys = series_keys(runs)
    outside = asking.only_outside(request)
    if outside:
        # The band of every series has to be looked at, so this looks at the newest of them only.
        page = Paginator(
            asking.those_outside(asking.lines_of(runs, list(keys[: asking.MOST_JUDGED]), metric)), PAGE_SIZE
        ).get_page(request.GET.get("page"))
        lines = list(page)
    else:
        page = Paginator(keys, PAGE_SIZE).get_page(request.GET.get("page"))
        lines = asking.lines_of(runs, list(page), metric)
    query = request.GET.urlencode()
    return render(
        request,
        "history/list.html",
        {
            "page": page,
            "lines": [line_row(line) for line in lines],
            "filter": narrowed,
            "narrowed": outside or any(request.GET.get(name) for name in asking.NARROWING),
            "outside": outside,
            "most_judged": asking.MOST_JUDGED,
            "kind": kind,
            "kinds": WHAT,
            "metric": metric,
            "metrics": METRIC_WORDS.items(),
            "metric_words": METRIC_WORDS[metric],
            "lookback": DEFAULT_LOOKBACK,
            "csv_url": f"{reverse('history:csv')}?{query}",
            "json_url": f"{reverse('history:json')}?{query}",
        },
    )


@login_required
@require_safe
def list_csv(request: HttpRequest) -> HttpResponseBase:
    layout = CsvFormat.from_query(request.GET)
    return csv_response(
        "history.csv", exports.LIST_HEADER, exports.list_rows(asking.exported_list(request)["series"]), layout
    )


@login_required
@require_safe
def list_json(request: HttpRequest) -> HttpResponse:
    return json_response("history.json", asking.exported_list(request))


# --- one series ------------------------------------------------------------------------------------------------------


@login_required
@require_safe
def series(request: UserRequest, key: str) -> HttpResponse:
    if request.GET.get("whose") and not asking.runs_of_whom(request).filter(series=key).exists():
        everybody = request.GET.copy()
        everybody.pop("whose")
        messages.info(request, gettext("No run of this series is left by that choice, so all that you see are shown."))
        return redirect(f"{reverse('history:series', args=[key])}?{everybody.urlencode()}")
    found, workload = asking.series_or_404(request, key)
    exported = exports.series_object(found, workload)
    keys = [metric["key"] for metric in exported["metrics"]]
    asked = request.GET.get("metric", "")
    preferred = next((name for name in ("e2e_latency", "encode_time", "ttft") if name in keys), keys[0] if keys else "")
    chosen = asked if asked in keys else preferred
    shown = next((metric for metric in exported["metrics"] if metric["key"] == chosen), None)
    by = "time" if request.GET.get("x") == "time" else "order"
    changeable = Run.objects.editable_by(request.user).filter(pk__in=[run.pk for run in found.runs])
    editable = set(changeable.values_list("public_id", flat=True))
    query = request.GET.urlencode()
    context = {
        "series": found,
        "about": exported,
        "name": series_name(exported),
        "load": ", ".join(told_apart(exported)) if found.newest.of_endpoint else "",
        "no_tpot": found.newest.of_endpoint and "endpoint_tpot" not in keys,
        "workload": workload_words(exported),
        "band_definition": gettext(lookback.DEFINITION).format(lookback=found.lookback),
        "step_definition": gettext(steps.DEFINITION),
        "metric": shown,
        "chosen": chosen,
        "tiles": tiles(exported, chosen, request.GET),
        "chart": metric_figure_of(shown, exported, by),
        "by": by,
        "lookbacks": asking.LOOKBACKS,
        "whose": [("", gettext("everybody I see")), *WHOSE],
        "whose_asked": request.GET.get("whose", ""),
        "removed": _removed_by(request.user, found),
        "csv_url": f"{reverse('history:series', args=[key]).rstrip('/')}.csv?{query}",
        "json_url": f"{reverse('history:series', args=[key]).rstrip('/')}.json?{query}",
        "compare_url": _compare_url(found),
        "rows": run_rows(found, shown, editable),
    }
    return render(request, "history/series.html", context)


def metric_figure_of(shown: dict[str, Any] | None, exported: dict[str, Any], by: str) -> dict[str, Any] | None:
    has_value = shown is not None and any(point["value"] is not None for point in shown["points"])
    return charts.metric_figure(shown, exported, by=by) if shown is not None and has_value else None


def _removed_by(user, found: Series) -> list[Mark]:
    """Marks of these runs that the user took away lately: they can put them back."""
    runs = [run.pk for run in found.runs]
    gone = Mark.objects.exclude(deleted_at=None).filter(run__in=runs, by=user).select_related("run")
    return list(gone.order_by("-deleted_at")[:3])


def _compare_url(found: Series) -> str:
    """The newest run beside the ones before it, to look for the reason of a change."""
    ids = [run.public_id for run in found.runs[-4:]]
    return f"{reverse('runs:compare')}?runs={','.join(ids)}" if len(ids) > 1 else ""


@login_required
@require_safe
def series_csv(request: HttpRequest, key: str) -> HttpResponseBase:
    layout = CsvFormat.from_query(request.GET)
    rows = exports.series_rows(exports.series_object(*asking.series_or_404(request, key)))
    return csv_response(f"history-{key[:8]}.csv", exports.SERIES_HEADER, rows, layout)


@login_required
@require_safe
def series_json(request: HttpRequest, key: str) -> HttpResponse:
    return json_response(f"history-{key[:8]}.json", exports.series_object(*asking.series_or_404(request, key)))


# --- marks -----------------------------------------------------------------------------------------------------------


@login_required
@require_POST
def mark(request: UserRequest, public_id: str) -> HttpResponse:
    """Mark a change at a run as expected, or annotate the run."""
    run = get_object_or_404(Run.objects.editable_by(request.user), public_id=public_id, state="done")
    text = request.POST.get("text", "")
    try:
        made = services.add_mark(run=run, by=request.user, kind=request.POST.get("kind", ""), text=text)
    except FieldErrors as error:
        for message in error.errors.values():
            messages.error(request, message)
    else:
        done = (
            gettext("The change is marked as expected.")
            if made.kind == Mark.Kind.EXPECTED
            else gettext("The note is added.")
        )
        messages.success(request, done)
    return _back(run)


def _back(run: Run) -> HttpResponse:
    return redirect(reverse("history:series", args=[run.series]) + "#runs")


def _mark_or_404(request: HttpRequest, pk: int) -> Mark:
    """A mark at a run that the user may change."""
    runs = Run.objects.editable_by(request.user)
    return get_object_or_404(Mark.objects.filter(run__in=runs).select_related("run"), pk=pk)


@login_required
@require_POST
def remove_mark(request: HttpRequest, pk: int) -> HttpResponse:
    gone = _mark_or_404(request, pk)
    services.remove_mark(mark=gone)
    messages.success(request, gettext("The mark is removed. Below the table you can put your own ones back."))
    return _back(gone.run)


@login_required
@require_POST
def restore_mark(request: HttpRequest, pk: int) -> HttpResponse:
    back = _mark_or_404(request, pk)
    try:
        services.restore_mark(mark=back)
    except FieldErrors as error:
        messages.error(request, str(error))
    else:
        messages.success(request, gettext("The mark is back."))
    return _back(back.run)
