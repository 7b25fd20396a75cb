"""One action on several runs of the list. Boxes and buttons are a plain form: it works without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_POST

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.errors import FieldErrors
from llmcompare.runs import exports
from llmcompare.runs.models import Run
from llmcompare.runs.services import cancel_run, delete_run, restore_run
from llmcompare.runs.tagging import add_tags, remove_tags

#: Runs of one action at most: a page of the list holds no more.
MOST = 200


@login_required
@require_POST
def bulk(request: UserRequest) -> HttpResponseBase:
    """``action`` on every ``run`` of the form. What the user may not see is left out without a word of its own; what they see but may not
    change is counted in the answer."""
    act = ACTIONS.get(request.POST.get("action", ""))
    ids = list(dict.fromkeys(public_id[:22] for public_id in request.POST.getlist("run")))[:MOST]
    if act is None:
        messages.error(request, gettext("Choose what to do with the ticked runs."))
        return _back(request)
    if not ids:
        messages.error(request, gettext("Tick some runs first."))
        return _back(request)
    return act(request, [public_id.replace("\x00", "") for public_id in ids])


def _back(request: UserRequest) -> HttpResponse:
    """To the list as it was: the form says where it came from."""
    target = request.POST.get("next", "")
    safe = target.startswith("/") and url_has_allowed_host_and_scheme(target, allowed_hosts=None)
    return redirect(target if safe else reverse("runs:list"))


def _editable(request: UserRequest, ids: Sequence[str]) -> list[Run]:
    """Those of the runs that the user may change; says how many of the others they see."""
    visible = Run.objects.visible_to(request.user).filter(public_id__in=ids).count()
    runs = list(Run.objects.editable_by(request.user).filter(public_id__in=ids))
    if visible > len(runs):
        messages.warning(
            request,
            ngettext(
                "%(count)s run left as before: you may look at it, not change it.",
                "%(count)s runs left as before: you may look at them, not change them.",
                visible - len(runs),
            )
            % {"count": visible - len(runs)},
        )
    return runs


def _compare(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    return redirect(f"{reverse('runs:compare')}?{urlencode({'runs': ','.join(ids)}, safe=',')}")


def _export(kind: str) -> Callable[[UserRequest, Sequence[str]], HttpResponseBase]:
    def export(request: UserRequest, ids: Sequence[str]) -> HttpResponseBase:
        runs = Run.objects.visible_to(request.user).filter(public_id__in=ids)
        return exports.runs_csv(request, runs) if kind == "csv" else exports.runs_json(request, runs)

    return export


def _tag(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    runs = _editable(request, ids)
    try:
        names = add_tags(runs=runs, by=request.user, text=request.POST.get("tags", ""))
    except FieldErrors as error:
        messages.error(request, str(error))
    else:
        messages.success(
            request,
            ngettext("%(count)s run tagged %(tags)s.", "%(count)s runs tagged %(tags)s.", len(runs))
            % {"count": len(runs), "tags": ", ".join(names)},
        )
    return _back(request)


def _untag(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    removed = remove_tags(runs=_editable(request, ids), text=request.POST.get("tags", ""))
    if removed:
        messages.success(
            request, ngettext("%(count)s tag taken off.", "%(count)s tags taken off.", removed) % {"count": removed}
        )
    else:
        messages.info(request, gettext("None of these runs has such a tag. Name it in the field beside the button."))
    return _back(request)


def _cancel(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    active = [run for run in _editable(request, ids) if run.is_active]
    for run in active:
        cancel_run(run=run)
    messages.success(
        request,
        ngettext(
            "%(count)s run cancelled; one that runs stops within a second or two.",
            "%(count)s runs cancelled; one that runs stops within a second or two.",
            len(active),
        )
        % {"count": len(active)},
    )
    return _back(request)


def _delete(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    runs = _editable(request, ids)
    for run in runs:
        delete_run(run=run)
    return render(request, "runs/deleted_several.html", {"runs": runs, "next": request.POST.get("next", "")})


def _restore(request: UserRequest, ids: Sequence[str]) -> HttpResponse:
    runs = list(Run.objects.binned_by(request.user).filter(public_id__in=ids))
    for run in runs:
        restore_run(run=run)
    messages.success(request, ngettext("%(count)s run back.", "%(count)s runs back.", len(runs)) % {"count": len(runs)})
    return _back(request)


ACTIONS: dict[str, Callable[[UserRequest, Sequence[str]], HttpResponseBase]] = {
    "compare": _compare,
    "tag": _tag,
    "untag": _untag,
    "cancel": _cancel,
    "delete": _delete,
    "restore": _restore,
    "csv": _export("csv"),
    "json": _export("json"),
}
