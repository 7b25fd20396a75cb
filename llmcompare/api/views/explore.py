"""What-if questions: the answer of the page's address, and asking for the closed forms that it misses."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.api.schema import operation
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.explore.answers import Exploration
from llmcompare.explore.asked import ExploreForm, read
from llmcompare.explore.services import ask_for_forms

#: Parameters that may occur several times, and those that end in the name of a place.
_SEVERAL = ("model", "hardware")
_AMOUNTS = ("price.", "power.")


def _parameters() -> list[OpenApiParameter]:
    fields = ExploreForm(QueryDict()).fields
    named = [OpenApiParameter(name, str, description=str(f.help_text or f.label or "")) for name, f in fields.items()]
    return [
        OpenApiParameter("model", str, many=True, required=True, description="slug, up to 4 times"),
        OpenApiParameter("hardware", str, many=True, required=True, description="slug, or host:slug, up to 6 times"),
        *named,
    ]


@operation(
    "explore",
    methods=["GET"],
    summary="What if? Estimates from stored closed forms, with every chart of the page; a series without its form says so",
    description="`price.HARDWARE` (per device-hour) and `power.HARDWARE` (watts) bring cost and energy per million output tokens.",
    tags=["explore"],
    parameters=_parameters(),
    responses={200: OpenApiTypes.OBJECT},
    errors=(400, 404),
)
@operation(
    "make_closed_forms",
    methods=["POST"],
    summary="Have the closed forms made that a question misses: 202 while some are in the making, 200 when all is answered",
    description="The fields are the parameters of `explore`; `model` and `hardware` may be lists. Then ask `explore` until no series is `making`.",
    tags=["explore"],
    request=OpenApiTypes.OBJECT,
    responses={200: OpenApiTypes.OBJECT, 202: OpenApiTypes.OBJECT},
    examples=[
        OpenApiExample(
            "two devices",
            value={"model": "llama-3-8b", "hardware": ["nvidia-h100-sxm5-80gb", "nvidia-l4-24gb"], "batch_size": 16},
            request_only=True,
        )
    ],
    errors=(400, 404),
)
@api_view(["GET", "POST"])
def explore(request: Request) -> Response:
    query = request.query_params if request.method == "GET" else _query_of(request.data)
    _check_names(query)
    question = read(query, request.user)
    for name in _SEVERAL:
        if not query.getlist(name):
            question.errors.setdefault(name, "Name at least one.")
    if question.errors:
        raise FieldErrors(question.errors)
    exploration = Exploration(question)
    if request.method == "GET":
        return Response(exploration.document())
    ask_for_forms(user=request.user, exploration=exploration)
    exploration = Exploration(question)
    making = any(item.state == "making" for item in exploration.series)
    return Response(exploration.document(), status=status.HTTP_202_ACCEPTED if making else status.HTTP_200_OK)


def _check_names(query: QueryDict) -> None:
    """A misspelt option must not be ignored."""
    known = {*_SEVERAL, "format", *ExploreForm(QueryDict()).fields}
    unknown = [name for name in query if name not in known and not name.startswith(_AMOUNTS)]
    if unknown:
        raise FieldErrors({name[:100]: "There is no such field." for name in unknown[:20]})


def _query_of(data: Any) -> QueryDict:
    """A JSON object as the address that asks the same."""
    if not isinstance(data, dict):
        raise FieldErrors({WHOLE_FORM: "Send one JSON object."})
    query, errors = QueryDict(mutable=True), {}
    for name, value in data.items():
        values = value if isinstance(value, list) else [value]
        if all(isinstance(v, (str, int, float)) and not isinstance(v, bool) for v in values):
            query.setlist(str(name), [str(v) for v in values])
        elif value is not None:
            errors[str(name)[:100]] = "Give a text, a number, or a list of them."
    if errors:
        raise FieldErrors(errors)
    return query
