"""What the OpenAPI document says about every operation: which errors it has, in which shape."""

from __future__ import annotations

from typing import Any

from django_filters import FilterSet
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers

from llmcompare.api.serializers import ErrorSerializer

_REASONS = {
    400: ("Input that cannot be used, field by field", "invalid", "Some fields need another value; see errors."),
    401: ("No token, or one that has ended", "not_authenticated", "Authentication credentials were not provided."),
    403: ("You may see this but not change it", "permission_denied", "You may look at this run but not change it."),
    404: ("Nothing here that you may see", "not_found", "There is nothing here that you may see."),
    409: ("Not possible in this state", "no_document", "The run has no document yet: it is queued."),
    422: ("The run ended without a result", "run_failed", "The engine was killed; out of memory?"),
    429: ("Too many requests, or too many runs under way", "quota", "You have 20 runs waiting or running."),
}


def error_response(status: int) -> OpenApiResponse:
    description, code, message = _REASONS[status]
    errors = {"batch_size": "Enter a whole number from 1 to 65536."} if status == 400 else {}
    value = {"code": code, "message": message, "errors": errors}
    example = OpenApiExample(code, value=value, response_only=True, status_codes=[str(status)])
    return OpenApiResponse(ErrorSerializer, description=description, examples=[example])


def page_of(serializer: type[serializers.Serializer]) -> serializers.Serializer:
    """The shape of one page of a list (``pagination.Pages``)."""
    return inline_serializer(
        "PageOf" + serializer.__name__.removesuffix("Serializer"),
        {
            "count": serializers.IntegerField(help_text="in all pages together"),
            "next": serializers.URLField(allow_null=True),
            "previous": serializers.URLField(allow_null=True),
            "results": serializer(many=True),
        },
    )


def filter_parameters(filter_set: type[FilterSet]) -> list[OpenApiParameter]:
    """The query parameters of a filter set, so that the document lists what the page's form does."""
    return [
        OpenApiParameter(name, str, description=str(item.label or "")) for name, item in filter_set.base_filters.items()
    ]


def operation(operation_id: str, *, errors: tuple[int, ...] = (), anonymous: bool = False, **more: Any):
    """``extend_schema`` with our name for the operation and its errors; all but anonymous ones can answer 401, all can answer 429."""
    responses = dict(more.pop("responses", {}))
    for status in sorted({*errors, 429} | (set() if anonymous else {401})):
        responses[status] = error_response(status)
    return extend_schema(operation_id=operation_id, responses=responses, auth=[] if anonymous else None, **more)
