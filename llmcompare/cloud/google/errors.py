"""Everything that goes wrong between here and Google, as one kind of error with a sentence that says what to do.

Google answers in several shapes: exceptions of its client library, of its login library and of ``requests``, errors inside of operations,
JSON of the inference routes. :func:`translated` and :func:`from_answer` are the only places that know them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.utils.translation import gettext as _

MAX_SAID = 400
#: google.rpc.Code of an operation's error → HTTP status (google/rpc/code.proto).
STATUS_OF_CODE = {
    **{1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500},
    **{14: 503, 15: 500, 16: 401},
}
_QUOTAS = (
    re.compile(r"quotas? (?:are|is|were|was) exceeded:?\s*(?P<names>[\w./ ,-]+)", re.IGNORECASE),
    re.compile(r"quota exceeded for (?:quota )?(?:metric:? )?['\"]?(?P<names>[\w./-]+)", re.IGNORECASE),
)
#: "Bearer …", tokens of Google's, JSON Web Tokens, keys.
_CREDENTIALS = re.compile(
    r"(?P<kept>\bbearer:? +)[\w.~+/=-]+|\bya29\.[\w.-]+|\beyJ[\w-]+(?:\.[\w-]*)*|-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:KEY-----|$)",
    re.IGNORECASE,
)
_RATE = re.compile(r"per[_ ]?minute|requests_per|PerMinute|too many requests|rate limit", re.IGNORECASE)
_NO_MACHINES = re.compile(
    r"sufficient (?:resources|capacity)|enough resources|out of stock|stockout|"
    r"(?:machine|accelerator|gpu|tpu|zone)[^.]{0,60}temporarily unavailable",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"(response|request payload) size (?:too large|exceeds)", re.IGNORECASE)
_NOT_DEPLOYED = re.compile(r"(no|any) deployed models?", re.IGNORECASE)
_CONTAINER = re.compile(
    r"model server (?:exited|never became ready|crashed)|container .{0,40}(?:exited|died)", re.IGNORECASE
)


class CloudError(Exception):
    """``code``: credentials, forbidden, not_found, quota, rate, no_machines, unavailable, deadline, precondition, container, too_large,
    invalid, conflict, unreachable, cut, unreadable, not_ours or failed. ``sentence``: for the user, without secrets. ``retry_after_s``:
    when the service says so. ``again``: the same request may succeed later without anybody doing anything."""

    def __init__(self, code: str, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.retry_after_s = code, sentence, retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.sentence, self.retry_after_s)

    @property
    def again(self) -> bool:
        return self.code in ("rate", "unavailable", "deadline", "unreachable", "cut", "no_machines")

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "sentence": self.sentence, "retry_after_s": self.retry_after_s}


@contextmanager
def translated(*, of_model: bool = False) -> Iterator[None]:
    """Raise :class:`CloudError` for whatever Google's libraries raise inside of this block. Their own exceptions stay out of tracebacks:
    they hold requests, and requests hold tokens. ``of_model``: what is asked is a model, and how long that may take is its endpoint's."""
    try:
        yield
    except CloudError:
        raise
    except Exception as error:
        found = _known(error, of_model)
        if found is None:
            raise
    else:
        return
    raise found from None


def _known(error: Exception, of_model: bool) -> CloudError | None:
    """Imported here: where one of these is raised, its library is loaded already."""
    import requests
    from google.api_core import exceptions as core
    from google.auth import exceptions as auth
    from google.protobuf import json_format

    if isinstance(error, core.RetryError):
        return by_status(504, str(error.message), of_model=False)
    if isinstance(error, core.GoogleAPICallError):
        answer = getattr(error, "response", None)
        if isinstance(answer, requests.Response):
            after = answer.headers.get("Retry-After")
            return from_answer(answer.status_code, answer.content, after, of_model=False)
        return by_status(int(error.code or 500), str(error.message or ""), of_model=False)
    if isinstance(error, requests.Timeout) or (isinstance(error, requests.ConnectionError) and _silent(error)):
        connecting = isinstance(error, requests.ConnectTimeout)
        return unreachable() if connecting else by_status(504, of_model=of_model)
    if isinstance(error, requests.ConnectionError) and "aborted" in str(error):
        return _cut()
    if isinstance(error, auth.TransportError | requests.ConnectionError):
        return unreachable()
    if isinstance(error, auth.GoogleAuthError):
        return _login(error)
    if isinstance(error, requests.RequestException):
        return _cut()
    if isinstance(error, json_format.ParseError):
        return CloudError("unreadable", _("Google's answer is not in the shape that this version of the portal knows."))
    return None


def _cut() -> CloudError:
    return CloudError("cut", _("The connection to Google broke off before the answer was complete. Try again."))


def _silent(error: Exception) -> bool:
    """Whether ``requests`` gave up reading: between parts of an answer it says that with an exception for connections."""
    return "Read timed out" in str(error)


def _login(error: Exception) -> CloudError:
    if getattr(error, "retryable", False):
        return by_status(503)
    if type(error).__name__ == "DefaultCredentialsError":
        return CloudError(
            "credentials", _("This machine has no identity of its own at Google. Its operator has to set one up.")
        )
    if re.search(r"getAccessToken|impersonat", str(error)):
        sentence = _(
            "The portal's identity may not act as this service account. Grant it Service Account Token Creator on it."
        )
        return CloudError("credentials", sentence)
    return CloudError("credentials", _("Google does not accept the credentials of this connection. Check them."))


def unreachable() -> CloudError:
    return CloudError("unreachable", _("Google cannot be reached from this server. Check its network and try again."))


def from_operation(error: Mapping[str, Any]) -> CloudError:
    """The ``error`` of an operation (google.rpc.Status as JSON)."""
    details = [one for one in error.get("details") or () if isinstance(one, Mapping)]
    code = int(error.get("code") or 2)
    state = "FAILED_PRECONDITION" if code == 9 else ""
    message = str(error.get("message") or "")
    return by_status(STATUS_OF_CODE.get(code, 500), message, None, details, state, of_model=False)


def from_answer(status: int, body: str | bytes, retry_after: str | None = None, *, of_model: bool = True) -> CloudError:
    """An answer of an inference route that is not 200."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    found = found[0] if isinstance(found, list) and found else found  # streams send errors in a list
    error = found.get("error") if isinstance(found, Mapping) else None
    if isinstance(error, Mapping):
        details = [one for one in error.get("details") or () if isinstance(one, Mapping)]
        state = str(error.get("status") or "")
        message = str(error.get("message") or "")
        return by_status(status, message, _seconds(retry_after), details, state, of_model=of_model)
    message = error if isinstance(error, str) else ""
    return by_status(status, message, _seconds(retry_after), of_model=of_model)


def by_status(
    status: int,
    message: str = "",
    retry_after_s: float | None = None,
    details: list[Mapping[str, Any]] | None = None,
    state: str = "",
    of_model: bool = True,
) -> CloudError:
    """The error for an HTTP status and what the service said with it. ``state``: the name of the error's code, such as
    ``FAILED_PRECONDITION``, which an HTTP status does not tell from others. ``of_model``: of a request for a model, not for the service."""
    said, after = _said(message), retry_after_s if retry_after_s is not None else _retry_info(details or [])
    if status == 429:
        return _exhausted(message, after, details or [])
    if _NO_MACHINES.search(message):
        return CloudError("no_machines", _no_machines(), after)
    if _CONTAINER.search(message):
        return CloudError("container", _("The container did not become ready.") + said)
    if status == 413 or _TOO_LARGE.search(message):
        return CloudError("too_large", _too_large(message) + said)
    if status == 401:
        return CloudError("credentials", _("Google does not accept the credentials of this connection. Check them."))
    if status == 403:
        return CloudError(
            "forbidden", _("The credentials of this connection may not do this. Grant the role that is missing.") + said
        )
    if status == 404:
        return CloudError("not_found", _("Google has no such resource in this project and region any more.") + said)
    if status in (408, 504):
        late = _late(said) if of_model else _("Google did not do this in time. Try again.") + said
        return CloudError("deadline", late, after)
    if status == 409:
        return CloudError("conflict", _("Something else is being done to this resource. Wait and try again.") + said)
    if status == 503:
        return CloudError(
            "unavailable", _("The service or the model behind it is not ready. Try again in a minute.") + said, after
        )
    if status == 400 and (state == "FAILED_PRECONDITION" or _NOT_DEPLOYED.search(message)):
        return CloudError("precondition", _("This is not possible in its present state.") + said)
    if status == 400:
        return CloudError("invalid", _("Google refused the request.") + said)
    return CloudError("failed", _("Google's service failed (status {status}).").format(status=status) + said)


def _exhausted(message: str, after: float | None, details: list[Mapping[str, Any]]) -> CloudError:
    """A quota of the project, a rate, or machines that the region has not: three things to do about one code of Google's."""
    if _NO_MACHINES.search(message):
        return CloudError("no_machines", _no_machines(), after)
    names = quotas(message, details)
    listed = ", ".join(names)
    if (names and _RATE.search(listed)) or (not names and (after is not None or _RATE.search(message))):
        what = _("Google's limit of requests is reached: {quotas}.").format(quotas=listed)
        what = what if listed else _("Google's limit of requests is reached.")
        wait = _("Wait {seconds:.0f} s.").format(seconds=after) if after is not None else _("Wait a minute.")
        return CloudError("rate", f"{what} {wait}", after)
    if names:
        sentence = _(
            "The project's quota is used up: {quotas}. Ask for more under IAM & Admin → Quotas, undeploy something, "
            "or take another region or machine."
        ).format(quotas=listed)
        return CloudError("quota", sentence, after)
    return CloudError(
        "quota",
        _("A quota of the project is used up. Ask for more, undeploy something, or take another region.")
        + _said(message),
        after,
    )


def quotas(message: str, details: list[Mapping[str, Any]] | None = None) -> list[str]:
    """Names of quotas that an error is about: from its details, else from its text."""
    named = []
    for one in details or []:
        metadata = one.get("metadata")
        if isinstance(metadata, Mapping) and isinstance(metadata.get("quota_metric"), str):
            named.append(metadata["quota_metric"])
    for pattern in _QUOTAS:
        for found in pattern.finditer(message):
            named += [name.strip(" .,") for name in found["names"].split(",")]
    return [_one_line(name)[:120] for name in dict.fromkeys(named) if name and " " not in name]


def _no_machines() -> str:
    return _("The region has no such machine free at the moment. Try again later, or take another machine or region.")


def _late(said: str) -> str:
    return (
        _(
            "The answer took longer than the service waits: 60 s on shared endpoints, longer on dedicated ones. Ask for fewer tokens."
        )
        + said
    )


def _too_large(message: str) -> str:
    if re.search("request", message, re.IGNORECASE):
        return _("The request is larger than the endpoint takes: 1.5 MB if it is shared, 10 MB if it is dedicated.")
    return _("The answer was larger than the endpoint passes on: 1.5 MB if it is shared, 10 MB if it is dedicated.")


def _said(message: str) -> str:
    text = _one_line(message).rstrip(".")
    if not text:
        return ""
    text = text if len(text) <= MAX_SAID else text[: MAX_SAID // 2] + " … " + text[-MAX_SAID // 2 :]
    return " " + _("The service says: {said}.").format(said=text)


def _one_line(text: str) -> str:
    return without_credentials(" ".join("".join(c if c.isprintable() else " " for c in text[:20_000]).split()))


def without_credentials(text: str) -> str:
    """Words of others, who may repeat what they were sent: tokens, signed assertions and private keys are left out."""
    return _CREDENTIALS.sub(lambda found: f"{found['kept'] or ''}…", text)


def _retry_info(details: list[Mapping[str, Any]]) -> float | None:
    for one in details:
        delay = one.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    return None


def _seconds(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < 86_400 else None
