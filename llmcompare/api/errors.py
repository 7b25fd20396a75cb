"""One shape for every error of the API: ``{"code", "message", "errors"}``.

``message`` is a sentence for a person; ``errors`` maps each field that is wrong to its own sentence (empty when no field is).
"""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from llmcompare.common.errors import WHOLE_FORM, FieldErrors, QuotaExceeded

SEE_FIELDS = "Some fields need another value; see errors."


class Refused(exceptions.APIException):
    """An answer that is not a success and not a field's fault, with its own code: ``raise Refused(409, "code", "Sentence.")``."""

    def __init__(self, status_code: int, code: str, message: str) -> None:
        super().__init__(detail=message, code=code)
        self.status_code = status_code


def error_body(code: str, message: str, errors: dict[str, str] | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "errors": errors or {}}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's handler, in our shape. Anything unforeseen stays unforeseen: it is logged and answered by Django."""
    if isinstance(error, FieldErrors):
        return _field_errors(error)
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, exceptions.ValidationError):
        errors = _flat(error.detail)
        whole = errors.pop(WHOLE_FORM, None)
        response.data = error_body("invalid", whole or SEE_FIELDS, errors)
    elif isinstance(error, Http404 | exceptions.NotFound):
        response.data = error_body("not_found", "There is nothing here that you may see.")
    else:
        detail = getattr(error, "detail", None)
        code = getattr(detail, "code", None) or "refused"
        response.data = error_body(str(code), str(detail or "This is not allowed."))
    return response


def _field_errors(error: FieldErrors) -> Response:
    errors = dict(error.errors)
    whole = errors.pop(WHOLE_FORM, None)
    if isinstance(error, QuotaExceeded):
        return Response(error_body("quota", whole or str(error)), status=status.HTTP_429_TOO_MANY_REQUESTS)
    return Response(error_body("invalid", whole or SEE_FIELDS, errors), status=status.HTTP_400_BAD_REQUEST)


def _flat(detail: Any, path: str = "") -> dict[str, str]:
    """DRF's nested lists as one sentence per field; fields within fields are joined by a dot."""
    if isinstance(detail, dict):
        found: dict[str, str] = {}
        for name, value in detail.items():
            here = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
            found |= _flat(value, here)
        return found
    if isinstance(detail, list) and detail and isinstance(detail[0], dict | list):
        found = {}
        for number, value in enumerate(detail):
            found |= _flat(value, f"{path}.{number}" if path else str(number))
        return found
    text = " ".join(str(item) for item in detail) if isinstance(detail, list) else str(detail)
    return {path or WHOLE_FORM: text}
