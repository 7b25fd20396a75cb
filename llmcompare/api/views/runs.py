"""Launch, read, cancel, export and delete runs; compare them."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from hardware.models import Hardware, Host
from llmcompare.accounts.models import Team
from llmcompare.api.errors import Refused
from llmcompare.api.schema import filter_parameters, operation, page_of
from llmcompare.api.serializers import (
    MAX_KEY,
    PROTOCOL_FIELDS,
    WORKLOAD_FIELDS,
    ComparisonSerializer,
    LaunchSerializer,
    RunDetailSerializer,
    RunSerializer,
)
from llmcompare.api.views.catalogue import PAGE, paged
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs import exports
from llmcompare.runs.areas import MEASURES
from llmcompare.runs.compare import columns_of
from llmcompare.runs.compare_layers import chosen as layers_chosen
from llmcompare.runs.filters import RunFilter
from llmcompare.runs.loadforms import LOAD_FIELDS
from llmcompare.runs.models import Run
from llmcompare.runs.rolediff import diff_json
from llmcompare.runs.services import cancel_run, delete_run, launch_endpoint_run, launch_run

COMPARED = (2, 20)
CSV_OPTIONS = [
    OpenApiParameter(
        "delimiter", str, description="comma (default), semicolon or tab", enum=["comma", "semicolon", "tab"]
    ),
    OpenApiParameter("decimal", str, description="point (default) or comma", enum=["point", "comma"]),
]
LAUNCH_EXAMPLES = [
    OpenApiExample(
        "estimate",
        value={"kind": "estimate", "model": "llama-3-70b", "hardware": "nvidia-h100-sxm5-80gb", "input_tokens": 1024},
        request_only=True,
    ),
    OpenApiExample(
        "estimate of several devices with quantised weights",
        value={
            "kind": "estimate",
            "model": "llama-3-70b",
            "hardware": "nvidia-h100-sxm5-80gb",
            "weights_dtype": "int4",
            "tensor_parallel": 4,
        },
        request_only=True,
    ),
    OpenApiExample(
        "endpoint",
        value={
            "kind": "endpoint",
            "endpoint": "k3JxT0qVb2aYw9Zd",
            "load_mode": "sweep",
            "load_levels": "1..32",
            "output_tokens": 128,
        },
        request_only=True,
    ),
    OpenApiExample(
        "measure",
        value={
            "kind": "measure",
            "model": "smollm2-135m-instruct",
            "host": "my-host",
            "prompt": "What is the capital of France?",
            "output_tokens": 64,
            "dtype": "fp32",
        },
        request_only=True,
    ),
]


def visible_run(request: Request, public_id: str) -> Run:
    """The run, or 404. Everything that reads one run goes through here."""
    runs = Run.objects.visible_to(request.user).select_related("owner", "team", "host", "document")
    return get_object_or_404(runs.prefetch_related("metrics", "tags"), public_id=public_id)


def editable_run(request: Request, public_id: str) -> Run:
    """The same for changes: 404 for what one may not see, 403 for what one may only see."""
    run = visible_run(request, public_id)
    if not Run.objects.editable_by(request.user).filter(pk=run.pk).exists():
        raise PermissionDenied("You may look at this run but not change it.")
    return run


def visible_named(model: type[Any], request: Request, field: str, slug: str | None, where: str) -> Any:
    """The object that a request names by slug, or a message at its field."""
    if slug is None:
        return None
    known: QuerySet = model.objects.visible_to(request.user) if hasattr(model.objects, "visible_to") else model.objects
    found = known.filter(slug=slug).first()
    if found is None:
        raise FieldErrors({field: f"There is no {field} “{slug[:100]}”; {where} lists them."})
    return found


def idempotency_key(request: Request, given: str | None) -> str | None:
    """From the body or from the ``Idempotency-Key`` header; two that differ are an error."""
    header = request.headers.get("Idempotency-Key") or None
    if header is not None and len(header) > MAX_KEY:
        raise FieldErrors({"idempotency_key": f"The Idempotency-Key header may have at most {MAX_KEY} characters."})
    if given and header and given != header:
        raise FieldErrors({"idempotency_key": "The field and the Idempotency-Key header differ. Send one of them."})
    return given or header


def launched_before(request: Request, key: str | None) -> bool:
    return key is not None and Run.objects.filter(owner=request.user, idempotency_key=key).exists()


@operation(
    "get_runs",
    methods=["GET"],
    summary="List runs, newest first",
    description="The same filters as the page /runs/. `export=csv` answers with every line of the filtered list as CSV, not one page of it.",
    tags=["runs"],
    parameters=[
        *PAGE,
        *filter_parameters(RunFilter),
        OpenApiParameter("export", str, enum=["csv", "json"]),
        *CSV_OPTIONS,
    ],
    responses={200: page_of(RunSerializer)},
    errors=(400, 404),
)
@operation(
    "run_analysis",
    methods=["POST"],
    summary="Launch an estimate, a measurement, or requests to an endpoint",
    description="201 with the new run; 200 with the first run when the idempotency key was used before (field or `Idempotency-Key` header).",
    tags=["runs"],
    parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="up to 64 characters")],
    request=LaunchSerializer,
    responses={201: RunDetailSerializer, 200: RunDetailSerializer},
    examples=LAUNCH_EXAMPLES,
    errors=(400,),
)
@api_view(["GET", "POST"])
def runs(request: Request) -> HttpResponseBase:
    return _launch(request) if request.method == "POST" else _list(request)


def _list(request: Request) -> HttpResponseBase:
    shown = Run.objects.visible_to(request.user).select_related("owner", "team", "host").prefetch_related("tags")
    chosen = RunFilter(request.query_params, queryset=shown, request=request)
    if not chosen.is_valid():
        raise FieldErrors({name: " ".join(messages) for name, messages in chosen.errors.items()})
    wanted = request.query_params.get("export")
    if wanted == "csv":
        return exports.runs_csv(request, chosen.qs)
    if wanted == "json":
        return exports.runs_json(request, chosen.qs)
    if wanted:
        raise FieldErrors({"export": "Choose csv or json."})
    return paged(chosen.qs, RunSerializer, request)


def _launch(request: Request) -> Response:
    form = LaunchSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    given = dict(form.validated_data)
    key = idempotency_key(request, given.pop("idempotency_key", None))
    repeated = launched_before(request, key)
    if given["kind"] == Run.Kind.ENDPOINT:
        return _launched(request, endpoint_run(request, given, key), repeated)
    _refuse_endpoints_own(given)
    workload = {name: given.pop(name) for name in WORKLOAD_FIELDS if name in given}
    protocol = {name: given.pop(name) for name in PROTOCOL_FIELDS if name in given}
    load = {name: given.pop(name) for name in LOAD_FIELDS if name in given}
    if not given.get("model"):
        raise FieldErrors({"model": "Name the model; GET /api/v1/models/ lists them."})
    model = visible_named(LanguageModel, request, "model", given.pop("model"), "GET /api/v1/models/")
    hardware = visible_named(Hardware, request, "hardware", given.pop("hardware", None), "GET /api/v1/hardware/")
    host = visible_named(Host, request, "host", given.pop("host", None), "GET /api/v1/hosts/")
    team = _team(request, given)
    against = None
    if base := given.pop("against", None):
        against = Run.objects.visible_to(request.user).filter(public_id=base).first()
        if against is None:
            raise FieldErrors({"against": "There is no such run; GET /api/v1/runs/ lists those that you may see."})
    run = launch_run(
        owner=request.user,
        model=model,
        hardware=hardware,
        host=host,
        workload=workload,
        protocol=protocol,
        against=against,
        load=load,
        team=team,
        idempotency_key=key,
        **given,
    )
    return _launched(request, run, repeated)


#: What only a run of an endpoint has.
ENDPOINT_OWN = ("endpoint", "load_levels", "load_gain", "unique_prompts", "profile")


def endpoint_run(request: Request, given: dict[str, Any], key: str | None) -> Run:
    """Launch a run of an endpoint from the fields of :class:`LaunchSerializer`."""
    del given["kind"]
    asked = given.pop("endpoint", None)
    endpoint = Endpoint.objects.visible_to(request.user).filter(public_id=asked).first() if asked else None
    if asked and endpoint is None:
        raise FieldErrors({"endpoint": "There is no such endpoint, or it is not shared with you."})
    workload = {name: given.pop(name) for name in WORKLOAD_FIELDS if name in given}
    load = {name: given.pop(name) for name in (*LOAD_FIELDS, "load_levels", "load_gain") if name in given}
    about = {name: given.pop(name) for name in ("visibility", "title", "notes") if name in given}
    team, unique, profile = _team(request, given), given.pop("unique_prompts", True), given.pop("profile", None)
    if given:
        raise FieldErrors(dict.fromkeys(given, "A run of an endpoint does not have this: leave it out."))
    return launch_endpoint_run(
        owner=request.user,
        endpoint=endpoint,
        workload=workload,
        load=load,
        unique=unique,
        profile=profile,
        team=team,
        idempotency_key=key,
        **about,
    )


def _refuse_endpoints_own(given: dict[str, Any]) -> None:
    own = [name for name in ENDPOINT_OWN if name in given]
    if own:
        raise FieldErrors(dict.fromkeys(own, "Only a run of an endpoint has this: leave it out, or kind endpoint."))


def _team(request: Request, given: dict[str, Any]) -> Team | None:
    slug = given.pop("team", None)
    if not slug:
        return None
    team = Team.objects.filter(members=request.user, slug=slug).first()
    if team is None:
        raise FieldErrors({"team": "Choose a team that you are a member of."})
    return team


def _launched(request: Request, run: Run, repeated: bool) -> Response:
    answer = RunDetailSerializer(visible_run(request, run.public_id)).data
    made = Response(answer, status=status.HTTP_200_OK if repeated else status.HTTP_201_CREATED)
    made["Location"] = request.build_absolute_uri(f"/api/v1/runs/{run.public_id}/")
    return made


@operation(
    "get_run",
    methods=["GET"],
    summary="One run: state, progress, metrics",
    tags=["runs"],
    responses={200: RunDetailSerializer},
    errors=(404,),
)
@operation(
    "delete_run",
    methods=["DELETE"],
    summary="Put a run into the bin; a running one is cancelled",
    tags=["runs"],
    responses={204: None},
    errors=(403, 404),
)
@api_view(["GET", "DELETE"])
def run(request: Request, public_id: str) -> Response:
    if request.method == "DELETE":
        delete_run(run=editable_run(request, public_id))
        return Response(status=status.HTTP_204_NO_CONTENT)
    return Response(RunDetailSerializer(visible_run(request, public_id)).data)


@operation(
    "get_run_document",
    summary="The run document: everything the engine found",
    tags=["runs"],
    responses={200: OpenApiTypes.OBJECT},
    errors=(404, 409),
)
@api_view(["GET"])
def document(request: Request, public_id: str) -> Response:
    found = visible_run(request, public_id)
    stored = exports.document_of(found)
    if not stored:
        raise Refused(409, "no_document", f"The run has no document: it is {found.state}.")
    return Response(stored)


@operation(
    "cancel_run",
    summary="Stop a run: at once while it waits, within about a second while it runs",
    tags=["runs"],
    request=None,
    responses={200: RunDetailSerializer},
    errors=(403, 404),
)
@api_view(["POST"])
def cancel(request: Request, public_id: str) -> Response:
    cancel_run(run=editable_run(request, public_id))
    return Response(RunDetailSerializer(visible_run(request, public_id)).data)


@operation(
    "export_run_csv",
    summary="The run as CSV, one figure per line",
    tags=["runs"],
    parameters=CSV_OPTIONS,
    responses={(200, "text/csv"): OpenApiTypes.STR},
    errors=(400, 404),
)
@api_view(["GET"])
def export_csv(request: Request, public_id: str) -> HttpResponseBase:
    return exports.run_csv(request, visible_run(request, public_id))


@operation(
    "export_run_json",
    summary="The run document plus the run's identity, as a download",
    tags=["runs"],
    responses={200: OpenApiTypes.OBJECT},
    errors=(404,),
)
@api_view(["GET"])
def export_json(request: Request, public_id: str) -> HttpResponseBase:
    return exports.run_json(request, visible_run(request, public_id))


@operation(
    "compare_runs",
    summary="Runs side by side, in the order given",
    tags=["runs"],
    parameters=[
        OpenApiParameter("runs", str, required=True, description="ids of 2 to 20 runs, separated by commas"),
        OpenApiParameter("baseline", str, description="id that differences refer to; the first by default"),
        OpenApiParameter(
            "stage", str, description="whose layers are compared: prefill, decode, encode; decode by default"
        ),
        OpenApiParameter(
            "by", str, enum=list(MEASURES), description="figure of the layers; the first that all runs have by default"
        ),
        OpenApiParameter("export", str, enum=["csv"]),
        *CSV_OPTIONS,
    ],
    responses={200: ComparisonSerializer},
    errors=(400, 404),
)
@api_view(["GET"])
def compare(request: Request) -> HttpResponseBase:
    asked = request.query_params.get("runs", "").replace("\x00", "")  # PostgreSQL takes no NUL, not even to look for it
    ids = list(dict.fromkeys(part for part in asked.split(",") if part))
    if not COMPARED[0] <= len(ids) <= COMPARED[1]:
        raise FieldErrors({"runs": f"Name {COMPARED[0]} to {COMPARED[1]} different runs, separated by commas."})
    shown = (
        Run.objects.visible_to(request.user)
        .select_related("owner", "team", "host", "extract")
        .prefetch_related("metrics", "tags")
    )
    found = {r.public_id: r for r in shown.filter(public_id__in=ids)}
    missing = [public_id for public_id in ids if public_id not in found]
    if missing:
        raise Refused(404, "not_found", f"You can see no run {', '.join(missing)[:200]}.")
    baseline = request.query_params.get("baseline") or None
    if baseline is not None and baseline not in found:
        raise FieldErrors({"baseline": "The baseline must be one of the compared runs."})
    chosen = [found[public_id] for public_id in ids]
    columns = columns_of(chosen)
    layers = diff_json(layers_chosen(request.query_params, columns, ids.index(baseline) if baseline else 0), columns)
    if request.query_params.get("export") == "csv":
        return exports.comparison_csv(request, chosen, baseline=baseline, layers=layers)
    return Response(exports.comparison_object(exports.comparison_lines(chosen), baseline=baseline, layers=layers))
