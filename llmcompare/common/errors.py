"""Errors that services raise for what a user can put right. Views show the messages at their fields, the API returns them."""

from __future__ import annotations

#: The field of a message that belongs to no single input (Django forms use the same name).
WHOLE_FORM = "__all__"


class FieldErrors(ValueError):
    """Input that cannot be used: ``errors`` maps a field (or :data:`WHOLE_FORM`) to a sentence saying why and what to do."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = errors


class QuotaExceeded(FieldErrors):
    """The user has as many runs under way as allowed; the API answers 429."""

    def __init__(self, message: str) -> None:
        super().__init__({WHOLE_FORM: message})
