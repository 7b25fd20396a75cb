"""Who is asking, as far as addresses tell."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """The address that failed log-ins are counted for.

    Behind a proxy it is the one that the proxy saw, the last of its header; what stands before it, and the whole header where there
    is no proxy, can be made up by anybody.
    """
    seen = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return seen if settings.BEHIND_PROXY and seen else request.META.get("REMOTE_ADDR", "")
