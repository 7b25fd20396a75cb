"""Pages of hardware: list, detail, hosts, and a user's own devices."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hardware import measurements
from hardware.filters import HardwareFilter
from hardware.forms import PrivateHardwareForm, initial_of
from hardware.hostpage import ceilings_context, host_object, status_context
from hardware.models import Hardware, Host
from hardware.presentation import EXPORT_HEADER, export_json, export_row, figures, ridges, to_json
from hardware.services import delete_private, figures_of, is_edited, save_private
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.requests import HtmxRequest

PAGE_SIZE = 50
RUNS_SHOWN = 10


def _filtered(request: HttpRequest) -> HardwareFilter:
    return HardwareFilter(request.GET, queryset=Hardware.objects.visible_to(request.user))


@login_required
@require_safe
def hardware_list(request: HttpRequest) -> HttpResponse:
    found = _filtered(request)
    page = {
        "filter": found,
        "page": Paginator(found.qs, PAGE_SIZE).get_page(request.GET.get("page")),
        "vendors": Hardware.objects.visible_to(request.user)
        .order_by("vendor")
        .values_list("vendor", flat=True)
        .distinct(),
        "hosts": Host.objects.select_related("hardware"),
    }
    return render(request, "hardware/list.html", page)


@login_required
@require_safe
def export_csv(request: HttpRequest) -> HttpResponseBase:
    rows = (export_row(hardware) for hardware in _filtered(request).qs)
    return csv_response("hardware.csv", EXPORT_HEADER, rows, CsvFormat.from_query(request.GET))


@login_required
@require_safe
def export_list_json(request: HttpRequest) -> HttpResponse:
    return JsonResponse(export_json(_filtered(request).qs))


@login_required
@require_safe
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    hardware = get_object_or_404(Hardware.objects.visible_to(request.user), slug=slug)
    page = {
        "hardware": hardware,
        "figures": figures(hardware),
        "ridges": ridges(hardware),
        "edited": is_edited(hardware),
        "mine": hardware.owner_id == request.user.pk,
        "hosts": hardware.hosts.all(),
        "runs": hardware.runs.visible_to(request.user)[:RUNS_SHOWN],
    }
    return render(request, "hardware/detail.html", page)


@login_required
@require_safe
def detail_json(request: HttpRequest, slug: str) -> HttpResponse:
    return JsonResponse(to_json(get_object_or_404(Hardware.objects.visible_to(request.user), slug=slug)))


@login_required
@require_safe
def host(request: HttpRequest, slug: str) -> HttpResponse:
    machine = get_object_or_404(Host.objects.select_related("hardware"), slug=slug)
    page = {
        "host": machine,
        "online": Host.objects.online().filter(pk=machine.pk).exists(),
        **ceilings_context(machine, request.user),
        "runs": machine.runs.visible_to(request.user)[:RUNS_SHOWN],
    }
    return render(request, "hardware/host.html", page)


@login_required
@require_safe
def host_json(request: HttpRequest, slug: str) -> HttpResponse:
    machine = get_object_or_404(Host.objects.select_related("hardware"), slug=slug)
    return JsonResponse(host_object(machine))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def host_ceilings(request: HtmxRequest, slug: str) -> HttpResponse:
    """GET: how far a measurement of the host's ceilings is, polled while it is under way (204 when nothing changed since version ``v``).
    POST: ask for one."""
    if request.method == "POST":
        return _ask_ceilings(request, slug)
    machine = get_object_or_404(Host, slug=slug)
    context = {"host": machine, **status_context(machine)}
    if context["measurement"] is None:
        response = HttpResponse(status=200)
        response["HX-Refresh"] = "true"
        return response if request.htmx else redirect("hardware:host", slug=slug)
    if request.htmx and request.GET.get("v") == context["version"]:
        return HttpResponse(status=204)
    context["may_measure"] = Host.objects.measurable_by(request.user).filter(pk=machine.pk).exists()
    return render(request, "hardware/_ceilings_status.html", context)


def _ask_ceilings(request: HttpRequest, slug: str) -> HttpResponse:
    machine = get_object_or_404(Host.objects.measurable_by(request.user), slug=slug)
    try:
        _, asked = measurements.ask(host=machine, user=request.user, quick=request.POST.get("quick") != "0")
    except ValueError as error:
        messages.error(request, str(error))
    else:
        if not asked:
            messages.info(request, gettext("A measurement of these ceilings is under way already."))
    return redirect("hardware:host", slug=slug)


@login_required
@require_POST
def cancel_ceilings(request: HttpRequest, slug: str) -> HttpResponse:
    machine = get_object_or_404(Host.objects.measurable_by(request.user), slug=slug)
    found = measurements.active(machine)
    if found is not None:
        measurements.cancel(measurement=found)
        ended = not found.is_active
        messages.info(
            request,
            gettext("The measurement was cancelled.") if ended else gettext("The measurement stops within a second."),
        )
    return redirect("hardware:host", slug=slug)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """A device of one's own, empty or as a copy: ``?copy=<slug>``."""
    copied = None
    if request.GET.get("copy"):
        copied = get_object_or_404(Hardware.objects.visible_to(request.user), slug=request.GET["copy"])
    form = PrivateHardwareForm(request.POST or None, initial=initial_of(copied) if copied else {"kind": "gpu"})
    if request.method == "POST" and form.is_valid():
        hardware = form.to_hardware(copied=copied)
        save_private(owner=request.user, hardware=hardware, before=figures_of(copied) if copied else None)
        messages.success(request, gettext("%(hardware)s is saved. Only you see it.") % {"hardware": hardware})
        return redirect("hardware:detail", slug=hardware.slug)
    return render(request, "hardware/new.html", {"form": form, "copied": copied})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask (GET), then delete (POST) a device of one's own."""
    hardware = get_object_or_404(Hardware.objects.filter(owner=request.user.pk), slug=slug)
    if request.method != "POST":
        return render(request, "hardware/delete.html", {"hardware": hardware})
    delete_private(hardware=hardware)
    messages.success(request, gettext("%(hardware)s is deleted.") % {"hardware": hardware})
    return redirect("hardware:list")
