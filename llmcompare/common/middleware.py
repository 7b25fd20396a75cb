"""What no part of the portal should have to think about: requests that are too large to be read, and NUL characters."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

TOO_LARGE = "This is more than the portal takes at a time ({limit:,} bytes). For a model only its config.json is needed, no weights.\n"


def refuse_unusable(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer what cannot be used before anything reads it.

    A body beyond ``MAX_REQUEST_BYTES`` is refused by its announced length: Django writes uploaded files to the temporary folder
    while it looks for the token against forgery, so without this anybody could fill the disk without logging in. (A body of
    unannounced length is not read at all.) PostgreSQL takes no NUL, not even to look for it: an address with one names nothing,
    and from a query it is left out.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if _announced_bytes(request) > settings.MAX_REQUEST_BYTES:
            text = TOO_LARGE.format(limit=settings.MAX_REQUEST_BYTES)
            return HttpResponse(text, status=413, content_type="text/plain; charset=utf-8")
        if "\x00" in request.path_info:
            raise Http404("No address has a NUL character.")
        query = request.META.get("QUERY_STRING", "")
        while "%00" in query:
            query = query.replace("%00", "")
        request.META["QUERY_STRING"] = query
        return get_response(request)

    return middleware


def _announced_bytes(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
