"""Addresses that belong to no part of the portal."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

# Shared links are not listed: the list would say where they are. They tell robots to keep out by a header of their own.
ROBOTS = "User-agent: *\nDisallow: /accounts/\nDisallow: /api/\n"


@require_safe
@cache_control(max_age=86400)
def robots(request: HttpRequest) -> HttpResponse:
    return HttpResponse(ROBOTS, content_type="text/plain")
