"""Files of a measurement."""

from __future__ import annotations

from django.http import HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.api.schema import operation
from llmcompare.api.serializers import ArtifactSerializer
from llmcompare.api.views.runs import visible_run
from llmcompare.runs.artifacts import artifact_file, artifacts_of


@operation(
    "list_run_artifacts",
    summary="Files of a measurement: trace and allocations of its profiled pass",
    description="Those that the run was asked for (`artifacts` at its launch) and that could be made.",
    tags=["runs"],
    responses={200: ArtifactSerializer(many=True)},
    errors=(404,),
)
@api_view(["GET"])
def artifacts(request: Request, public_id: str) -> Response:
    found = visible_run(request, public_id)
    lines = [
        item | {"url": request.build_absolute_uri(reverse("api:run-artifact", args=[found.public_id, item["name"]]))}
        for item in artifacts_of(found)
    ]
    return Response(ArtifactSerializer(lines, many=True).data)


@operation(
    "get_run_artifact",
    summary="One file of a measurement, compressed with gzip",
    tags=["runs"],
    responses={(200, "application/gzip"): OpenApiTypes.BINARY},
    errors=(404,),
)
@api_view(["GET"])
def artifact(request: Request, public_id: str, name: str) -> HttpResponseBase:
    return artifact_file(visible_run(request, public_id), name)
