"""An httpx transport whose every connection goes to an address that was checked, and nowhere else.

No proxy, no redirect, no retry: a request arrives at the server that the user named, once, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import httpcore
import httpx

from profiling.remote.addresses import Network, Refused, Resolve, addresses, system_resolve
from profiling.remote.stream import StampedStream, connect

#: Opening connections ahead takes so long at most, in seconds, and so many are opened at a time.
AHEAD_S, AHEAD_AT_ONCE = 10.0, 64
#: One that was opened ahead and is older, in seconds, is not used: servers give up connections on which nothing comes.
AHEAD_AGE_S = 30.0


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses. A name is resolved once: all connections of a run go to the same place."""

    def __init__(self, allowed: Sequence[Network] = (), resolve: Resolve = system_resolve) -> None:
        self._allowed, self._resolve = tuple(allowed), resolve
        self._connect = connect
        self._known: dict[tuple[str, int], list[str]] = {}
        self._lock = asyncio.Lock()
        self._ahead: dict[tuple[str, int], deque[StampedStream]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where connections to ``host`` go. Raises :class:`Refused`."""
        async with self._lock:
            if (host, port) not in self._known:
                self._known[host, port] = await asyncio.to_thread(addresses, host, port, self._allowed, self._resolve)
        return self._known[host, port]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        waiting = self._ahead.get((host, port))
        while waiting:
            stream = waiting.popleft()
            if _is_fresh(stream):
                return stream
            await stream.aclose()
        return await self._open(host, port, timeout, socket_options)

    async def _open(
        self, host: str, port: int, timeout: float | None, socket_options: Iterable[Any] | None = None
    ) -> StampedStream:
        begun_ns = time.perf_counter_ns()
        failure: Exception | None = None
        for address in await self.addresses(host, port):
            try:
                stream = await self._connect(address, port, timeout, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                stream.begun_ns = begun_ns  # finding the name's address is part of it
                return stream
        raise failure or httpcore.ConnectError("no address")

    async def open_ahead(self, host: str, port: int, verify: ssl.SSLContext | None) -> None:
        """Open a connection for the next :meth:`connect_tcp` to this place, with TLS where ``verify`` is given. Nothing is sent on it."""
        stream = await self._open(host, port, AHEAD_S)
        if verify is not None:
            verify.set_alpn_protocols(["http/1.1"])  # as the pools below do
            try:
                stream = await stream.start_tls(verify, host, AHEAD_S)
            except BaseException:
                await stream.aclose()
                raise
            stream.secured_for = host
        self._ahead.setdefault((host, port), deque()).append(stream)

    def opened_ahead(self, host: str, port: int) -> int:
        """How many connections wait for a first request."""
        return sum(map(_is_fresh, self._ahead.get((host, port), ())))

    async def aclose(self) -> None:
        """Close what was opened ahead and not used."""
        for waiting in self._ahead.values():
            while waiting:
                await waiting.popleft().aclose()

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("No request goes to a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _is_fresh(stream: StampedStream) -> bool:
    return stream.usable and time.perf_counter_ns() - stream.open_ns < AHEAD_AGE_S * 1e9


class _Body(httpx.AsyncByteStream):
    """Bytes of an answer; ``done`` is called once, when nothing more is read of it."""

    def __init__(self, stream: Any, done: Callable[[], None]) -> None:
        self._stream, self._done = stream, done

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        done, self._done = self._done, lambda: None
        try:
            await self._stream.aclose()
        finally:
            done()


class CheckedTransport(httpx.AsyncBaseTransport):
    """For ``httpx.AsyncClient(transport=…, trust_env=False)``. ``connections``: most that are open at once.

    Every connection is a pool of its own: one pool looks at all pairs of its connections for each request, which with 64 of them costs
    milliseconds, in which no arrival is noted.
    """

    def __init__(self, backend: CheckedBackend, connections: int = 100, verify: ssl.SSLContext | None = None) -> None:
        self._backend, self._verify = backend, verify or ssl.create_default_context()
        self._most = connections
        self._room = asyncio.Semaphore(connections)
        self._all: list[httpcore.AsyncConnectionPool] = []
        #: Used last, taken first: a connection that has long been idle may have been closed by the server.
        self._free: list[httpcore.AsyncConnectionPool] = []

    def _pool(self) -> httpcore.AsyncConnectionPool:
        if self._free:
            return self._free.pop()
        made = httpcore.AsyncConnectionPool(
            ssl_context=self._verify,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=60.0,
            retries=0,
            network_backend=self._backend,
        )
        self._all.append(made)
        return made

    async def open_ahead(self, url: httpx.URL, count: int) -> None:
        """Open connections to the server of ``url``, with TLS, until ``count`` are open and free. No request is sent, and nothing is raised: what
        cannot be opened within :data:`AHEAD_S` is left to the request that needs it, which then says why."""
        place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin
        host, verify = place.host.decode("ascii"), self._verify if place.scheme == b"https" else None
        free = sum(_is_free(pool, place) for pool in self._free) + self._backend.opened_ahead(host, place.port)
        room = asyncio.Semaphore(AHEAD_AT_ONCE)

        async def one() -> None:
            async with room:
                await self._backend.open_ahead(host, place.port, verify)

        opening = [one() for _ in range(min(count, self._most) - free)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AHEAD_S):
                await asyncio.gather(*opening, return_exceptions=True)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        inner = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        await self._room.acquire()
        pool, answer = self._pool(), None

        def done() -> None:
            self._free.append(pool)
            self._room.release()

        try:
            answer = await pool.handle_async_request(inner)
        except httpcore.ConnectTimeout as error:
            raise httpx.ConnectTimeout(str(error), request=request) from error
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except httpcore.ConnectError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.ReadError(str(error), request=request) from error
        finally:
            if answer is None:  # it failed, or was cancelled
                done()
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream, done),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        for pool in self._all:
            await pool.aclose()
        await self._backend.aclose()


def _is_free(pool: httpcore.AsyncConnectionPool, place: httpcore.Origin) -> bool:
    """Whether the pool's connection is open, to this place, and can take a request."""
    return any(
        one.can_handle_request(place) and one.is_available() and not one.has_expired() for one in pool.connections
    )
