"""What history adds to pages of runs: tags, notes and comments of a run, saved views of the list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import template
from django.db.models import Q
from django.utils import timezone

from llmcompare.history.models import Comment, NotesEdit, SavedView
from llmcompare.history.saved import normal_query
from llmcompare.runs.models import Run

register = template.Library()

#: Key of the session under which a text that was refused waits for its form.
LOST_TEXT = "refused_text"
MOST_VIEWS = 60
#: How long the last deleted view is offered back.
UNDO_FOR = timedelta(days=1)


@register.inclusion_tag("history/_talk.html", takes_context=True)
def run_talk(context: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Tags, notes and comments of ``run``, for a page that its reader may see; ``editable`` of the context: whether they may change it."""
    request = context["request"]
    user = request.user
    lost = request.session.get(LOST_TEXT) or {}
    if lost.get("run") == run.public_id:
        request.session.pop(LOST_TEXT)
    else:
        lost = {}
    editable = context.get("editable", False)
    comments = list(Comment.objects.filter(Q(deleted_at=None) | Q(by=user), run=run).select_related("by"))
    removed = [c for c in comments if c.deleted_at][::-1]
    return {
        "request": request,
        "user": user,
        "csrf_token": context.get("csrf_token"),
        "run": run,
        "tags": list(run.tags.all()),
        "editable": editable,
        "comments": [c for c in comments if not c.deleted_at],
        "removed": removed[:3],
        "notes_undo": NotesEdit.objects.filter(run=run).select_related("by").first() if editable else None,
        "lost": {lost["field"]: lost["text"]} if lost else {},
    }


@register.inclusion_tag("history/_views.html", takes_context=True)
def saved_views(context: Mapping[str, Any]) -> dict[str, Any]:
    """The saved views above the list of runs, the one that is open, and the form to save what the address shows."""
    request = context["request"]
    user = request.user
    views = list(SavedView.objects.visible_to(user).select_related("owner", "team")[:MOST_VIEWS])
    current = next((view for view in views if view.public_id == request.GET.get("view")), None)
    query = normal_query(request.GET)
    editable = set(SavedView.objects.editable_by(user).values_list("pk", flat=True)) if current else set()
    return {
        "request": request,
        "user": user,
        "csrf_token": context.get("csrf_token"),
        "views": views,
        "current": current,
        "current_editable": current is not None and current.pk in editable,
        "changed": current is not None and current.query != query,
        "query": query,
        "teams": user.teams.filter(membership__role="editor").distinct(),
        "removed": SavedView.objects.filter(owner=user, deleted_at__gte=timezone.now() - UNDO_FOR)
        .order_by("-deleted_at")
        .first(),
    }
