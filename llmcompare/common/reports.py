"""What Django reports of an exception, without secrets."""

from __future__ import annotations

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class AlwaysSafe(SafeExceptionReporterFilter):
    """What is marked as sensitive is left out of the pages for developers as well; Django does so in e-mails alone."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True
