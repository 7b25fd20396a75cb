"""Two to twenty runs side by side. Every control is in the address, so every view can be bookmarked and sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from llmcompare.common.requests import HtmxRequest
from llmcompare.runs import exports, extract
from llmcompare.runs.compare import MAX_RUNS, columns_of, comparison
from llmcompare.runs.compare_figures import figures, figures_json
from llmcompare.runs.compare_graphs import graphs
from llmcompare.runs.compare_layers import chosen, layers
from llmcompare.runs.filters import RunFilter
from llmcompare.runs.models import Run
from llmcompare.runs.rolediff import diff_json

FOUND = 12
#: Id of what waits on the page for extracts that are being prepared.
PENDING = "pending"


def asked_ids(params: QueryDict) -> list[str]:
    """The runs of the address in its order, each once: ``runs=a,b`` or ``run=a&run=b`` (ticked boxes)."""
    given = ",".join([params.get("runs", ""), *params.getlist("run")]).split(",")
    return list(dict.fromkeys(part for part in given if part))


def _runs(request: HttpRequest) -> tuple[list[Run], int]:
    """The asked runs that this user may see, in the asked order, and how many were left out."""
    ids = asked_ids(request.GET)
    visible = Run.objects.visible_to(request.user).filter(public_id__in=ids[:200])
    found = {
        run.public_id: run
        for run in visible.select_related("extract", "owner", "team", "host").prefetch_related("tags")
    }
    runs = [found[public_id] for public_id in ids if public_id in found]
    return runs, len(ids) - len(runs)


@login_required
@require_safe
def compare(request: HtmxRequest) -> HttpResponse:
    if request.GET.getlist("run"):
        return redirect(f"{reverse('runs:compare')}?{_ticked(request.GET)}")
    runs, missing = _runs(request)
    asks_again = bool(request.htmx) and request.htmx.trigger == PENDING
    if missing and not asks_again:
        messages.warning(
            request,
            gettext("%(count)s of the asked runs could not be found: deleted, or not shared with you.")
            % {"count": missing},
        )
    if len(runs) > MAX_RUNS and not asks_again:
        messages.warning(
            request,
            gettext("%(count)s runs were asked for; the first %(most)s are compared.")
            % {"count": len(runs), "most": MAX_RUNS},
        )
    context = _context(request, runs[:MAX_RUNS])
    if asks_again:
        # The page asks whether what it misses is there; each time it asks, some of it is made. Then the whole page is loaded anew.
        return HttpResponse(status=204) if context["pending"] else HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "runs/compare.html", context)


def _ticked(params: QueryDict) -> str:
    query = params.copy()
    query["runs"] = ",".join(asked_ids(params))
    query.pop("run")
    return query.urlencode(safe=",")


def _context(request: HttpRequest, runs: list[Run]) -> dict[str, Any]:
    ids = [run.public_id for run in runs]
    context: dict[str, Any] = {"runs": runs, "ids": ",".join(ids), "max_runs": MAX_RUNS, **_candidates(request, ids)}
    context["removals"] = {run.public_id: _without(request.GET, ids, run.public_id) for run in runs}
    if len(runs) < 2:
        return context | {"pending": False}
    asked = request.GET.get("baseline")
    baseline = ids.index(asked) if asked in ids else 0
    only_differences = request.GET.get("diff", "1" if len(runs) > 2 else "0") == "1"
    columns = columns_of(runs, within=extract.PAGE_S)
    table = comparison(columns, baseline=baseline, only_differences=only_differences)
    heads = [
        {
            "column": column,
            "remove": _without(request.GET, ids, column.run.public_id),
            "is_baseline": n == baseline,
            "in_turns": _in_turns(columns[baseline].run, column.run),
        }
        for n, column in enumerate(columns)
    ]
    query = request.GET.copy()
    return context | {
        "table": table,
        "heads": heads,
        "by_run": _by_run(table, heads),
        "baseline": columns[baseline],
        "to_share": ",".join([ids[baseline], *ids[:baseline], *ids[baseline + 1 :]]),
        "pending": any(column.pending for column in columns),
        "only_differences": only_differences,
        "transposed": request.GET.get("transpose") == "1",
        "csv_url": f"{reverse('runs:compare-csv')}?{query.urlencode(safe=',')}",
        "json_url": f"{reverse('runs:compare-json')}?{query.urlencode(safe=',')}",
        "layers": layers(request.GET, columns, baseline),
        "graphs": graphs(request.GET, columns, baseline),
        **figures(request.GET, columns, table),
    }


def _without(params: QueryDict, ids: list[str], public_id: str) -> str:
    """The address of the comparison without one run."""
    query = params.copy()
    query["runs"] = ",".join(other for other in ids if other != public_id)
    if query.get("baseline") == public_id:
        query.pop("baseline")
    return f"?{query.urlencode(safe=',')}"


def _in_turns(base: Run, run: Run) -> str:
    """Where to have two measurements of one host measured again, in turns; empty where they cannot be."""
    measured = all(side.kind == Run.Kind.MEASURE and side.host_id for side in (base, run))
    if not measured or base.pk == run.pk or base.host_id != run.host_id:
        return ""
    return f"{reverse('runs:new')}?{urlencode({'from': run.public_id, 'against': base.public_id})}"


def _by_run(table: dict[str, Any], heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transposed table: one row per run, first its conditions, then its figures."""
    return [
        head
        | {
            "conditions": [row["cells"][at] for row in table["conditions"]],
            "metrics": [row["cells"][at] for row in table["metrics"]],
        }
        for at, head in enumerate(heads)
    ]


def _candidates(request: HttpRequest, ids: list[str]) -> dict[str, Any]:
    """Runs to add: those that match the search, else the latest; only finished ones have something to compare."""
    search = request.GET.get("add", "").strip()[:200]
    visible = Run.objects.visible_to(request.user).filter(state="done").exclude(public_id__in=ids)
    found = RunFilter({"q": search}, queryset=visible, request=request).qs[:FOUND] if len(ids) < MAX_RUNS else []
    query = request.GET.copy()
    query.pop("add", None)
    lines = []
    for run in found:
        query["runs"] = ",".join([*ids, run.public_id])
        lines.append({"run": run, "url": f"?{query.urlencode(safe=',')}"})
    return {"search": search, "found": lines}


@login_required
@require_safe
def compare_csv(request: HttpRequest) -> HttpResponseBase:
    runs, baseline = _runs(request)[0][:MAX_RUNS], request.GET.get("baseline")
    return exports.comparison_csv(request, runs, baseline=baseline, layers=_layers_json(request, runs, baseline))


@login_required
@require_safe
def compare_json(request: HttpRequest) -> HttpResponse:
    runs, baseline = _runs(request)[0][:MAX_RUNS], request.GET.get("baseline")
    with translation.override("en"):  # programs read it, whatever the language of the pages
        return exports.comparison_json(
            request,
            runs,
            baseline=baseline,
            layers=_layers_json(request, runs, baseline),
            charts=_charts_json(request, runs, baseline),
        )


def _at(runs: list[Run], baseline: str | None) -> int:
    ids = [run.public_id for run in runs]
    return ids.index(baseline) if baseline in ids else 0


def _layers_json(request: HttpRequest, runs: list[Run], baseline: str | None) -> dict[str, Any] | None:
    """The layers of the page at the same address; None with fewer than two runs."""
    if len(runs) < 2:
        return None
    columns = columns_of(runs)
    return diff_json(chosen(request.GET, columns, _at(runs, baseline)), columns)


def _charts_json(request: HttpRequest, runs: list[Run], baseline: str | None) -> dict[str, Any] | None:
    """The numbers of the charts of the page at the same address."""
    if len(runs) < 2:
        return None
    columns, at = columns_of(runs), _at(runs, baseline)
    table = comparison(columns, baseline=at)
    return figures_json(request.GET, columns, table, graphs(request.GET, columns, at))
