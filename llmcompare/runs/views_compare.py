"""Comparison page: 2 to 20 runs side by side. Every control is a GET parameter, so the address is the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from llmcompare.runs import exports
from llmcompare.runs.charts import plain, roofline_figure
from llmcompare.runs.compare import MAX_RUNS, columns_of, comparison
from llmcompare.runs.models import Run

#: Runs offered in the "add a run" list, newest first.
OFFERED = 100


@dataclass(frozen=True)
class Selection:
    """What the address asks for. ``missing`` counts ids that name no run this user can see."""

    runs: list[Run]
    baseline: int
    only_differences: bool
    transposed: bool
    missing: int
    too_many: bool

    @property
    def ids(self) -> list[str]:
        return [run.public_id for run in self.runs]

    def link(self, **changes) -> str:
        """Query string of this comparison with ``changes`` to ids, baseline (an id), only, transpose."""
        ids = changes.get("ids", self.ids)
        pairs = [("runs", ",".join(ids))]
        baseline = changes.get("baseline", self.ids[self.baseline] if self.runs else "")
        if baseline in ids and ids[:1] != [baseline]:
            pairs.append(("baseline", baseline))
        pairs.append(("only", "1" if changes.get("only", self.only_differences) else "0"))
        if changes.get("transpose", self.transposed):
            pairs.append(("transpose", "1"))
        return "?" + urlencode(pairs, safe=",")


def read_selection(request: HttpRequest) -> Selection:
    """Ids come comma-separated in ``runs``, as repeated ``run`` (the check boxes of the list) and as one ``add``; order is kept."""
    asked = [part for value in request.GET.getlist("runs") for part in value.split(",")]
    asked += request.GET.getlist("run") + request.GET.getlist("add")
    ids = list(dict.fromkeys(part.strip() for part in asked if part.strip() and len(part) < 40))
    found = (
        Run.objects.visible_to(request.user)
        .select_related("document", "owner", "team", "host")
        .prefetch_related("metrics")
    )
    by_id = {run.public_id: run for run in found.filter(public_id__in=ids[: 5 * MAX_RUNS])}
    runs = [by_id[name] for name in ids if name in by_id]
    baseline = request.GET.get("baseline", "")
    kept = runs[:MAX_RUNS]
    only = request.GET.get("only")
    return Selection(
        runs=kept,
        baseline=next((i for i, run in enumerate(kept) if run.public_id == baseline), 0),
        only_differences=only == "1" if only in ("0", "1") else len(kept) > 2,
        transposed=request.GET.get("transpose") == "1",
        missing=len(ids) - len(runs),
        too_many=len(runs) > MAX_RUNS,
    )


@login_required
@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    selection = read_selection(request)
    columns = columns_of(selection.runs)
    documents = [column.document for column in columns if column.document]
    context = {
        "selection": selection,
        "columns": [_head(index, column, selection) for index, column in enumerate(columns)],
        "max_runs": MAX_RUNS,
        "offered": _offered(request, selection) if len(columns) < MAX_RUNS else [],
        "links": {
            "differences": selection.link(only=not selection.only_differences),
            "transpose": selection.link(transpose=not selection.transposed),
            "export": selection.link(),
        },
    }
    if columns:
        result = comparison(columns, baseline=selection.baseline, only_differences=selection.only_differences)
        context["result"] = result
        context["transposed"] = _transpose(result, context["columns"]) if selection.transposed else None
        labels = [f"{number}: {plain(column.label)}" for number, column in enumerate(columns, 1) if column.document]
        if documents:
            context["figure"] = roofline_figure(documents, labels)
    return render(request, "runs/compare.html", context)


def _head(index: int, column, selection: Selection) -> dict:
    run = column.run
    return {
        "number": index + 1,
        "run": run,
        "origin": column.origin if column.document else "",
        "random": (column.document.get("model") or {}).get("weights") == "random",
        "is_baseline": index == selection.baseline,
        "baseline_link": selection.link(baseline=run.public_id),
        "remove_link": selection.link(ids=[name for name in selection.ids if name != run.public_id]),
    }


def _transpose(result: dict, heads: list[dict]) -> list[dict]:
    """The metric table with one row per run."""
    return [{"head": head, "cells": [row["cells"][i] for row in result["metrics"]]} for i, head in enumerate(heads)]


def _offered(request: HttpRequest, selection: Selection):
    """Finished runs that may be added, newest first."""
    done = Run.objects.visible_to(request.user).filter(state=Run.State.DONE).exclude(public_id__in=selection.ids)
    return done.only("public_id", "title", "model_name", "hardware_name", "kind", "created", "dtype", "batch_size")[
        :OFFERED
    ]


@login_required
@require_safe
def compare_csv(request: HttpRequest) -> HttpResponse:
    return exports.comparison_csv(request, read_selection(request).runs, baseline=request.GET.get("baseline"))


@login_required
@require_safe
def compare_json(request: HttpRequest) -> HttpResponse:
    return exports.comparison_json(request, read_selection(request).runs, baseline=request.GET.get("baseline"))
