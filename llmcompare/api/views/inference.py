"""Run inference: a measured run of one iteration, or one request to an endpoint, whose text is waited for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Any

from django.db import connection
from drf_spectacular.utils import OpenApiExample
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from hardware.models import Hardware, Host
from llmcompare.api.errors import error_body
from llmcompare.api.schema import operation
from llmcompare.api.serializers import InferenceResultSerializer, InferenceSerializer
from llmcompare.api.views.runs import idempotency_key, visible_named, visible_run
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors, QuotaExceeded
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.exports import document_of, run_url
from llmcompare.runs.models import Run
from llmcompare.runs.queues import live_hosts
from llmcompare.runs.services import launch_endpoint_run, launch_run

#: A request that waits holds a thread of the web server (8 by default). So many may wait at a time in one process; the next
#: ones get their 202 at once and ask again themselves.
MAX_WAITING = 3
_waiting = threading.BoundedSemaphore(MAX_WAITING)

#: Fields of a workload that have another name in this operation.
FIELD_NAMES = {"output_tokens": "max_output_tokens", "input_tokens": "prompt"}

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0


@operation(
    "run_inference",
    summary="Generate text with a model on a host, and get the text with its metrics",
    description=(
        "Launches a measured run of one iteration and waits up to `wait` seconds (at most 60) for it. 200 with the text when it is "
        "done; 202 with the run's address when it is not, or when too many requests wait already: then read the run until its state "
        "is `done`, and find the text in its document under `output.texts`."
    ),
    tags=["inference"],
    request=InferenceSerializer,
    responses={200: InferenceResultSerializer, 202: InferenceResultSerializer},
    examples=[
        OpenApiExample(
            "question",
            value={
                "model": "smollm2-135m-instruct",
                "prompt": "What is the capital of France?",
                "max_output_tokens": 64,
            },
            request_only=True,
        )
    ],
    errors=(400, 422),
)
@api_view(["POST"])
def inference(request: Request) -> Response:
    form = InferenceSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    given = form.validated_data
    if given.get("endpoint"):
        run = _asked_endpoint(request, given)
        _wait_for(run, given["wait"])
        return _answer(request, visible_run(request, run.public_id))
    if not given.get("model"):
        raise FieldErrors({"model": "Name a model, or an endpoint."})
    model = visible_named(LanguageModel, request, "model", given["model"], "GET /api/v1/models/")
    if model.kind == "encoder":
        raise FieldErrors({"model": f"{model.name} is an encoder: it generates no text. Choose a model that does."})
    host = visible_named(Host, request, "host", given.get("host"), "GET /api/v1/hosts/") or _free_host()
    try:
        run = launch_run(
            owner=request.user,
            kind=Run.Kind.MEASURE,
            model=model,
            host=host,
            workload=_workload(given, host),
            protocol={"processes": 1},  # an answer, not a figure to compare
            idempotency_key=idempotency_key(request, given.get("idempotency_key")),
        )
    except QuotaExceeded:
        raise
    except FieldErrors as error:
        raise FieldErrors({FIELD_NAMES.get(name, name): text for name, text in error.errors.items()}) from None
    _wait_for(run, given["wait"])
    return _answer(request, visible_run(request, run.public_id))


def _asked_endpoint(request: Request, given: dict[str, Any]) -> Run:
    """A run of one request to an endpoint."""
    for name in ("model", "host", "dtype"):
        if given.get(name):
            raise FieldErrors({name: "The server of an endpoint decides this by itself: leave it out."})
    endpoint = Endpoint.objects.visible_to(request.user).filter(public_id=given["endpoint"]).first()
    if endpoint is None:
        raise FieldErrors({"endpoint": "There is no such endpoint, or it is not shared with you."})
    try:
        return launch_endpoint_run(
            owner=request.user,
            endpoint=endpoint,
            workload={"prompt": given["prompt"], "output_tokens": given["max_output_tokens"], "warmup": 0},
            unique=False,  # the question is sent as it was asked
            profile=False,
            idempotency_key=idempotency_key(request, given.get("idempotency_key")),
        )
    except QuotaExceeded:
        raise
    except FieldErrors as error:
        raise FieldErrors({FIELD_NAMES.get(name, name): text for name, text in error.errors.items()}) from None


def _workload(given: dict[str, Any], host: Host) -> dict[str, Any]:
    on_cpu = host.hardware is None or host.hardware.kind == Hardware.Kind.CPU
    return {
        "prompt": given["prompt"],
        "output_tokens": given["max_output_tokens"],
        "dtype": given.get("dtype") or ("fp32" if on_cpu else "bf16"),
        "iterations": 1,
        "warmup": 0,
    }


def _free_host() -> Host:
    """A host that is online and can measure, the one with the fewest runs under way first."""
    able = [
        h for h in Host.objects.online().filter(has_engine=True).select_related("hardware") if h in live_hosts(h.queue)
    ]
    if not able:
        raise FieldErrors({"host": "No host with an engine is online. Start a worker (manage.py up), then try again."})
    return min(able, key=lambda host: (Run.objects.filter(host=host).active().count(), host.pk))


@contextmanager
def _a_place_to_wait():
    got = _waiting.acquire(blocking=False)
    try:
        yield got
    finally:
        if got:
            _waiting.release()


def _wait_for(run: Run, seconds: float) -> None:
    """Block until the run ends or the time is over, asking the row ever more rarely and holding no connection meanwhile."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_S
    with _a_place_to_wait() as allowed:
        while allowed and Run.objects.active().filter(pk=run.pk).exists():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if not connection.in_atomic_block:
                connection.close()
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)


def _answer(request: Request, run: Run) -> Response:
    if run.state in (Run.State.FAILED, Run.State.CANCELLED):
        body = error_body(f"run_{run.state}", run.error or f"The run was {run.state}.") | {"run": run.public_id}
        return Response(body, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
    document = document_of(run)
    texts = (document.get("output") or {}).get("texts") or [None]
    answer = {
        "run": run.public_id,
        "url": run_url(run),
        "state": run.state,
        "text": texts[0],
        "weights": (document.get("model") or {}).get("weights"),
        "metrics": run.metrics.all(),
    }
    done = run.state == Run.State.DONE
    response = Response(
        InferenceResultSerializer(answer).data, status=status.HTTP_200_OK if done else status.HTTP_202_ACCEPTED
    )
    response["Location"] = request.build_absolute_uri(f"/api/v1/runs/{run.public_id}/")
    if not done:
        response["Retry-After"] = "2"
    return response
