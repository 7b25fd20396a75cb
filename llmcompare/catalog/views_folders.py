"""The page of registered folders: what lies under them, and taking a model from there."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from llmcompare.catalog import folders
from llmcompare.catalog.models import Folder
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.engine_texts import engine_text
from llmcompare.common.errors import FieldErrors


@login_required
@require_safe
def folder_list(request: HttpRequest) -> HttpResponse:
    return render(request, "catalog/folders.html", {"contents": folders.contents()})


@login_required
@require_safe
def export_csv(request: HttpRequest) -> HttpResponseBase:
    rows = folders.export_rows(folders.contents())
    return csv_response("folders.csv", folders.EXPORT_HEADER, rows, CsvFormat.from_query(request.GET))


@login_required
@require_safe
def export_json(request: HttpRequest) -> HttpResponse:
    rows = folders.export_rows(folders.contents())
    return JsonResponse({"models": [dict(zip(folders.EXPORT_HEADER, row, strict=True)) for row in rows]})


@login_required
@require_POST
def use(request: HttpRequest, slug: str) -> HttpResponse:
    """Make a model of what lies at ``path``, and go to it; what stands against it is said on the page of folders."""
    folder = get_object_or_404(Folder, slug=slug, active=True)
    try:
        model = folders.use_model(folder=folder, path=request.POST.get("path", ""))
    except FieldErrors as error:
        messages.error(request, engine_text(" ".join(error.errors.values())))
        return redirect("catalog:folders")
    messages.success(request, gettext("%(model)s can be used by everybody here.") % {"model": model})
    return redirect("catalog:detail", slug=model.slug)
