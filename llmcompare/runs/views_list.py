"""History: every run one may see, filtered, sorted and paged by the address alone; .csv and .json export the same rows."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from llmcompare.runs import exports
from llmcompare.runs.filters import DEFAULT_SORT, SORTS, RunFilter
from llmcompare.runs.models import Run
from llmcompare.runs.querysets import RunQuerySet

PAGE_SIZES = (25, 50, 100, 200)
DEFAULT_PAGE_SIZE = 50

#: Sort name, heading, unit, whether it is a number.
COLUMNS = (
    ("model", "Run", "", False),
    ("hardware", "Hardware", "", False),
    ("batch", "Batch", "", True),
    ("input", "In", "tokens", True),
    ("output", "Out", "tokens", True),
    ("dtype", "Type", "", False),
    ("ttft", "TTFT", "", True),
    ("tpot", "TPOT", "", True),
    ("throughput", "Throughput", "tokens/s", True),
    ("memory", "Memory", "", True),
    ("created", "Created", "UTC", False),
)


def chosen_runs(request: HttpRequest) -> tuple[RunFilter, RunQuerySet]:
    """The filter set with its errors, and the rows. A parameter that makes no sense is reported on the page and left out."""
    shown = Run.objects.visible_to(request.user).select_related("owner", "team", "host", "model")
    filters = RunFilter(request.GET, queryset=shown, request=request)
    if not filters.is_valid():
        usable = {k: v for k, v in request.GET.items() if k not in filters.form.errors}
        filters.sound = RunFilter(usable, queryset=shown, request=request)  # type: ignore[attr-defined]
        return filters, filters.sound.qs  # type: ignore[attr-defined]
    return filters, filters.qs


@login_required
@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    filters, rows = chosen_runs(request)
    size = _page_size(request)
    page = Paginator(rows, size).get_page(request.GET.get("page"))
    given = {k: v for k, v in request.GET.items() if v and k not in ("page",)}
    context = {
        "filters": filters,
        "page": page,
        "columns": _columns(given),
        "size": size,
        "sizes": [(n, _link(given, size=n)) for n in PAGE_SIZES],
        "filtered": any(k in RunFilter.base_filters and k != "sort" for k in given),
        "query": urlencode({k: v for k, v in given.items() if k != "size"}),
        "previous": _link(given, page=page.previous_page_number()) if page.has_previous() else None,
        "next": _link(given, page=page.next_page_number()) if page.has_next() else None,
        "active": any(run.is_active for run in page),
        "here": _link(given, page=page.number),
    }
    return render(request, "runs/list.html", context)


def _page_size(request: HttpRequest) -> int:
    raw = request.GET.get("size", "")
    return int(raw) if raw.isdecimal() and int(raw) in PAGE_SIZES else DEFAULT_PAGE_SIZE


def _link(given: dict, **changes) -> str:
    return "?" + urlencode(given | changes)


def _columns(given: dict) -> list[dict]:
    """Headings with the link that sorts by them: numbers and dates start with the largest, names with A."""
    now = given.get("sort", DEFAULT_SORT)
    if now.lstrip("-") not in SORTS:
        now = DEFAULT_SORT
    columns = []
    for name, title, unit, numeric in COLUMNS:
        current = now.lstrip("-") == name
        down_first = numeric or name == "created"
        turned = now.removeprefix("-") if now.startswith("-") else f"-{now}"
        target = turned if current else f"-{name}" if down_first else name
        columns.append(
            {
                "title": title,
                "unit": unit,
                "numeric": numeric,
                "link": _link(given, sort=target),
                "sorted": ("descending" if now.startswith("-") else "ascending") if current else "",
            }
        )
    return columns


@login_required
@require_safe
def runs_csv(request: HttpRequest) -> HttpResponse:
    return exports.runs_csv(request, chosen_runs(request)[1])


@login_required
@require_safe
def runs_json(request: HttpRequest) -> HttpResponse:
    return exports.runs_json(request, chosen_runs(request)[1])


def _exported(request: HttpRequest, public_id: str) -> Run:
    shown = Run.objects.visible_to(request.user).select_related("owner", "team", "host", "document")
    return get_object_or_404(shown, public_id=public_id)


@login_required
@require_safe
def run_csv(request: HttpRequest, public_id: str) -> HttpResponse:
    return exports.run_csv(request, _exported(request, public_id))


@login_required
@require_safe
def run_json(request: HttpRequest, public_id: str) -> HttpResponse:
    return exports.run_json(request, _exported(request, public_id))
