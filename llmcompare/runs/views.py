"""The dashboard, the history of runs, and their exports."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from hardware.models import Hardware, Host
from llmcompare.catalog.models import LanguageModel
from llmcompare.runs import columns, exports
from llmcompare.runs.endpointpage import served_part
from llmcompare.runs.filters import RunFilter
from llmcompare.runs.graphfiles import graph_file
from llmcompare.runs.models import Run, RunTag
from llmcompare.runs.querysets import RunQuerySet

PAGE_SIZES = (25, 50, 100, 200)
DEFAULT_PAGE_SIZE = 50
RECENT = 8
#: Parameters that do not narrow the list.
OF_THE_VIEW = ("page", "size", "sort", "columns", "view")
#: Filters that are folded away until one of them is used.
MORE_FILTERS = ("kind", "dtype", "tag", "after", "before", "size")


@login_required
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    mine = Run.objects.kept().filter(owner=request.user)
    counts = mine.aggregate(all=Count("pk"), active=Count("pk", filter=Q(state__in=["queued", "running"])))
    context = {
        "counts": counts,
        "recent": mine[:RECENT],
        "compact_columns": columns.COMPACT,
        "models": LanguageModel.objects.visible_to(request.user).count(),
        "hardware_count": Hardware.objects.visible_to(request.user).count(),
        "hosts": list(Host.objects.online().select_related("hardware")),
        "ready_model": LanguageModel.objects.visible_to(request.user).filter(weights="local", kind="decoder").first(),
    }
    return render(request, "runs/dashboard.html", context)


@login_required
@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    """Everything the user may see, narrowed and sorted by the address."""
    if "col" in request.GET:
        return redirect(f"{reverse('runs:list')}?{_with_columns(request.GET)}")
    shown_columns = columns.chosen_columns(request.GET)
    visible = Run.objects.visible_to(request.user)
    chosen = RunFilter(request.GET, queryset=visible, request=request)
    page = Paginator(chosen.qs.select_related("owner", "host").prefetch_related("tags"), _page_size(request)).get_page(
        request.GET.get("page")
    )
    shown = [run.pk for run in page]
    context = {
        "page": page,
        "filter": chosen,
        "narrowed": any(value for name, value in request.GET.items() if name not in OF_THE_VIEW),
        "columns": shown_columns,
        "columns_query": _columns_query(request.GET, shown_columns),
        "tags_column": any(column.key == "tags" for column in shown_columns),
        "all_columns": columns.COLUMNS,
        "kept_parameters": [(name, value) for name, value in request.GET.items() if name not in ("columns", "col")],
        "more_open": any(request.GET.get(name) for name in MORE_FILTERS),
        "sort": chosen.sort_in_use,
        "page_size": page.paginator.per_page,
        "page_sizes": PAGE_SIZES,
        "models": _names(visible, "model__slug", "model_name"),
        "devices": _names(visible, "hardware__slug", "hardware_name"),
        "known_tags": RunTag.objects.filter(run__in=visible)
        .order_by("name")
        .values_list("name", flat=True)
        .distinct()[:200],
        "editable": set(Run.objects.editable_by(request.user).filter(pk__in=shown).values_list("pk", flat=True)),
        "csv_url": f"{reverse('runs:csv')}?{request.GET.urlencode()}",
        "json_url": f"{reverse('runs:json')}?{request.GET.urlencode()}",
    }
    return render(request, "runs/list.html", context)


def _columns_query(params: QueryDict, shown: Sequence[columns.Column]) -> str:
    """The chosen columns as the address has them; empty for the usual ones."""
    return ",".join(column.key for column in shown) if params.get("columns") and shown != columns.DEFAULT else ""


def _with_columns(params: QueryDict) -> str:
    """The address with the ticked boxes (``col=a&col=b``) as one parameter; the button "as usual" leaves it out."""
    query, ticked = params.copy(), params.getlist("col")
    query.pop("col")
    query.pop("columns", None)
    if "default" not in ticked:
        query["columns"] = ",".join(column.key for column in columns.COLUMNS if column.key in ticked)
    return query.urlencode(safe=",")


def _page_size(request: HttpRequest) -> int:
    asked = request.GET.get("size", "")
    return int(asked) if asked in map(str, PAGE_SIZES) else DEFAULT_PAGE_SIZE


def _names(runs: RunQuerySet, slug: str, name: str) -> list[tuple[str, str]]:
    """What there is to choose from: the models (or devices) of the runs that the user may see."""
    pairs = runs.exclude(**{slug: None}).order_by(name).values_list(slug, name).distinct()[:500]
    return list(dict(pairs).items())


@login_required
@require_safe
def row(request: HttpRequest, public_id: str) -> HttpResponse:
    """One line of a list, polled while its run is active: 204 when nothing changed since version ``v``."""
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related("owner", "host"), public_id=public_id)
    if request.GET.get("v") == row_version(run):
        return HttpResponse(status=204)
    editable = Run.objects.editable_by(request.user).filter(pk=run.pk).values_list("pk", flat=True)
    compact = request.GET.get("compact") == "1"
    shown = columns.COMPACT if compact else columns.chosen_columns(request.GET)
    context = {
        "run": run,
        "editable": set(editable),
        "compact": compact,
        "columns": shown,
        "columns_query": _columns_query(request.GET, shown),
        "tags_column": any(column.key == "tags" for column in shown),
    }
    return render(request, "runs/_row.html", context)


def row_version(run: Run) -> str:
    """Changes whenever the line of an active run would look different."""
    return f"{run.state}-{round(run.progress * 100)}"


@login_required
@require_safe
def rerun(request: HttpRequest, public_id: str) -> HttpResponse:
    """The new-run form with the settings of this run."""
    run = get_object_or_404(Run.objects.visible_to(request.user), public_id=public_id)
    return redirect(f"{reverse('runs:new')}?from={run.public_id}")


# --- exports: the same address with .csv or .json --------------------------------------------------------------------


def _chosen(request: HttpRequest) -> RunQuerySet:
    return RunFilter(request.GET, queryset=Run.objects.visible_to(request.user), request=request).qs


@login_required
@require_safe
def list_csv(request: HttpRequest) -> HttpResponseBase:
    return exports.runs_csv(request, _chosen(request))


@login_required
@require_safe
def list_json(request: HttpRequest) -> HttpResponseBase:
    return exports.runs_json(request, _chosen(request))


def _exported(request: HttpRequest, public_id: str) -> Run:
    runs = Run.objects.visible_to(request.user).select_related("owner", "team", "host", "document")
    return get_object_or_404(runs, public_id=public_id)


@login_required
@require_safe
def run_csv(request: HttpRequest, public_id: str) -> HttpResponseBase:
    return exports.run_csv(request, _exported(request, public_id))


@login_required
@require_safe
def run_json(request: HttpRequest, public_id: str) -> HttpResponse:
    return exports.run_json(request, _exported(request, public_id))


@login_required
@require_safe
def run_graph(request: HttpRequest, public_id: str, suffix: str) -> HttpResponse:
    run = _exported(request, public_id)
    return graph_file(request, run, served_part(exports.document_of(run)), suffix)
