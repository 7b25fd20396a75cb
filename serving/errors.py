"""How requests are refused: an HTTP status and one sentence, in the shape that Google's clients and those of the OpenAI protocol read."""

from __future__ import annotations

from typing import Any

#: HTTP status → the name that Google's APIs have for it.
STATUS = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Refusal(Exception):
    """A request cannot be answered. ``retry_after_s``: when another try may succeed."""

    def __init__(self, code: int, message: str, *, retry_after_s: int | None = None) -> None:
        # A message may quote what was sent: half of a character in it could not be sent back.
        message = message.encode(errors="backslashreplace").decode()
        super().__init__(message)
        self.code, self.message, self.retry_after_s = code, message, retry_after_s

    def to_json(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "status": STATUS.get(self.code, "UNKNOWN")}}

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
