"""Pages of endpoints: list, new, detail, edit, delete with undo. None of them opens a connection: workers look at servers."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints import presentation, probing, services
from llmcompare.endpoints.forms import EndpointForm
from llmcompare.endpoints.models import Endpoint, Probe
from llmcompare.endpoints.querysets import EndpointQuerySet

PAGE_SIZE = 50
RUNS_SHOWN = 10


def _shown(request: UserRequest) -> EndpointQuerySet:
    found = Endpoint.objects.visible_to(request.user)
    return found.select_related("owner", "team", "hardware", "language_model")


def _searched(request: UserRequest) -> EndpointQuerySet:
    """Those of the list; ``?q=`` is part of the name, the model or the address."""
    asked = request.GET.get("q", "").strip()
    found = _shown(request)
    return (
        found.filter(Q(name__icontains=asked) | Q(model__icontains=asked) | Q(url__icontains=asked)) if asked else found
    )


def _one(found: EndpointQuerySet, public_id: str) -> Endpoint:
    endpoint = found.filter(public_id=public_id).first()
    if endpoint is None:
        raise Http404("There is no such endpoint, or it is not shared with you.")
    return endpoint


def _editable(request: UserRequest, public_id: str) -> Endpoint:
    return _one(Endpoint.objects.editable_by(request.user).select_related("owner", "team"), public_id)


@login_required
@require_safe
def endpoint_list(request: UserRequest) -> HttpResponse:
    active = Prefetch("probes", Probe.objects.filter(state__in=Probe.ACTIVE), to_attr="under_way")
    page = Paginator(_searched(request).prefetch_related(active), PAGE_SIZE).get_page(request.GET.get("page"))
    rows = [(one, presentation.status_of(one, next(iter(one.under_way), None))) for one in page]
    return render(request, "endpoints/list.html", {"page": page, "rows": rows, "asked": request.GET.get("q", "")})


@login_required
@require_safe
def export_csv(request: UserRequest) -> HttpResponseBase:
    rows = presentation.export_rows(_searched(request), request.user)
    return csv_response("endpoints.csv", presentation.EXPORT_HEADER, rows, CsvFormat.from_query(request.GET))


@login_required
@require_safe
def export_list_json(request: UserRequest) -> HttpResponse:
    found = list(presentation.several_json(_searched(request), request.user))
    return JsonResponse({"schema": "llmcompare-endpoints", "schema_version": "1.0", "endpoints": found})


@login_required
@require_safe
def detail(request: UserRequest, public_id: str) -> HttpResponse:
    return _detail(request, _one(_shown(request), public_id))


def _detail(request: UserRequest, endpoint: Endpoint, errors: dict[str, str] | None = None) -> HttpResponse:
    probe = probing.newest(endpoint)
    model, device = presentation.linked(endpoint, request.user)
    listed = (endpoint.probe or {}).get("models")
    runs = getattr(endpoint, "runs", None)
    page = {
        "endpoint": endpoint,
        "status": presentation.status_of(endpoint, probe),
        "abilities": presentation.abilities_of(endpoint),
        "listed": listed,
        "listed_all": presentation.models_count(endpoint.probe) if listed else 0,
        "probe_problem": presentation.said((endpoint.probe or {}).get("models_problem", "")),
        "errors": errors or {},
        "typed": request.POST.get("typed", ""),
        "may_edit": Endpoint.objects.editable_by(request.user).filter(pk=endpoint.pk).exists(),
        "mine": endpoint.owner_id == request.user.pk,
        "language_model": model,
        "hardware": device,
        "plain_http": endpoint.url.startswith("http://"),
        "runs": runs.visible_to(request.user)[:RUNS_SHOWN] if runs is not None else [],
        **_looking(probe),
    }
    return render(request, "endpoints/detail.html", page, status=400 if errors else 200)


def _looking(probe: Probe | None) -> dict[str, Any]:
    """The look that waits, is under way, or failed by a fault of ours."""
    if probe is None:
        return {"probe": None}
    percent = round(probe.progress * 100)
    version = f"{probe.pk} {probe.state} {percent} {probe.message}"
    text = probing.waiting_note(probe) or presentation.said(probe.error or probe.message)
    return {"probe": probe, "percent": percent, "version": version, "look_text": text}


@login_required
@require_safe
def detail_json(request: UserRequest, public_id: str) -> HttpResponse:
    endpoint = _one(_shown(request), public_id)
    shown = presentation.to_json(endpoint, request.user, probing.newest(endpoint))
    return JsonResponse(shown | {"probe": endpoint.probe})


@login_required
@require_safe
def status(request: UserRequest, public_id: str) -> HttpResponse:
    """How far a look is; polled while it is under way (204 when nothing changed since version ``v``), the page anew when it has ended."""
    endpoint = _one(_shown(request), public_id)
    context = {"endpoint": endpoint, **_looking(probing.newest(endpoint))}
    if context["probe"] is None or not context["probe"].is_active:
        response = HttpResponse(status=200)
        response["HX-Refresh"] = "true"
        return response if request.htmx else redirect("endpoints:detail", public_id=public_id)
    if request.htmx and request.GET.get("v") == context["version"]:
        return HttpResponse(status=204)
    return render(request, "endpoints/_status.html", context)


@sensitive_post_parameters("key")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: UserRequest) -> HttpResponse:
    form = EndpointForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            endpoint = services.create(owner=request.user, draft=form.draft())
        except FieldErrors as error:
            form.complain(error)
        else:
            _look_at(request, endpoint, _("{endpoint} is saved.").format(endpoint=endpoint))
            return redirect("endpoints:detail", public_id=endpoint.public_id)
    elif request.method == "POST":
        form.say_that_the_key_is_gone()
    return render(request, "endpoints/edit.html", {"form": form, "endpoint": None})


@sensitive_post_parameters("key")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: UserRequest, public_id: str) -> HttpResponse:
    endpoint = _editable(request, public_id)
    form = EndpointForm(request.POST or None, user=request.user, endpoint=endpoint)
    if request.method == "POST" and form.is_valid():
        try:
            changed = services.update(endpoint=endpoint, by=request.user, draft=form.draft())
        except FieldErrors as error:
            form.complain(error)
        else:
            said = _("{endpoint} is changed.").format(endpoint=endpoint)
            if changed and endpoint.is_openai:
                _look_at(request, endpoint, said)
            else:
                messages.success(request, said)
            return redirect("endpoints:detail", public_id=public_id)
    elif request.method == "POST":
        form.say_that_the_key_is_gone()
    problem = presentation.key_problem(endpoint)
    return render(request, "endpoints/edit.html", {"form": form, "endpoint": endpoint, "key_problem": problem})


def _look_at(request: UserRequest, endpoint: Endpoint, said: str) -> None:
    """Have the endpoint looked at. What was done stands even where that is refused."""
    try:
        probing.ask(endpoint=endpoint, user=request.user)
    except FieldErrors as error:
        messages.warning(request, f"{said} {error}".strip())
    else:
        looks = _("A worker looks at what its server can do.")
        messages.success(request, f"{said} {looks}".strip())


@login_required
@require_POST
def choose_model(request: UserRequest, public_id: str) -> HttpResponse:
    """Another model of the same server: one of its list, or one that is typed, which comes first."""
    endpoint = _editable(request, public_id)
    chosen = request.POST.get("typed", "").strip() or request.POST.get("model", "")
    try:
        changed = services.choose_model(endpoint=endpoint, model=chosen)
    except FieldErrors as error:
        return _detail(request, endpoint, error.errors)
    if changed:
        _look_at(request, endpoint, _("The model is chosen."))
    return redirect("endpoints:detail", public_id=public_id)


@login_required
@require_POST
def look(request: UserRequest, public_id: str) -> HttpResponse:
    """Look at the server again."""
    endpoint = _editable(request, public_id)
    try:
        probing.ask(endpoint=endpoint, user=request.user)
    except FieldErrors as error:
        messages.error(request, str(error))
    return redirect(reverse("endpoints:detail", args=[public_id]))


@login_required
@require_POST
def delete(request: UserRequest, public_id: str) -> HttpResponse:
    """Into the bin; the page that follows offers to undo it."""
    endpoint = _editable(request, public_id)
    try:
        services.delete(endpoint=endpoint)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect("endpoints:detail", public_id=public_id)
    return render(request, "endpoints/deleted.html", {"endpoint": endpoint})


@login_required
@require_POST
def restore(request: UserRequest, public_id: str) -> HttpResponse:
    endpoint = _one(Endpoint.objects.binned_by(request.user), public_id)
    try:
        services.restore(endpoint=endpoint)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect("endpoints:list")
    messages.success(request, _("{endpoint} is back.").format(endpoint=endpoint))
    return redirect("endpoints:detail", public_id=public_id)
