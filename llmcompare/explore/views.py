"""The what-if page: every control is a GET parameter, so every view of it is a permalink; the same address exports it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.explore import making
from llmcompare.explore.answers import ROW_HEADER, Exploration
from llmcompare.explore.asked import ExploreForm, Question, read
from llmcompare.explore.controls import controls
from llmcompare.explore.models import SavedSweep, StoredForm
from llmcompare.explore.presentation import context_of
from llmcompare.explore.services import ask_for_forms, keep_device, run_point
from llmcompare.runs.queues import ESTIMATE_QUEUE, live_hosts

#: Longest address that is kept: far beyond what all controls together fill.
MOST_CHARACTERS = 8000
#: Of a state, not of the question.
_PASSING = ("v", "csrfmiddlewaretoken")


def short_query(query: QueryDict) -> str:
    """The question as the shortest address that asks it: what is empty or as it is by itself is left out."""
    plain = {name: str(f.initial) for name, f in ExploreForm.base_fields.items() if f.initial is not None}
    plain |= {name: str(option) for name, option in _OPTION_DEFAULTS.items()}
    pairs = [
        (name, value)
        for name, values in query.lists()
        for value in values
        if value.strip() and name not in _PASSING and plain.get(name) != value
    ]
    return urlencode(pairs)[:MOST_CHARACTERS]


def _option_defaults() -> dict[str, Any]:
    from llmcompare.runs.options import OPTIONS

    return {option.name: option.default for option in OPTIONS if option.default is not None}


_OPTION_DEFAULTS = _option_defaults()


def _url(query: str) -> str:
    return f"{reverse('explore:page')}?{query}" if query else reverse("explore:page")


@login_required
@require_safe
def page(request: UserRequest) -> HttpResponse:
    question = read(request.GET, request.user)
    context = _answer_context(request, question, short_query(request.GET))
    return render(request, "explore/page.html", context | controls(request.user, question))


@login_required
@require_safe
def answer(request: UserRequest) -> HttpResponse:
    """The answer alone, swapped into the page while sliders move or a form is being made (204 when nothing changed since ``v``)."""
    question = read(request.GET, request.user)
    query = short_query(request.GET)
    context = _answer_context(request, question, query)
    if not request.htmx:
        return redirect(_url(query))
    if context["version"] and request.GET.get("v") == context["version"]:
        return HttpResponse(status=204)
    response = render(request, "explore/_answer.html", context)
    response["HX-Replace-Url"] = _url(query)
    return response


def _answer_context(request: UserRequest, question: Question, query: str) -> dict[str, Any]:
    exploration = Exploration(question)
    document = exploration.document()
    focus = question.values.get("heat_of") or 0
    context = context_of(document, focus)
    waiting = [item for item in exploration.series if item.state == "making"]
    missing = [item for item in exploration.series if item.state == "missing" or item.stale]
    context |= {
        "question": question,
        "asked": bool(question.models and question.places),
        "query": query,
        "json_url": f"{reverse('explore:json')}?{query}",
        "csv_url": f"{reverse('explore:csv')}?{query}",
        "making": [item.form for item in {i.form.pk: i for i in waiting if i.form}.values()],
        "missing": missing,
        "may_cancel": any(item.form and item.form.asked_by_id == request.user.pk for item in waiting),
        "no_worker": bool(waiting) and not live_hosts(ESTIMATE_QUEUE),
        "version": _version(exploration),
        "run_links": {item.index: _run_link(item, question) for item in exploration.series},
        "scaled": not question.errors and question.is_scaled,
        "visibilities": SavedSweep.Visibility.choices,
        "run_key": uuid4().hex,
    }
    context["shorter"] = _shorter(exploration, query)
    for item in context["problems"]:
        item["run_url"] = context["run_links"].get(item["index"], "")
    return context


def _shorter(exploration: Exploration, query: str) -> dict[str, Any] | None:
    """The question with lengths that every model of it takes, where one refused them."""
    fields = {"input_tokens", "output_tokens"}
    refused = [item for item in exploration.series if fields & set(item.wrong)]
    limits = [item.model.max_context for item in refused if item.model.max_context]
    if not limits:
        return None
    asked = exploration.question.values
    given = min(asked["input_tokens"], max(1, min(limits) // 2))
    wanted = min(asked["output_tokens"], max(1, min(limits) // 4))
    after = QueryDict(query, mutable=True)
    after["input_tokens"], after["output_tokens"] = str(given), str(wanted)
    return {"input": given, "output": wanted, "query": after.urlencode()}


def _version(exploration: Exploration) -> str:
    """Changes whenever a form that is being made is further on; "" when none is."""
    active = [item.form for item in exploration.series if item.state == "making" and item.form]
    if not active:
        return ""
    done = sum(item.state == "ready" for item in exploration.series)
    return f"{done}-" + "-".join(f"{f.pk}.{f.state}.{f.attempt}.{round(f.progress * 100)}" for f in active)


def _run_link(item: Any, question: Question) -> str:
    """The form of a new run, filled in with the point."""
    if question.errors or question.is_scaled:
        return ""
    values = {"kind": "estimate", "model": item.model.slug, "hardware": item.place.key}
    return f"{reverse('runs:new')}?{urlencode(values | question.form.workload())}"


@login_required
@require_safe
def page_json(request: UserRequest) -> HttpResponse:
    exploration = Exploration(read(request.GET, request.user))
    return JsonResponse(exploration.document(), status=400 if exploration.question.errors else 200)


@login_required
@require_safe
def page_csv(request: UserRequest) -> HttpResponseBase:
    exploration = Exploration(read(request.GET, request.user))
    if exploration.question.errors:
        raise BadRequest(" ".join(exploration.question.errors.values()))
    return csv_response("explore.csv", ROW_HEADER, exploration.rows(), CsvFormat.from_query(request.GET))


# --- what changes something: the question comes as a field ---


def asked(request: UserRequest) -> tuple[Question, str]:
    """The question that a form sends along, and its address."""
    query = QueryDict(request.POST.get("query", "")[:MOST_CHARACTERS])
    return read(query, request.user), short_query(query)


@login_required
@require_POST
def make_forms(request: UserRequest) -> HttpResponse:
    """Have every form made that the question misses."""
    question, query = asked(request)
    try:
        ask_for_forms(user=request.user, exploration=Exploration(question))
    except FieldErrors as error:
        messages.error(request, str(error))
    return redirect(_url(query))


@login_required
@require_POST
def cancel_forms(request: UserRequest) -> HttpResponse:
    """Stop making what this user asked for; what somebody else waits for goes on."""
    question, query = asked(request)
    for item in Exploration(question).series:
        if item.form is not None and item.form.is_active and item.form.asked_by_id == request.user.pk:
            making.cancel(form=StoredForm.objects.defer("data").get(pk=item.form.pk))
    return redirect(_url(query))


@login_required
@require_POST
def run(request: UserRequest) -> HttpResponse:
    question, query = asked(request)
    exploration = Exploration(question)
    index = request.POST.get("series", "")
    if not index.isdecimal() or len(index) > 3 or int(index) >= len(exploration.series):
        raise Http404(gettext("There is no such line in this answer."))
    try:
        key = request.POST.get("key", "").replace("\x00", "")[:64]
        made = run_point(owner=request.user, exploration=exploration, index=int(index), idempotency_key=key)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect(_url(query))
    return redirect("runs:detail", public_id=made.public_id)


@login_required
@require_POST
def device(request: UserRequest) -> HttpResponse:
    """Keep a place with its factors as a device of one's own, and ask the question for it."""
    question, query = asked(request)
    place = next((p for p in question.places if p.key == request.POST.get("hardware")), None)
    if place is None:
        raise Http404(gettext("There is no such hardware in this question."))
    try:
        made = keep_device(owner=request.user, place=place, question=question)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect(_url(query))
    after = QueryDict(query, mutable=True)
    for name in ("x_bandwidth", "x_flops", "x_memory"):
        after.pop(name, None)
    after.setlist("hardware", [made.slug if key == place.key else key for key in after.getlist("hardware")])
    messages.success(request, gettext("%(made)s is yours now. Only you see it.") % {"made": made})
    return redirect(_url(after.urlencode()))
