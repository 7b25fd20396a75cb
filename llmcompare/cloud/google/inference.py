"""Requests that carry a connection's token themselves: to the models behind endpoints, and to Google's interfaces that have no generated
client here. The generated client for inference is not used: over REST it wraps bodies, and it knows one host only."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from llmcompare.cloud.google import names
from llmcompare.cloud.google.errors import CloudError, from_answer, translated
from llmcompare.cloud.google.resources import Endpoint

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

#: Seconds for one request that manages something. Long operations answer at once and are asked about later.
CALL_S = 60.0
#: What is read of an answer at most: dedicated endpoints pass 10 MB on.
MAX_ANSWER_BYTES = 16 * 2**20


class Inference:
    """``credentials``: of :func:`.credentials.credentials`. ``base``: another address than Google's, for tests; plain http only to this
    machine. ``host_for``: dedicated host name → address before ``/v1``."""

    def __init__(
        self,
        project: str,
        region: str,
        credentials: Credentials,
        base: str | None = None,
        host_for: Callable[[str], str] | None = None,
    ) -> None:
        self.parent = names.parent(project, region)
        self.project, self.region = project, region
        self.elsewhere = _checked(base) if base else None
        self.base = self.elsewhere or f"https://{region}-aiplatform.googleapis.com"
        self.host_for = host_for or (lambda dns: self.elsewhere or f"https://{dns}")
        self._credentials, self._lock = credentials, threading.Lock()
        with translated():
            from google.auth.transport.requests import AuthorizedSession

            self.http = AuthorizedSession(credentials)

    def close(self) -> None:
        self.http.close()

    def raw_url(self, endpoint: Endpoint, stream: bool = False) -> str:
        """Where a request for a model goes: ``POST``, any JSON, passed to the container's predict route. Streams on dedicated ones only."""
        verb = "streamRawPredict" if stream else "rawPredict"
        return f"{self._host(endpoint)}/v1/{self._endpoint(endpoint.name)}:{verb}"

    def invoke_url(self, endpoint: Endpoint, route: str) -> str:
        """Where ``route`` of the container is reached, such as ``/v1/chat/completions``: dedicated endpoints of models with ``invoke``."""
        if not route.startswith("/") or ".." in route or not route.isascii():
            raise CloudError("invalid", _("A route of the container begins with / and has no .. in it."))
        return f"{self._host(endpoint)}/v1/{self._endpoint(endpoint.name)}/invoke{route}"

    def bearer(self) -> str:
        """A token for the header ``Authorization: Bearer …`` that is good for minutes. Fetched anew where the last one ends soon."""
        with self._lock, translated():
            if not self._credentials.valid:
                from google.auth.transport.requests import Request

                self._credentials.refresh(Request())
            return str(self._credentials.token)

    def raw(self, endpoint: Endpoint, body: Mapping[str, Any], timeout_s: float = CALL_S) -> dict[str, Any]:
        """Ask the container once, in one piece. For probes and checks; measurements have a client of their own."""
        return self._json("POST", self.raw_url(endpoint), of_model=True, json=dict(body), timeout=timeout_s)

    def raw_stream(self, endpoint: Endpoint, body: Mapping[str, Any], timeout_s: float = CALL_S) -> Iterator[str]:
        """Lines of a streamed answer as they come."""
        with (
            translated(of_model=True),
            self.http.post(
                self.raw_url(endpoint, stream=True),
                json=dict(body),
                stream=True,
                allow_redirects=False,
                timeout=timeout_s,
            ) as response,
        ):
            if response.status_code != 200:
                raise from_answer(response.status_code, response.raw.read(2**16), response.headers.get("Retry-After"))
            for line in response.iter_lines(chunk_size=1):
                yield line.decode("utf-8", "replace")

    def _endpoint(self, name: str) -> str:
        return names.within(self.parent, "endpoint", name)

    def _host(self, endpoint: Endpoint) -> str:
        if not endpoint.dedicated:
            return self.base
        if not endpoint.dns or not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", endpoint.dns):
            raise CloudError("precondition", _("The endpoint has no address yet. Wait until its creation has ended."))
        return self.host_for(endpoint.dns)

    def _json(self, method: str, url: str, *, of_model: bool = False, **arguments: Any) -> dict[str, Any]:
        arguments.setdefault("timeout", CALL_S)
        with (
            translated(of_model=of_model),
            self.http.request(method, url, stream=True, allow_redirects=False, **arguments) as response,
        ):
            body = bytearray()
            for part in response.iter_content(2**16):
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise CloudError("too_large", _("The answer is larger than 16 MiB. It was not read to its end."))
            if response.status_code != 200:
                after = response.headers.get("Retry-After")
                raise from_answer(response.status_code, bytes(body), after, of_model=of_model)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CloudError("unreadable", _("The answer is not a JSON object."))
        return found


def _checked(base: str) -> str:
    parts = urlsplit(base)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise CloudError("invalid", _("Another address of Vertex AI must be https, or on this machine."))
    return base.rstrip("/")
