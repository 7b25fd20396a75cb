"""Tags of a run."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.api.schema import operation
from llmcompare.api.serializers import Strict
from llmcompare.api.views.runs import editable_run
from llmcompare.runs.tagging import add_tags, remove_tags


class TagsSerializer(serializers.Serializer):
    tags = serializers.ListField(child=serializers.CharField(), help_text="all tags of the run, in lower case")


class AddTagsSerializer(Strict):
    tags = serializers.CharField(max_length=1000, help_text="one tag, or several with commas between them")


@operation(
    "add_run_tags",
    methods=["POST"],
    summary="Put tags on a run; it keeps those that it has",
    tags=["runs"],
    request=AddTagsSerializer,
    responses={200: TagsSerializer},
    errors=(400, 403, 404),
)
@operation(
    "remove_run_tags",
    methods=["DELETE"],
    summary="Take tags off a run",
    tags=["runs"],
    parameters=[OpenApiParameter("tags", str, required=True, description="with commas between them")],
    responses={200: TagsSerializer},
    errors=(403, 404),
)
@api_view(["POST", "DELETE"])
def tags(request: Request, public_id: str) -> Response:
    run = editable_run(request, public_id)
    if request.method == "POST":
        given = AddTagsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        add_tags(runs=[run], by=request.user, text=given.validated_data["tags"])
    else:
        remove_tags(runs=[run], text=request.query_params.get("tags", ""))
    return Response({"tags": list(run.tags.order_by("name").values_list("name", flat=True))})
