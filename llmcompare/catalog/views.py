"""Pages of models: list, detail, upload, and what the owner of an upload may do."""

from __future__ import annotations

import json

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.catalog import services
from llmcompare.catalog.filters import ModelFilter
from llmcompare.catalog.forms import RenameForm, UploadForm
from llmcompare.catalog.models import LanguageModel
from llmcompare.catalog.presentation import EXPORT_HEADER, export_json, export_row, memory_rows, to_json
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.engine_texts import engine_text
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import add_errors
from llmcompare.common.requests import HtmxRequest
from profiling.client import EngineError

PAGE_SIZE = 50
RUNS_SHOWN = 10


def _filtered(request: HttpRequest) -> ModelFilter:
    return ModelFilter(request.GET, queryset=LanguageModel.objects.visible_to(request.user))


def _own_upload(request: HttpRequest, slug: str) -> LanguageModel:
    return get_object_or_404(LanguageModel.objects.filter(owner=request.user.pk), slug=slug)


@login_required
@require_safe
def model_list(request: HttpRequest) -> HttpResponse:
    found = _filtered(request)
    models = found.qs.defer("config", "facts")
    page = {"filter": found, "page": Paginator(models, PAGE_SIZE).get_page(request.GET.get("page"))}
    return render(request, "catalog/list.html", page)


@login_required
@require_safe
def export_csv(request: HttpRequest) -> HttpResponseBase:
    rows = (export_row(model) for model in _filtered(request).qs.defer("config", "facts"))
    return csv_response("models.csv", EXPORT_HEADER, rows, CsvFormat.from_query(request.GET))


@login_required
@require_safe
def export_list_json(request: HttpRequest) -> HttpResponse:
    return JsonResponse(export_json(_filtered(request).qs))


@login_required
@require_safe
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    model = get_object_or_404(LanguageModel.objects.visible_to(request.user), slug=slug)
    return _detail(request, model)


def _detail(request: HttpRequest, model: LanguageModel, *, inspect_error: str = "") -> HttpResponse:
    page = {
        "model": model,
        "facts": model.facts or {},
        "inspect_error": inspect_error,
        "memory": memory_rows(model),
        "config_text": json.dumps(model.config, indent=2, ensure_ascii=False),
        "edited": services.is_edited(model),
        "mine": model.owner_id == request.user.pk,
        "runs": model.runs.visible_to(request.user)[:RUNS_SHOWN],
    }
    return render(request, "catalog/detail.html", page)


@login_required
@require_safe
def detail_json(request: HttpRequest, slug: str) -> HttpResponse:
    return JsonResponse(to_json(get_object_or_404(LanguageModel.objects.visible_to(request.user), slug=slug)))


@login_required
@require_POST
def inspect(request: HtmxRequest, slug: str) -> HttpResponse:
    """Ask the engine about a model that it was not asked about yet (or could not be). The page does so by itself where scripts run."""
    model = get_object_or_404(LanguageModel.objects.visible_to(request.user), slug=slug)
    problem = ""
    try:
        services.inspect_model(model=model)
    except EngineError as error:
        problem = gettext("The engine could not inspect %(model)s: %(error)s") % {
            "model": model,
            "error": engine_text(str(error)),
        }
    if problem or request.htmx:
        return _detail(request, model, inspect_error=problem)
    return redirect("catalog:detail", slug=slug)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def upload(request: HttpRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            model = services.upload_model(
                owner=request.user, name=form.cleaned_data["name"], config=form.cleaned_data["config"]
            )
        except FieldErrors as error:
            form.add_config_errors(error)
        else:
            messages.success(request, gettext("%(model)s is saved. Only you see it.") % {"model": model})
            return redirect("catalog:detail", slug=model.slug)
    return render(request, "catalog/upload.html", {"form": form})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rename(request: HttpRequest, slug: str) -> HttpResponse:
    model = _own_upload(request, slug)
    form = RenameForm(request.POST or None, initial={"name": model.name})
    if request.method == "POST" and form.is_valid():
        try:
            services.rename_model(model=model, name=form.cleaned_data["name"])
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            return redirect("catalog:detail", slug=slug)
    return render(request, "catalog/rename.html", {"form": form, "model": model})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask (GET), then delete (POST) a model of one's own."""
    model = _own_upload(request, slug)
    if request.method != "POST":
        runs = model.runs.visible_to(request.user).count()
        return render(request, "catalog/delete.html", {"model": model, "runs": runs})
    services.delete_model(model=model)
    messages.success(request, gettext("%(model)s is deleted.") % {"model": model})
    return redirect("catalog:list")
