"""Starting a run: the form, and what it will need while it is being filled in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.common.saying import said
from llmcompare.runs.endpointforms import ENDPOINT_FIELDS, endpoint_settings
from llmcompare.runs.endpointinputs import check_endpoint_inputs
from llmcompare.runs.forms import (
    ARTIFACT_FIELDS,
    HOST_PREFIX,
    PROTOCOL_FIELDS,
    WORKLOAD_FIELDS,
    NewRunForm,
    known_dtypes,
)
from llmcompare.runs.loadforms import LOAD_FIELDS, load_settings
from llmcompare.runs.models import Run
from llmcompare.runs.options import NAMES as OPTION_NAMES
from llmcompare.runs.preview import preview
from llmcompare.runs.services import launch_endpoint_run, launch_run
from profiling.prompts import to_lines

PREFILLED = (
    "kind",
    "model",
    "hardware",
    "host",
    "prompt",
    "prompts",
    "prompt_from",
    "against",
    "title",
    "visibility",
    "team",
    "replay",
    *WORKLOAD_FIELDS,
    *PROTOCOL_FIELDS,
    *OPTION_NAMES,
    *LOAD_FIELDS,
    *ARTIFACT_FIELDS,
    *ENDPOINT_FIELDS,
)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_run(request: UserRequest) -> HttpResponse:
    if request.method != "POST":
        form = NewRunForm(user=request.user, initial=_initial(request))
        return render(request, "runs/new.html", {"form": form, "chosen": _chosen(form)})
    form = NewRunForm(request.POST, request.FILES, user=request.user)
    if "preview" in request.POST:
        # The button for browsers without JavaScript: the same form, with what it would need.
        context = {"form": form, "chosen": _chosen(form), "panel": _panel(form)}
        return render(request, "runs/new.html", context, status=200 if form.is_valid() else 422)
    if form.is_valid():
        try:
            run = _launched(request, form)
        except FieldErrors as error:
            form.add_service_errors(error.errors)
        else:
            return redirect("runs:detail", public_id=run.public_id)
    return render(request, "runs/new.html", {"form": form, "chosen": _chosen(form)}, status=422)


def _launched(request: UserRequest, form: NewRunForm) -> Run:
    if form.is_endpoint:
        return launch_endpoint_run(owner=request.user, **form.endpoint_what(), **form.about())
    return launch_run(owner=request.user, **form.what(), **form.about())


@login_required
@require_POST
def preview_panel(request: UserRequest) -> HttpResponse:
    """The panel beside the form. Always 200: an input that cannot be used yet is something that the panel says."""
    form = NewRunForm(request.POST, request.FILES, user=request.user)
    return render(request, "runs/_preview.html", {"panel": _panel(form), "chosen": _chosen(form), "fragment": True})


def _panel(form: NewRunForm) -> dict[str, Any]:
    """``result`` of the quick estimate, or ``problems``: (label, message) for everything that stands against it."""
    if not form.is_valid():
        return {"problems": _problems(form, {name: str(errors[0]) for name, errors in form.errors.items()})}
    try:
        if form.is_endpoint:
            return {"endpoint": check_endpoint_inputs(**form.endpoint_what())}
        asked = form.what()
        return {"result": preview(**asked), "asked": asked}
    except FieldErrors as error:
        return {"problems": _problems(form, error.errors)}


def _problems(form: NewRunForm, errors: dict[str, str]) -> list[tuple[str, str]]:
    labels = {
        name: str(field.label or said(name.replace("_", " ").capitalize())) for name, field in form.fields.items()
    }
    return [("" if name == WHOLE_FORM else labels.get(name, ""), message) for name, message in errors.items()]


def _chosen(form: NewRunForm) -> dict[str, Any]:
    """The model and the device that are selected at the moment, for their specifications beside the form."""
    measured = form["kind"].value() == Run.Kind.MEASURE
    place = str(form["host" if measured else "hardware"].value() or "")
    host = form.hosts.get(place.removeprefix(HOST_PREFIX)) if measured or place.startswith(HOST_PREFIX) else None
    hardware = host.hardware if host else form.devices.get(place)
    return {
        "model": form.models.get(str(form["model"].value() or "")),
        "host": host,
        "hardware": hardware,
        "dtypes": known_dtypes(hardware, host) if hardware else [],
        "endpoint": form.endpoints.get(str(form["endpoint"].value() or "")),
        "measured": measured,
    }


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What the address asks for, over the settings of the run in ``from`` (when the user may see it)."""
    initial: dict[str, Any] = {}
    source = request.GET.get("from")
    if source:
        run = (
            Run.objects.visible_to(request.user)
            .filter(public_id=source)
            .select_related("model", "hardware", "host", "endpoint")
            .first()
        )
        initial = _settings_of(run) if run else {}
    initial |= {name: request.GET[name] for name in PREFILLED if request.GET.get(name)}
    if initial.get("kind") not in Run.Kind.values and initial.get("endpoint"):
        initial["kind"] = Run.Kind.ENDPOINT
    if initial.get("kind") not in Run.Kind.values:
        initial["kind"] = Run.Kind.MEASURE if initial.get("host") and not initial.get("hardware") else Run.Kind.ESTIMATE
    return initial


def _settings_of(run: Run) -> dict[str, Any]:
    if run.of_endpoint:
        about = {"kind": run.kind, "title": run.title}
        return about | endpoint_settings(run.spec, run.endpoint.public_id if run.endpoint else "")
    workload = run.spec.get("workload", {})
    settings = {name: workload[name] for name in (*WORKLOAD_FIELDS, *OPTION_NAMES) if name in workload}
    repeated = run.spec.get("protocol") or {}
    settings |= {name: repeated[name] for name in PROTOCOL_FIELDS if name in repeated}
    settings |= load_settings(run.spec.get("load"))
    settings |= {name: True for name, kind in ARTIFACT_FIELDS.items() if kind in (run.spec.get("artifacts") or [])}
    settings |= {"replay": True} if run.replays else {}
    settings |= {"kind": run.kind, "title": run.title, "prompt": workload.get("prompt") or ""}
    settings["prompts"] = to_lines(workload.get("prompts") or [])
    if run.model:
        settings["model"] = run.model.slug
    if run.host:
        settings["host"] = run.host.slug
        settings["hardware"] = HOST_PREFIX + run.host.slug
    elif run.hardware:
        settings["hardware"] = run.hardware.slug
    return settings
