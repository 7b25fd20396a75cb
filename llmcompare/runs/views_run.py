"""The page of one run: its result, its progress while it is under way, and what its owner may do to it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from llmcompare.common.requests import HtmxRequest
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.again import again_with
from llmcompare.runs.artifacts import artifact_file, artifacts_of
from llmcompare.runs.endpointestimate import estimate_beside
from llmcompare.runs.models import Run
from llmcompare.runs.monitoring import monitoring_section
from llmcompare.runs.presentation import document_of, run_context
from llmcompare.runs.querysets import RunQuerySet
from llmcompare.runs.queues import waiting_note
from llmcompare.runs.services import cancel_run, delete_run, restore_run

#: Lines of the log that the status shows; the whole log is on the page of a finished run.
STATUS_LINES = 12
MAX_LOG_LINES = 500

#: What a reader can do about a failure, by the phase in which it happened.
_NEXT_STEPS = {
    "queue": _("Run it again when the machine is less busy."),
    "start": _("The engine did not start on that machine; its administrator finds the reason in the worker's log."),
    "convert": _(
        "The model's real weights could not be prepared. Reinstall them, or run an estimate, which needs none."
    ),
    "load": _(
        "Check that the model's weights are complete and fit in memory; a smaller data type or an estimate may do."
    ),
    "tokenize": _("Check the prompt, or give token counts instead of a text."),
    "warmup": _("Try a smaller batch or fewer tokens; the log says what was running."),
    "prefill": _("Try fewer input tokens or a smaller batch; the log says what was running."),
    "decode": _("Try fewer output tokens or a smaller batch; the log says what was running."),
    "build": _("The model could not be built from its configuration. Correct config.json and add the model again."),
    "connect": _("Look at the endpoint: open it and have its server looked at anew, then run this again."),
    "requests": _(
        "Look at the endpoint and at the log; send fewer requests or shorter answers, or raise the time limit."
    ),
    "trace": _("The architecture could not be followed. The log names the operator or the setting."),
}


def _run_or_404(queryset: RunQuerySet, public_id: str) -> Run:
    """One row with everything that the page links to. What one may not see does not exist."""
    related = queryset.select_related("owner", "team", "model", "hardware", "host", "endpoint")
    run = related.filter(public_id=public_id).first()
    if run is None:
        raise Http404(gettext("There is no such run, or it is not shared with you."))
    return run


@login_required
@require_safe
def detail(request: HttpRequest, public_id: str) -> HttpResponse:
    """The whole page. Switches inside it ask for the same address and take the part they need, so each view is a permalink."""
    run = _run_or_404(Run.objects.visible_to(request.user).select_related("document"), public_id)
    context: dict[str, Any] = {"run": run, **run_context(run, request.GET), **_links(run, request)}
    if run.is_active:
        context |= _status_context(run)
    else:
        context["artifacts"] = artifacts_of(run)
        log = list(run.events.order_by("-pk")[: MAX_LOG_LINES + 1])
        context |= {
            "log": log[:MAX_LOG_LINES][::-1],
            "log_cut": len(log) > MAX_LOG_LINES,
            "next_step": _next_step(run),
            "random_weights": _uses_random_weights(run),
            "beside": estimate_beside(run, request.user, document_of(run)),
            "monitoring": monitoring_section(run),
        }
    return render(request, "runs/detail.html", context)


@login_required
@require_safe
def artifact(request: HttpRequest, public_id: str, name: str) -> HttpResponse:
    """One of the run's files, as a download."""
    return artifact_file(_run_or_404(Run.objects.visible_to(request.user), public_id), name)


@login_required
@require_safe
def status(request: HtmxRequest, public_id: str) -> HttpResponse:
    """The progress of a run, polled every two seconds while it is active: 204 when nothing changed since version ``v``."""
    run = _run_or_404(Run.objects.visible_to(request.user), public_id)
    if not run.is_active and request.htmx:
        # The results are on the page itself: load it anew, which also ends the polling.
        response = HttpResponse(status=200)
        response["HX-Refresh"] = "true"
        return response
    context = {"run": run, **_status_context(run), **_links(run, request)}
    if request.htmx and request.GET.get("v") == context["version"]:
        return HttpResponse(status=204)
    return render(request, "runs/_status.html", context)


def _status_context(run: Run) -> dict[str, Any]:
    lines = list(run.events.order_by("-pk")[:STATUS_LINES])[::-1]
    ahead = _ahead_of(run)
    waiting = waiting_note(run)
    version = "-".join(
        str(part)
        for part in (
            run.state,
            run.attempt,
            run.stage,
            round(run.progress * 1000),
            lines[-1].pk if lines else 0,
            ahead,
            int(run.cancel_requested),
            int(bool(waiting)),
        )
    )
    return {
        "lines": lines,
        "ahead": ahead,
        "waiting": waiting,
        "percent": round(run.progress * 100),
        "version": version.replace(" ", "_"),
    }


def _ahead_of(run: Run) -> int | None:
    """How many runs wait in the same queue before this one; ``None`` when it does not wait. A number names nobody's run."""
    if run.state != Run.State.QUEUED:
        return None
    return Run.objects.waiting().filter(queue=run.queue, pk__lt=run.pk).count()


def _links(run: Run, request: HttpRequest) -> dict[str, Any]:
    page = reverse("runs:detail", args=[run.public_id])
    seen = run.endpoint is not None and Endpoint.objects.visible_to(request.user).filter(pk=run.endpoint_id).exists()
    mine = seen and Endpoint.objects.editable_by(request.user).filter(pk=run.endpoint_id).exists()
    return {
        "endpoint_visible": seen,
        "endpoint_editable": mine,
        "editable": Run.objects.editable_by(request.user).filter(pk=run.pk).exists(),
        "page_url": page,
        "json_url": _export_url(run, "json"),
        "csv_url": _export_url(run, "csv"),
        "again": again_with(run),
    }


def _export_url(run: Run, kind: str) -> str:
    """The same address with the ending of the format."""
    return reverse("runs:detail", args=[run.public_id]).rstrip("/") + f".{kind}"


def _uses_random_weights(run: Run) -> bool:
    return run.kind == Run.Kind.MEASURE and (run.spec.get("model") or {}).get("weights") == "random"


def _next_step(run: Run) -> str:
    if run.state != Run.State.FAILED:
        return ""
    if run.error_phase == "requests" and not run.of_endpoint:
        return gettext("Send fewer or shorter requests, or raise the time limit; the log says what was running.")
    step = _NEXT_STEPS.get(run.error_phase)
    return str(step) if step else gettext("Run it again; if it fails the same way, send the log to your administrator.")


@login_required
@require_POST
def cancel(request: HttpRequest, public_id: str) -> HttpResponse:
    run = _run_or_404(Run.objects.editable_by(request.user), public_id)
    run = cancel_run(run=run)
    if run.state == Run.State.CANCELLED:
        messages.success(request, gettext("The run was cancelled."))
    elif run.is_active:
        messages.info(request, gettext("The run stops within a second or two."))
    else:
        messages.info(
            request, gettext("The run had already ended (%(state)s).") % {"state": run.get_state_display().lower()}
        )
    return redirect("runs:detail", public_id=run.public_id)


@login_required
@require_POST
def delete(request: HttpRequest, public_id: str) -> HttpResponse:
    """Into the bin; the page that follows offers to undo it."""
    run = _run_or_404(Run.objects.editable_by(request.user), public_id)
    delete_run(run=run)
    return render(request, "runs/deleted.html", {"run": run})


@login_required
@require_POST
def restore(request: HttpRequest, public_id: str) -> HttpResponse:
    run = _run_or_404(Run.objects.binned_by(request.user), public_id)
    restore_run(run=run)
    messages.success(request, gettext("The run is back."))
    return redirect("runs:detail", public_id=run.public_id)
