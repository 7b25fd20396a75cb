"""Tags, notes and comments of a run: each POST changes one thing and goes back to the run's page."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.errors import FieldErrors
from llmcompare.history import talk
from llmcompare.history.models import Comment
from llmcompare.history.templatetags.history import LOST_TEXT
from llmcompare.runs import tagging
from llmcompare.runs.exports import json_response, run_filename
from llmcompare.runs.models import Run


def _back(run: Run) -> HttpResponse:
    return redirect(reverse("runs:detail", args=[run.public_id]) + "#talk")


def _done(request: HttpRequest, run: Run, act: Callable[[], object], done: str, *, keep: str = "") -> HttpResponse:
    """Carry out ``act`` and say ``done``, or what is wrong; a text that was refused comes back in its field (``keep`` names it)."""
    try:
        act()
    except FieldErrors as error:
        for message in error.errors.values():
            messages.error(request, message)
        if keep:
            request.session[LOST_TEXT] = {
                "run": run.public_id,
                "field": keep,
                "text": request.POST.get(keep, "")[:50_000],
            }
    else:
        messages.success(request, done)
    return _back(run)


def _editable(request: HttpRequest, public_id: str) -> Run:
    return get_object_or_404(Run.objects.editable_by(request.user), public_id=public_id)


@login_required
@require_POST
def add_tags(request: UserRequest, public_id: str) -> HttpResponse:
    run, text = _editable(request, public_id), request.POST.get("tags", "")
    return _done(
        request, run, lambda: tagging.add_tags(runs=[run], by=request.user, text=text), gettext("The run is tagged.")
    )


@login_required
@require_POST
def remove_tag(request: UserRequest, public_id: str) -> HttpResponse:
    run, text = _editable(request, public_id), request.POST.get("tag", "")
    return _done(request, run, lambda: tagging.remove_tags(runs=[run], text=text), gettext("The tag is removed."))


@login_required
@require_POST
def write_notes(request: UserRequest, public_id: str) -> HttpResponse:
    run, text = _editable(request, public_id), request.POST.get("notes", "")
    done = gettext("The notes are saved. “Undo” beside them takes the change back.")
    return _done(request, run, lambda: talk.write_notes(run=run, by=request.user, text=text), done, keep="notes")


@login_required
@require_POST
def undo_notes(request: UserRequest, public_id: str) -> HttpResponse:
    run = _editable(request, public_id)
    return _done(request, run, lambda: talk.undo_notes(run=run), gettext("The notes are what they were before."))


@login_required
@require_POST
def comment(request: UserRequest, public_id: str) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user), public_id=public_id)
    text = request.POST.get("comment", "")
    said = gettext("The comment is added.")
    return _done(request, run, lambda: talk.add_comment(run=run, by=request.user, text=text), said, keep="comment")


@login_required
@require_safe
def comments_json(request: UserRequest, public_id: str) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user).prefetch_related("tags"), public_id=public_id)
    kept = Comment.objects.kept().filter(run=run).select_related("by")
    body = {
        "schema": "llmcompare-comments",
        "schema_version": "1.0",
        "run": run.public_id,
        "tags": [tag.name for tag in run.tags.all()],
        "notes": run.notes,
        "comments": [{"by": c.by.username, "text": c.text, "created": c.created, "edited": c.edited_at} for c in kept],
    }
    return json_response(run_filename(run, "comments.json"), body)


def _own(request: UserRequest, pk: int) -> Comment:
    return get_object_or_404(talk.own_comments(request.user), pk=pk)


@login_required
@require_POST
def edit_comment(request: UserRequest, pk: int) -> HttpResponse:
    own, text = _own(request, pk), request.POST.get("comment", "")
    return _done(
        request, own.run, lambda: talk.edit_comment(comment=own, text=text), gettext("The comment is changed.")
    )


@login_required
@require_POST
def undo_comment(request: UserRequest, pk: int) -> HttpResponse:
    own = _own(request, pk)
    return _done(request, own.run, lambda: talk.undo_edit(comment=own), gettext("The comment is what it was before."))


@login_required
@require_POST
def delete_comment(request: UserRequest, pk: int) -> HttpResponse:
    own = _own(request, pk)
    return _done(
        request,
        own.run,
        lambda: talk.delete_comment(comment=own),
        gettext("The comment is deleted; it can be put back."),
    )


@login_required
@require_POST
def restore_comment(request: UserRequest, pk: int) -> HttpResponse:
    own = _own(request, pk)
    return _done(request, own.run, lambda: talk.restore_comment(comment=own), gettext("The comment is back."))
