"""The httpx client of a server, and what the server says it can do."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from profiling.remote.addresses import Network, Refused, Resolve, system_resolve
from profiling.remote.protocol import Question, cleaned, usage_refused
from profiling.remote.request import Answer, ask, timeouts
from profiling.remote.transport import CheckedBackend, CheckedTransport

MAX_MODELS = 2000
MAX_LIST_BYTES = 4 * 2**20
PROBE_S = 20.0


class Client(httpx.AsyncClient):
    """httpx's, going to checked addresses only: no proxy, no redirect, no cookie kept, no retry. Its connections can be opened ahead."""

    def __init__(self, transport: CheckedTransport, silence_s: float) -> None:
        super().__init__(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=timeouts(silence_s),
            headers={"User-Agent": "llmcompare"},
        )
        self._checked = transport

    async def open_ahead(self, url: str, count: int) -> None:
        """:meth:`profiling.remote.transport.CheckedTransport.open_ahead`."""
        await self._checked.open_ahead(httpx.URL(url), count)


def make_client(
    allowed: Sequence[Network] = (),
    *,
    connections: int = 100,
    silence_s: float = 120.0,
    resolve: Resolve = system_resolve,
    verify: ssl.SSLContext | None = None,
) -> Client:
    """``verify``: whose certificates are believed, of https; None: those that this machine believes."""
    return Client(CheckedTransport(CheckedBackend(allowed, resolve), connections, verify), silence_s)


async def list_models(client: httpx.AsyncClient, base: str, key: str | None = None) -> list[str]:
    """Ids of ``GET /models``, in the server's order. Raises :class:`Refused` with a sentence when there is no such list."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        async with client.stream("GET", f"{base}/models", headers=headers, timeout=PROBE_S) as response:
            if response.status_code in (401, 403):
                raise Refused(f"The server does not accept the API key (status {response.status_code}).")
            if response.status_code != 200:
                raise Refused(f"The server has no list of models at {base}/models (status {response.status_code}).")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_LIST_BYTES:
                    raise Refused("The server's list of models is larger than 4 MiB.")
    except httpx.TimeoutException:
        raise Refused(f"The server did not answer within {PROBE_S:g} s.") from None
    except httpx.HTTPError as error:
        raise Refused(f"No connection to the server: {cleaned(str(error)) or type(error).__name__}.") from None
    try:
        rows = json.loads(body)["data"]
        found = [row["id"] for row in rows if isinstance(row.get("id"), str)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused("The server's list of models is not one of this protocol.") from None
    return [cleaned(name) for name in found[:MAX_MODELS]]


@dataclass(frozen=True)
class Abilities:
    """What a server was seen to do. ``api``: ``chat`` or ``completions``. ``usage``: it counts tokens in streams, and whether it has to be
    asked to. ``streams``: the answer came in events."""

    api: str
    usage_asked: bool
    usage: bool
    streams: bool


async def probe(
    client: httpx.AsyncClient,
    base: str,
    model: str,
    key: str | None = None,
    apis: Sequence[str] = ("chat", "completions"),
) -> tuple[Abilities | None, Answer]:
    """Two tokens from ``model`` by each route of ``apis`` until one answers. With None: the last refusal."""
    for api in apis:
        for usage in (True, False):
            question = Question(model, "Say one word.", max_tokens=2, api=api, usage=usage)
            answer = await ask(client, base, question, key=key, total_s=PROBE_S)
            if answer.error is None:
                counted = answer.usage is not None and answer.usage.output is not None
                return Abilities(api, usage, counted, answer.first_chunk_ns is not None), answer
            if not usage_refused(answer.status or 0, answer.error):
                break
        if answer.kind not in ("http", "stream") or answer.status in (401, 403, 429):
            break  # another route would say the same
    return None, answer
