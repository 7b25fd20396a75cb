"""The page of one deployment: how far it is, what it costs, how long it lasts, and how to end it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.cloud import deployments
from llmcompare.cloud.forms import ExtendForm
from llmcompare.cloud.models import Connection, Deployment
from llmcompare.cloud.presentation import shown
from llmcompare.cloud.querysets import DeploymentQuerySet
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import add_errors
from llmcompare.endpoints.models import Endpoint


def deployment_or_404(queryset: DeploymentQuerySet, public_id: str) -> Deployment:
    found = queryset.select_related("connection", "owner", "endpoint").filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such deployment, or it is not shared with you.")
    return found


@login_required
@require_safe
def deployment(request: UserRequest, public_id: str) -> HttpResponse:
    found = deployment_or_404(Deployment.objects.visible_to(request.user), public_id)
    return _page(request, found, ExtendForm())


def _page(request: UserRequest, found: Deployment, form: ExtendForm) -> HttpResponse:
    return render(request, "cloud/deployment.html", _context(request, found) | {"form": form})


def _context(request: UserRequest, found: Deployment) -> dict[str, Any]:
    item = shown([found])[0]
    return {
        "deployment": found,
        "item": item,
        "may_extend": Deployment.objects.extendable_by(request.user).filter(pk=found.pk).exists(),
        "may_use": Deployment.objects.usable_by(request.user).filter(pk=found.pk).exists(),
        "sees_connection": Connection.objects.visible_to(request.user).filter(pk=found.connection_id).exists(),
        "sees_endpoint": Endpoint.objects.visible_to(request.user).filter(pk=found.endpoint_id).exists(),
        "operations": found.operations.all()[:20],
        "models_here": deployments.models_at(found) if found.state == Deployment.State.READY else {},
    }


@login_required
@require_safe
def status(request: UserRequest, public_id: str) -> HttpResponse:
    """Polled: 204 while nothing changed since version ``v``; a state of another kind reloads the page, for its buttons are others."""
    found = deployment_or_404(Deployment.objects.visible_to(request.user), public_id)
    context = _context(request, found)
    if request.GET.get("v") == context["item"].version:
        return HttpResponse(status=204)
    if request.GET.get("state") != found.state:
        response = HttpResponse(status=200)
        response["HX-Refresh"] = "true"
        return response
    return render(request, "cloud/_deployment_status.html", context)


@login_required
@require_POST
def extend(request: UserRequest, public_id: str) -> HttpResponse:
    found = deployment_or_404(Deployment.objects.extendable_by(request.user), public_id)
    form = ExtendForm(request.POST)
    if form.is_valid():
        try:
            deployments.extend(deployment=found, hours=form.cleaned_data["hours"])
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            messages.success(request, _("The lease was extended."))
            return redirect("cloud:deployment", public_id=public_id)
    return _page(request, found, form)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: UserRequest, public_id: str) -> HttpResponse:
    """Ask (GET), then undeploy (POST). A button may post at once: it can only save money."""
    found = deployment_or_404(Deployment.objects.usable_by(request.user), public_id)
    if request.method != "POST":
        return render(request, "cloud/stop.html", {"deployment": found})
    if not deployments.stop(deployment=found, reason=Deployment.Stop.USER, by=request.user):
        messages.info(request, _("It is being undeployed already."))
    return redirect("cloud:deployment", public_id=public_id)


@login_required
@require_POST
def traffic(request: UserRequest, public_id: str) -> HttpResponse:
    """Divide the requests of the endpoint: one field ``share-ID`` for each model there."""
    found = deployment_or_404(Deployment.objects.extendable_by(request.user), public_id)
    given = {k.removeprefix("share-"): str(v) for k, v in request.POST.items() if k.startswith("share-")}
    # Nothing longer: Python reads no number of thousands of digits.
    split = {k: int(v) if len(v) < 9 and v.strip().isdecimal() else -1 for k, v in list(given.items())[:20]}
    try:
        deployments.divide(deployment=found, split=split, by=request.user)
    except FieldErrors as error:
        messages.error(request, " ".join(error.errors.values()))
    else:
        messages.info(request, _("A worker divides the requests anew; see below."))
    return redirect("cloud:deployment", public_id=public_id)
