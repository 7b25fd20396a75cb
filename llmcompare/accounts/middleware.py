"""In which language a request is answered."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_vary_headers

#: Read by programs, or kept and compared: always in English. The API's page is for people.
IN_ENGLISH = (".csv", ".json", ".dot")
API, API_PAGE = "/api/", "/docs/"
#: Pages of shared links have no form and set no cookie of themselves: there the language is part of the address.
SHARED = "/s/"


def speak_the_users_language(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer in the language that the user's account names, exports and API in English.

    Django's ``LocaleMiddleware`` comes before and has looked at the cookie, then at the browser's languages (``Accept-Language``);
    that holds for visitors and for accounts without a choice. A visitor who chooses a language on a shared page keeps it in the cookie.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        asked = asked_for(request)
        chosen = "en" if in_english(request.path_info) else asked or chosen_language(request)
        if chosen:
            translation.activate(chosen)
            request.LANGUAGE_CODE = translation.get_language()
        response = get_response(request)
        if asked:
            keep(response, asked)
        # The cookie counts, and whose session it is.
        patch_vary_headers(response, ("Cookie",))
        return response

    return middleware


def in_english(path: str) -> bool:
    """Whether what is at this address is the same for every reader: an export or an answer of the API."""
    return path.endswith(IN_ENGLISH) or (path.startswith(API) and not path.endswith(API_PAGE))


def asked_for(request: HttpRequest) -> str:
    """The language that the address of a shared page names; empty if it names none."""
    asked = request.GET.get("language", "") if request.path_info.startswith(SHARED) else ""
    return asked if asked in dict(settings.LANGUAGES) else ""


def keep(response: HttpResponseBase, language: str) -> None:
    """In the cookie that ``LocaleMiddleware`` reads."""
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
        samesite="Lax",
    )


def chosen_language(request: HttpRequest) -> str:
    """What the account of whoever is logged in names; empty without an account, a choice, or where the language is gone."""
    user = request.user
    if not user.is_authenticated or user.language not in dict(settings.LANGUAGES):
        return ""
    return user.language
