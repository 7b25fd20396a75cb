"""Sweeps that people kept: save, list, look at, export, delete with undo."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.explore.answers import Exploration
from llmcompare.explore.models import SavedSweep
from llmcompare.explore.presentation import context_of
from llmcompare.explore.querysets import SavedSweepQuerySet
from llmcompare.explore.services import delete_sweep, restore_sweep, save_sweep
from llmcompare.explore.views import asked

PAGE_SIZE = 50


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def sweeps(request: UserRequest) -> HttpResponse:
    """The list; POST keeps the answer to the question that comes along."""
    if request.method == "POST":
        return _save(request)
    found = SavedSweep.objects.visible_to(request.user).select_related("owner", "team").defer("document")
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "explore/sweeps.html", {"page": page})


def _save(request: UserRequest) -> HttpResponse:
    question, query = asked(request)
    given = request.POST
    try:
        made = save_sweep(
            owner=request.user,
            exploration=Exploration(question),
            query=query,
            name=given.get("name", ""),
            visibility=given.get("visibility") or SavedSweep.Visibility.PRIVATE,
            team=request.user.teams.filter(slug=given.get("team", "").replace("\x00", "")).first(),
        )
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('explore:page')}?{query}")
    return redirect("explore:sweep", public_id=made.public_id)


def _sweep_or_404(queryset: SavedSweepQuerySet, public_id: str) -> SavedSweep:
    found = queryset.select_related("owner", "team").filter(public_id=public_id).first()
    if found is None:
        raise Http404(gettext("There is no such sweep, or it is not shared with you."))
    return found


@login_required
@require_safe
def sweep(request: UserRequest, public_id: str) -> HttpResponse:
    found = _sweep_or_404(SavedSweep.objects.visible_to(request.user), public_id)
    heat = found.document.get("heat_map") or {}
    address = reverse("explore:sweep", args=[found.public_id]).rstrip("/")
    context: dict[str, Any] = context_of(found.document, heat.get("series") or 0)
    context |= {
        "sweep": found,
        "asked": True,
        "mine": found.owner_id == request.user.pk,
        "json_url": f"{address}.json",
        "csv_url": f"{address}.csv",
    }
    return render(request, "explore/sweep.html", context)


@login_required
@require_safe
def sweep_json(request: UserRequest, public_id: str) -> HttpResponse:
    return JsonResponse(_sweep_or_404(SavedSweep.objects.visible_to(request.user), public_id).document)


@login_required
@require_safe
def sweep_csv(request: UserRequest, public_id: str) -> HttpResponseBase:
    document = _sweep_or_404(SavedSweep.objects.visible_to(request.user), public_id).document
    return csv_response("sweep.csv", document["header"], document["rows"], CsvFormat.from_query(request.GET))


@login_required
@require_POST
def delete(request: UserRequest, public_id: str) -> HttpResponse:
    """Into the bin; the page that follows offers to undo it."""
    found = _sweep_or_404(SavedSweep.objects.editable_by(request.user), public_id)
    delete_sweep(sweep=found)
    return render(request, "explore/deleted.html", {"sweep": found})


@login_required
@require_POST
def restore(request: UserRequest, public_id: str) -> HttpResponse:
    found = _sweep_or_404(SavedSweep.objects.binned_by(request.user), public_id)
    try:
        restore_sweep(sweep=found)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect("explore:sweeps")
    messages.success(request, gettext("The sweep is back."))
    return redirect("explore:sweep", public_id=found.public_id)
