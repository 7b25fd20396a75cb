"""Pages that bring something into a project: upload a model, deploy one (with a confirmation), open models of Model Garden."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from llmcompare.accounts.requests import UserRequest
from llmcompare.cloud import deployments, uploads
from llmcompare.cloud.deployments import Wish
from llmcompare.cloud.forms import DeployForm, UploadForm
from llmcompare.cloud.models import Connection, Deployment, Guard, Operation
from llmcompare.cloud.presentation import usd
from llmcompare.cloud.views import connection_or_404
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import add_errors

Source = Deployment.Source
OPEN_MODELS_SHOWN = 100


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def upload(request: UserRequest, public_id: str) -> HttpResponse:
    found = connection_or_404(Connection.objects.usable_by(request.user), public_id)
    form = UploadForm(request.POST or None, initial={"image": settings.CLOUD_IMAGE})
    if request.method == "POST" and form.is_valid():
        try:
            uploads.upload(connection=found, by=request.user, **form.cleaned_data)
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            messages.info(request, _("The upload waits for a worker. It is listed below; this takes a minute or more."))
            return redirect("cloud:connection", public_id=public_id)
    return render(request, "cloud/upload.html", {"form": form, "connection": found})


@login_required
@require_POST
def delete_model(request: UserRequest, public_id: str, model_id: str) -> HttpResponse:
    found = connection_or_404(Connection.objects.usable_by(request.user), public_id)
    if "sure" not in request.POST:
        model = next((m for m in found.models_found if m["id"] == model_id and m["ours"]), None)
        return render(request, "cloud/model_delete.html", {"connection": found, "model": model})
    try:
        uploads.delete_model(connection=found, by=request.user, model_id=model_id)
    except FieldErrors as error:
        messages.error(request, str(error))
    return redirect("cloud:connection", public_id=public_id)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def deploy(request: UserRequest, public_id: str) -> HttpResponse:
    """The form; then what it would cost, to be confirmed by typing the endpoint's name; then it is stored. ``back`` returns to the form."""
    found = connection_or_404(Connection.objects.usable_by(request.user), public_id)
    given = request.POST or None
    source = (given or request.GET).get("source", "")
    source = source if source in Source.values else Source.MODEL.value
    initial = {"model": request.GET.get("model", ""), "source": source}
    form = DeployForm(given, connection=found, source=source, initial=initial)
    if request.method != "POST" or "back" in request.POST or not form.is_valid():
        return _form(request, found, form, source)
    try:
        wish = _wish(found, dict(form.cleaned_data))
    except FieldErrors as error:
        add_errors(form, error.errors)
        return _form(request, found, form, source)
    # What was shown must be what is confirmed: a price that changed meanwhile is shown anew.
    if "typed" not in request.POST or request.POST.get("price") != _price(wish):
        return _confirm(request, form, wish, {})
    try:
        made = deployments.deploy(user=request.user, wish=wish, typed=request.POST["typed"])
    except FieldErrors as error:
        return _confirm(request, form, wish, error.errors)
    return redirect("cloud:deployment", public_id=made.public_id)


def _wish(connection: Connection, values: dict[str, Any]) -> Wish:
    at = values.pop("at")
    joined = connection.deployments.filter(public_id=at, state="ready").first() if at else None
    if at and joined is None:
        raise FieldErrors({"at": _("Nothing is deployed there any more. Choose another endpoint, or a new one.")})
    return deployments.make_wish(connection=connection, at=joined, **values)


def _price(wish: Wish) -> str:
    return usd(wish.usd_per_hour)


def _form(request: UserRequest, connection: Connection, form: DeployForm, source: str) -> HttpResponse:
    page = {"connection": connection, "form": form, "garden": source == Source.GARDEN, "guard": Guard.get()}
    return render(request, "cloud/deploy.html", page)


def _confirm(request: UserRequest, form: DeployForm, wish: Wish, errors: dict[str, str]) -> HttpResponse:
    page = {
        "connection": wish.connection,
        "wish": wish,
        "garden": wish.source == Source.GARDEN,
        "kept": [(name, form.data.get(name, "")) for name in form.fields if name in form.data],
        "price": _price(wish),
        "one": usd(wish.price.usd_per_hour),
        "whole_lease": usd(None if wish.usd_per_hour is None else wish.usd_per_hour * wish.lease_hours),
        "typed_error": errors.get("typed", ""),
        "errors": [text for name, text in errors.items() if name != "typed"],
        "typed": request.POST.get("typed", ""),
    }
    return render(request, "cloud/confirm.html", page)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def garden(request: UserRequest, public_id: str) -> HttpResponse:
    """Open models as a worker listed them last; POST asks for a new list."""
    found = connection_or_404(Connection.objects.usable_by(request.user), public_id)
    lists = found.operations.filter(kind=Operation.Kind.GARDEN)
    if request.method == "POST":
        if not found.is_allowed:
            messages.error(request, _("An administrator has to allow this connection first."))
        elif not lists.active().exists():
            deployments.ask(connection=found, kind=Operation.Kind.GARDEN, title="", by=request.user)
        return redirect("cloud:garden", public_id=public_id)
    newest, latest = lists.filter(state="done").first(), lists.first()
    text = request.GET.get("q", "").strip().lower()
    everything = (newest.result or []) if newest else []
    matching = [model for model in everything if text in f"{model['name']} {model['title']}".lower()]
    page = {
        "connection": found,
        "newest": newest,
        "latest": latest,
        "open_models": matching[:OPEN_MODELS_SHOWN],
        "count": len(matching),
        "query": request.GET.get("q", ""),
        "deploy": reverse("cloud:deploy", args=[public_id]),
    }
    return render(request, "cloud/garden.html", page)
