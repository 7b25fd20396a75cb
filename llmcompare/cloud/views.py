"""Pages of the cloud: the list, connections, and the switch that stops everything. No page talks to Google: workers do."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.cloud import connections, leases
from llmcompare.cloud.forms import ConnectionForm, StopAllForm
from llmcompare.cloud.models import Connection, Deployment, Guard, Operation
from llmcompare.cloud.presentation import shown
from llmcompare.cloud.querysets import ConnectionQuerySet
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import add_errors

ENDED_SHOWN = 20


def connection_or_404(queryset: ConnectionQuerySet, public_id: str) -> Connection:
    found = queryset.select_related("owner", "team", "allowed_by").filter(public_id=public_id).first()
    if found is None:
        raise Http404("There is no such connection, or it is not shared with you.")
    return found


def only_staff(request: UserRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied


@login_required
@require_safe
def home(request: UserRequest) -> HttpResponse:
    everything = Deployment.objects.visible_to(request.user).select_related("connection", "owner")
    seen = Connection.objects.visible_to(request.user).select_related("owner", "team")
    page = {
        "connections": seen,
        "active": shown(list(everything.active())),
        "ended": shown(list(everything.filter(state__in=Deployment.ENDED)[:ENDED_SHOWN])),
        "guard": Guard.get(),
        "to_allow": Connection.objects.kept().filter(allowed_at=None).select_related("owner")
        if request.user.is_staff
        else (),
    }
    return render(request, "cloud/list.html", page)


@sensitive_post_parameters("credential")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables()
def new(request: UserRequest) -> HttpResponse:
    form = ConnectionForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            made = connections.create(owner=request.user, **form.cleaned_data)
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            return redirect("cloud:connection", public_id=made.public_id)
    form.drop_what_is_no_reference()
    return render(request, "cloud/new.html", {"form": form})


@login_required
@require_safe
def connection(request: UserRequest, public_id: str) -> HttpResponse:
    seen = Connection.objects.visible_to(request.user)
    if request.user.is_staff:  # to see what they allow
        seen = seen | Connection.objects.kept().filter(allowed_at=None)
    found = connection_or_404(seen, public_id)
    rows = {row.cloud_id: row for row in found.deployments.active() if row.cloud_id}
    page = {
        "connection": found,
        "may_use": Connection.objects.usable_by(request.user).filter(pk=found.pk).exists(),
        "mine": found.owner_id == request.user.pk,
        "endpoints": [entry | {"deployment": rows.get(entry["id"])} for entry in found.endpoints_found],
        "active": shown(list(found.deployments.active().select_related("connection", "owner"))),
        "operations": found.operations.exclude(kind=Operation.Kind.GARDEN).select_related("deployment")[:15],
        "busy": found.is_wanted or found.operations.active().exists(),
    }
    return render(request, "cloud/connection.html", page)


@login_required
@require_POST
def read(request: UserRequest, public_id: str) -> HttpResponse:
    """Read the project anew: also the check of its credentials."""
    found = connection_or_404(Connection.objects.usable_by(request.user), public_id)
    connections.ask_to_read(connection=found)
    return redirect("cloud:connection", public_id=public_id)


@login_required
@require_POST
def allow(request: UserRequest, public_id: str) -> HttpResponse:
    only_staff(request)
    found = connection_or_404(Connection.objects.kept(), public_id)
    connections.allow(connection=found, by=request.user)
    messages.success(request, _("Workers use the connection “%(name)s” from now on.") % {"name": found.name})
    return redirect("cloud:list")


@login_required
@require_POST
def delete(request: UserRequest, public_id: str) -> HttpResponse:
    """Into the bin; the page that follows offers to undo it."""
    found = connection_or_404(Connection.objects.kept().filter(owner=request.user), public_id)
    try:
        connections.delete(connection=found)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect("cloud:connection", public_id=public_id)
    return render(request, "cloud/deleted.html", {"connection": found})


@login_required
@require_POST
def restore(request: UserRequest, public_id: str) -> HttpResponse:
    found = connection_or_404(Connection.objects.binned_by(request.user), public_id)
    try:
        connections.restore(connection=found)
    except FieldErrors as error:
        messages.error(request, str(error))
        return redirect("cloud:list")
    messages.success(request, _("The connection is back."))
    return redirect("cloud:connection", public_id=public_id)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stop_everything(request: UserRequest) -> HttpResponse:
    """Staff: undeploy all of ours, and let nothing new be deployed."""
    only_staff(request)
    form = StopAllForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        count = leases.stop_everything(by=request.user, reason=form.cleaned_data["reason"])
        text = ngettext("%(n)s deployment is being undeployed.", "%(n)s deployments are being undeployed.", count)
        messages.success(request, text % {"n": count})
        return redirect("cloud:list")
    active = shown(list(Deployment.objects.active().select_related("connection", "owner")))
    return render(request, "cloud/stop_everything.html", {"form": form, "active": active})


@login_required
@require_POST
def open_again(request: UserRequest) -> HttpResponse:
    only_staff(request)
    leases.open_again()
    messages.success(request, _("Models can be deployed again."))
    return redirect("cloud:list")
