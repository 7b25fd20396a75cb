"""One request to a remote server, timed from outside.

Times are of this side's clock: from the moment at which the request is handed to the connection to the moments at which parts of the answer
were read. The network is in all of them. A token is counted by the server's usage, never by chunks: a chunk can hold several tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from profiling.remote.addresses import Refused
from profiling.remote.events import BrokenStream, read_events
from profiling.remote.protocol import APIS, Chunk, Question, Usage, cleaned, error_text, parse, parse_whole
from profiling.remote.secrets import secrets_of, without
from profiling.remote.stream import StampedStream

MAX_TEXT = 2**20
MAX_CHUNKS = 200_000
MAX_ERROR_BODY = 64 * 2**10
#: How long the end of a stream is waited for after ``[DONE]``, in seconds. Servers send it at once.
END_S = 0.1
#: Why an answer ended, where the model ended it itself: by a token that servers count and that has no text.
ENDED_BY_MODEL = frozenset({"stop", "eos", "eos_token", "end_turn", "tool_calls", "function_call"})


@dataclass
class Answer:
    """What came back, with times in ns of the clock. What is None has not happened.

    ``first_chunk_ns``: any event of the stream, also one that names only the role. ``first_token_ns`` and ``last_token_ns``: events
    with text, reasoning or part of a function call. ``arrivals``: the times of those events. ``finish_ns``: the event that says
    why the answer ended. ``kind`` of a failure: ``refused`` (no request was made), ``connect``, ``timeout``, ``http``, ``stream``, ``cut``. ``counted``: the tokens in ``usage`` were counted here, not
    by the server. ``ours``: what a server of ours says of itself, not checked. ``connect_ns``: how long opening the connection took, of its first
    request (of others None), and ``connect_waited``: that was after the request was sent, so it is in all of its times.
    """

    sent_ns: int
    headers_ns: int | None = None
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    finish_ns: int | None = None
    end_ns: int | None = None
    status: int | None = None
    finish: str | None = None
    usage: Usage | None = None
    text: str = ""
    reasoning: str = ""
    arrivals: list[int] = field(default_factory=list)
    error: str | None = None
    kind: str | None = None
    retry_after_s: float | None = None
    counted: bool = False
    ours: dict[str, Any] | None = None
    connect_ns: int | None = None
    connect_waited: bool = False

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: from sending to the first event that has output. None without one."""
        return None if self.first_token_ns is None else (self.first_token_ns - self.sent_ns) / 1e9

    @property
    def sent_tokens(self) -> int | None:
        """Output tokens that came in events. Reasoning that the server counts and keeps to itself was over before the first event."""
        if self.usage is None or self.usage.output is None:
            return None
        hidden = 0 if self.reasoning else self.usage.reasoning or 0
        return max(self.usage.output - hidden, 0)

    @property
    def last_counted_ns(self) -> int | None:
        """When the last of :attr:`sent_tokens` had arrived. None without output.

        The token by which a model ends its answer is in a server's count and has no text: it arrives with the word that the answer has
        ended. It was not counted where every token that was came in an event of its own, nor in a count of the text.
        """
        tokens, last = self.sent_tokens, self.last_token_ns
        if last is None or self.finish_ns is None or self.finish not in ENDED_BY_MODEL:
            return last
        if self.counted or tokens is None or len(self.arrivals) >= tokens:
            return last
        return max(last, self.finish_ns)

    @property
    def tpot_s(self) -> float | None:
        """(:attr:`last_counted_ns` − first event with output) ÷ (:attr:`sent_tokens` − 1); None for one token, or where nobody counted."""
        tokens, end = self.sent_tokens, self.last_counted_ns
        if tokens is None or tokens < 2 or self.first_token_ns is None or end is None:
            return None
        if self.last_token_ns == self.first_token_ns:
            return None  # the whole answer came in one event: it says nothing of the time between tokens
        return (end - self.first_token_ns) / (tokens - 1) / 1e9

    @property
    def e2e_s(self) -> float | None:
        """From sending to the last event with output."""
        return None if self.last_token_ns is None else (self.last_token_ns - self.sent_ns) / 1e9

    def fail(self, kind: str, sentence: str) -> Answer:
        self.kind, self.error = kind, sentence
        return self


def timeouts(total_s: float, first_s: float | None = None) -> httpx.Timeout:
    """``first_s``: longest silence, at the begin and between chunks."""
    return httpx.Timeout(first_s or total_s, connect=min(10.0, total_s), pool=None)


async def ask(
    client: httpx.AsyncClient,
    base: str,
    question: Question,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    url: str | None = None,
    total_s: float | None = None,
    now_ns: Callable[[], int] = time.perf_counter_ns,
) -> Answer:
    """Send ``question`` and read the answer to its end. Never raises for what a server or network does: that is in ``Answer.error``.

    ``base``: as in :class:`profiling.remote.addresses.Server`. ``key``: an API key. ``headers``: further ones, whose values are kept out of
    every sentence too. ``url``: the whole address of the route, where it is not that of the protocol. ``total_s``: after so long the answer is
    given up, whatever trickles in; the server may be silent until then. A cancelled task closes the connection.
    """
    # Nothing compressed: a compressor at the server holds tokens back, and times would be those of its blocks.
    own = {"Accept": "text/event-stream" if question.stream else "application/json", "Accept-Encoding": "identity"}
    secret = ({"Authorization": f"Bearer {key}"} if key else {}) | dict(headers or {})
    if any(not (value.isascii() and value.isprintable()) for value in secret.values()):
        # The libraries below would say so too, and quote it.
        return Answer(now_ns()).fail("refused", "The API key has characters that no header can have: enter it anew.")
    silence = httpx.USE_CLIENT_DEFAULT if total_s is None else timeouts(total_s)
    request = client.build_request(
        "POST", url or base + APIS[question.api], json=question.body(), headers=own | secret, timeout=silence
    )
    answer, secrets = Answer(now_ns()), secrets_of(secret)
    try:
        async with asyncio.timeout(total_s):
            await _exchange(client, request, answer, secrets, _STATUS if url is None else _CLOUD, now_ns)
    except TimeoutError:
        if answer.end_ns is None:  # else only the end of its stream was still to come
            return answer.fail("timeout", f"The answer was not complete after {total_s:g} s.")
    except Refused as error:
        return answer.fail("refused", str(error))
    except httpx.ConnectTimeout:
        return answer.fail(
            "connect", "No connection within the time limit: is the server running, and reachable from here?"
        )
    except httpx.TimeoutException:
        return answer.fail("timeout", "The server was silent for longer than the time limit.")
    except httpx.ConnectError as error:
        return answer.fail("connect", f"No connection: {cleaned(str(error)) or 'the server does not answer'}.")
    except httpx.HTTPError as error:
        return answer.fail("cut", f"The connection broke off: {cleaned(str(error)) or type(error).__name__}.")
    except (BrokenStream, ValueError) as error:
        return answer.fail("stream", str(error))
    if answer.usage and answer.usage.output == 0 and answer.arrivals:
        answer.usage = replace(answer.usage, output=None)  # a field that was filled in without counting
    return answer


async def _exchange(
    client: httpx.AsyncClient,
    request: httpx.Request,
    answer: Answer,
    secrets: tuple[str, ...],
    meanings: Mapping[int, str],
    now_ns: Callable[[], int],
) -> None:
    response = await client.send(request, stream=True)
    try:
        answer.headers_ns, answer.status = now_ns(), response.status_code
        _note_opening(response, answer)
        if response.status_code != 200:
            await _refusal(response, answer, secrets, meanings)
        elif "text/event-stream" in response.headers.get("content-type", ""):
            await _read_stream(response, answer, now_ns)
        else:
            await _read_whole(response, answer, now_ns)
    finally:
        await response.aclose()


async def _read_stream(response: httpx.Response, answer: Answer, now_ns: Callable[[], int]) -> None:
    finished, stream = False, response.aiter_raw()
    async for event in read_events(stream, _arrival(response, now_ns)):
        chunk = parse(event.data)
        if answer.first_chunk_ns is None:
            answer.first_chunk_ns = event.at_ns
        if chunk.error is not None or event.kind == "error":
            answer.fail("stream", f"The server ended its answer with an error: {chunk.error or cleaned(event.data)}")
            return
        _take(answer, chunk, event.at_ns)
        finished = finished or chunk.done or chunk.finish is not None
        if chunk.done:
            break
    answer.end_ns = now_ns()
    if not finished:
        answer.fail(
            "cut", "The stream ended before the answer was complete: neither a reason for its end nor [DONE] came."
        )
        return
    await _to_the_end(stream)


async def _to_the_end(stream: AsyncIterator[bytes]) -> None:
    """Read what is left of a stream whose answer is complete, so that its connection can be used again: handshakes of a new one for every
    request would be in every time to first token. A server that does not end its stream loses the connection, and the answer stands."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(END_S):
            async for _ in stream:
                pass


def _note_opening(response: httpx.Response, answer: Answer) -> None:
    """Of the first request of a connection: how long opening it took, and whether that is in the request's times."""
    stream = response.extensions.get("network_stream")
    if isinstance(stream, StampedStream) and stream.unused:
        stream.unused = False
        answer.connect_ns = stream.open_ns - stream.begun_ns
        answer.connect_waited = stream.open_ns > answer.sent_ns


def _arrival(response: httpx.Response, now_ns: Callable[[], int]) -> Callable[[], int]:
    """When the bytes that were read last had arrived: of our own connections, else the time of reading."""
    stream = response.extensions.get("network_stream")
    return (lambda: stream.read_ns) if isinstance(stream, StampedStream) else now_ns


async def _read_whole(response: httpx.Response, answer: Answer, now_ns: Callable[[], int]) -> None:
    """An answer in one piece: its tokens all arrive at once, so it has an end-to-end latency and neither TTFT nor TPOT."""
    body = await _bounded(response, 64 * 2**20)
    answer.end_ns = now_ns()
    chunk = parse_whole(body.decode("utf-8", "replace"))
    if chunk.error is not None:
        answer.fail("http", f"The server says: {chunk.error}")
        return
    _take(answer, chunk, answer.end_ns)
    answer.first_token_ns = None
    if not chunk.has_output and chunk.finish is None:
        answer.fail("stream", "The server answered, but not in the shape of this protocol: no choices are in it.")


def _take(answer: Answer, chunk: Chunk, at_ns: int) -> None:
    if chunk.has_output:
        if answer.first_token_ns is None:
            answer.first_token_ns = at_ns
        answer.last_token_ns = at_ns
        if len(answer.arrivals) >= MAX_CHUNKS:
            raise BrokenStream(f"The answer has more than {MAX_CHUNKS:,} events.")
        answer.arrivals.append(at_ns)
        if chunk.text and len(answer.text) < MAX_TEXT:
            answer.text = (answer.text + chunk.text)[:MAX_TEXT]
        if chunk.reasoning and len(answer.reasoning) < MAX_TEXT:
            answer.reasoning = (answer.reasoning + chunk.reasoning)[:MAX_TEXT]
    if chunk.finish:
        answer.finish, answer.finish_ns = chunk.finish, answer.finish_ns or at_ns
    answer.usage = chunk.usage or answer.usage
    if chunk.ours is not None:
        answer.ours = {**(answer.ours or {}), **chunk.ours}


async def _bounded(response: httpx.Response, most: int) -> bytes:
    parts, total = [], 0
    async for part in response.aiter_raw():
        total += len(part)
        if total > most:
            raise BrokenStream(f"The answer is larger than {most // 2**20} MiB.")
        parts.append(part)
    return b"".join(parts)


_STATUS = {
    400: "The server refused the request",
    401: "The server does not accept the API key",
    403: "The API key may not use this model",
    404: "The server has no such route or model",
    413: "The request is too large for the server",
    422: "The server refused the request",
    429: "The server's rate limit or quota is reached",
    500: "The server failed",
    502: "A gateway before the server got no answer from it",
    503: "The server is not ready or overloaded",
    504: "A gateway before the server waited too long for it",
}
#: Where a cloud stands before the server, requests carry its credentials and no key.
_CLOUD = _STATUS | {
    401: "The cloud does not accept the credentials of the connection",
    403: "The credentials of the connection may not use this endpoint",
    404: "The cloud has no such endpoint any more",
    429: "The cloud's rate limit or quota is reached",
}


async def _refusal(
    response: httpx.Response, answer: Answer, secrets: tuple[str, ...], meanings: Mapping[int, str]
) -> None:
    """The sentence for a status that is not 200, by ``meanings``. What the server says is quoted short, without the key if it repeats it."""
    status = response.status_code
    answer.retry_after_s = _seconds(response.headers.get("retry-after"))
    if 300 <= status < 400:
        answer.fail(
            "http", f"The server redirects to another address (status {status}), which is not followed. Enter that one."
        )
        return
    try:
        body = (await _bounded(response, MAX_ERROR_BODY)).decode("utf-8", "replace")
        said = _said(body)
    except (BrokenStream, httpx.HTTPError):
        said = None
    said = without(secrets, said)
    what = meanings.get(status, "The server refused the request")
    answer.fail("http", f"{what} (status {status})" + (f": {said.rstrip('.')}." if said else "."))


def _said(body: str) -> str | None:
    try:
        return error_text(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _seconds(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < 86_400 else None
