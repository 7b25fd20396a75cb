"""Notices: the list, the bell of every page, and what one wants to be told."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import BootstrapForm, add_errors
from llmcompare.history import notices
from llmcompare.history.models import NoticeSettings
from llmcompare.runs.exports import json_response

SHOWN = 100
TOASTS = 3
HEADER = ("run", "name", "state", "ended", "seen", "mail", "mail_error")


class NoticeForm(BootstrapForm, forms.Form):
    page = forms.BooleanField(
        label=_("Tell me on the pages"),
        required=False,
        help_text=_("A bell with a number, and a line when a run ends while you are here."),
    )
    mail = forms.BooleanField(label=_("Send me an e-mail"), required=False)
    at_least_s = forms.IntegerField(
        label=_("Only for runs that took at least (seconds)"), min_value=0, max_value=notices.LONGEST_S, initial=60
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def notice_settings(request: UserRequest) -> HttpResponse:
    chosen = NoticeSettings.objects.filter(user=request.user).first()
    initial = {name: getattr(chosen, name) for name in NoticeForm.base_fields} if chosen else None
    form = NoticeForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            notices.choose(user=request.user, **form.cleaned_data)
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            messages.success(request, gettext("Saved."))
            return redirect("history:notice-settings")
    page = {"form": form, "mail_works": bool(settings.EMAIL_HOST)}
    return render(request, "history/notice_settings.html", page, status=422 if form.errors else 200)


def _lines(user) -> list[dict]:
    return [
        {
            "run": notice.run.public_id,
            "name": str(notice.run),
            "state": notice.run.state,
            "ended": notice.run.finished,
            "seen": notice.seen_at,
            "mail": notice.mail or None,
            "mail_error": notice.mail_error,
        }
        for notice in notices.of(user)[:SHOWN]
    ]


@login_required
@require_safe
def notice_list(request: UserRequest) -> HttpResponse:
    context = {
        "notices": notices.of(request.user)[:SHOWN],
        "chosen": NoticeSettings.objects.filter(user=request.user).first(),
    }
    return render(request, "history/notices.html", context)


@login_required
@require_safe
def notices_json(request: UserRequest) -> HttpResponse:
    body = {"schema": "llmcompare-notices", "schema_version": "1.0", "notices": _lines(request.user)}
    return json_response("notices.json", body)


@login_required
@require_safe
def notices_csv(request: UserRequest) -> HttpResponseBase:
    rows = ([line[name] for name in HEADER] for line in _lines(request.user))
    return csv_response("notices.csv", HEADER, rows, CsvFormat.from_query(request.GET))


@login_required
@require_POST
def seen(request: UserRequest) -> HttpResponse:
    notices.mark_seen(user=request.user)
    return redirect(reverse("history:notices"))


@require_safe
def badge(request: HttpRequest) -> HttpResponse:
    """The bell in the head of every page; 204 for who wants none, or whose session has ended (a log-in page has no place there). ``after``: number of the newest notice that the page knows of; newer
    ones are told in a line. The page asks again now and then."""
    if not request.user.is_authenticated or not NoticeSettings.objects.filter(user=request.user, page=True).exists():
        return HttpResponse(status=204)
    unseen = notices.of(request.user).filter(seen_at=None)
    after = request.GET.get("after", "")
    newest = unseen.order_by("-pk").values_list("pk", flat=True).first() or 0
    known = int(after) if after.isascii() and after.isdigit() and len(after) < 18 else None
    context = {
        "unseen": unseen.count(),
        "newest": max(newest, known or 0),
        "new": [] if known is None else list(unseen.filter(pk__gt=known).order_by("pk")[:TOASTS]),
    }
    return render(request, "history/_bell.html", context)
