"""Saved views: open one, save, change, delete, undo. All of them come back to the list of runs."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from llmcompare.accounts.models import Team
from llmcompare.accounts.requests import UserRequest
from llmcompare.common.errors import FieldErrors
from llmcompare.history import saved
from llmcompare.history.models import SavedView
from llmcompare.runs.exports import json_response


def address_of(view: SavedView) -> str:
    """The list as the view shows it; the address has every control, so it can be changed and sent like any other."""
    return f"{reverse('runs:list')}?{view.query}{'&' if view.query else ''}view={view.public_id}"


@login_required
@require_safe
def open_view(request: HttpRequest, public_id: str) -> HttpResponse:
    return redirect(address_of(get_object_or_404(SavedView.objects.visible_to(request.user), public_id=public_id)))


@login_required
@require_safe
def views_json(request: HttpRequest) -> HttpResponse:
    views = SavedView.objects.visible_to(request.user).select_related("owner", "team")
    lines = [
        {"id": v.public_id, "name": v.name, "query": v.query, "owner": v.owner.username, "team": v.team and v.team.name}
        for v in views
    ]
    return json_response("views.json", {"schema": "llmcompare-views", "schema_version": "1.0", "views": lines})


@login_required
@require_POST
def save(request: UserRequest) -> HttpResponse:
    query, slug = request.POST.get("query", ""), request.POST.get("team", "").replace("\x00", "")
    team = get_object_or_404(Team.objects.filter(members=request.user), slug=slug) if slug else None
    try:
        view = saved.save_view(owner=request.user, name=request.POST.get("name", ""), query=query, team=team)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect(f"{reverse('runs:list')}?{saved.query_of(query)}")
    messages.success(request, gettext("The view “%(name)s” is saved.") % {"name": view.name})
    return redirect(address_of(view))


def _changed(request: HttpRequest, public_id: str, act: Callable[[SavedView], None], done: str) -> HttpResponse:
    view = get_object_or_404(SavedView.objects.editable_by(request.user), public_id=public_id)
    try:
        act(view)
    except FieldErrors as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done.format(view.name))
    view.refresh_from_db()
    return redirect(address_of(view) if view.deleted_at is None else reverse("runs:list"))


@login_required
@require_POST
def change(request: UserRequest, public_id: str) -> HttpResponse:
    query = request.POST.get("query", "")
    return _changed(
        request,
        public_id,
        lambda view: saved.change_view(view=view, query=query),
        gettext("The view “{}” shows this now."),
    )


@login_required
@require_POST
def delete(request: UserRequest, public_id: str) -> HttpResponse:
    done = gettext("The view “{}” is deleted; “Undo” is beside the views.")
    return _changed(request, public_id, lambda view: saved.delete_view(view=view), done)


@login_required
@require_POST
def restore(request: UserRequest, public_id: str) -> HttpResponse:
    return _changed(request, public_id, lambda view: saved.restore_view(view=view), gettext("The view “{}” is back."))
