"""An httpx transport whose every connection goes to an address that was checked, and nowhere else.

No proxy, no redirect, no retry: a request arrives at the server that the user named, once, or not at all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import httpcore
import httpx

from profiling.remote.addresses import Network, Refused, Resolve, addresses, system_resolve
from profiling.remote.stream import connect


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses. A name is resolved once: all connections of a run go to the same place."""

    def __init__(self, allowed: Sequence[Network] = (), resolve: Resolve = system_resolve) -> None:
        self._allowed, self._resolve = tuple(allowed), resolve
        self._connect = connect
        self._known: dict[tuple[str, int], list[str]] = {}
        self._lock = asyncio.Lock()

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
        failure: Exception | None = None
        for address in await self.addresses(host, port):
            try:
                return await self._connect(address, port, timeout, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError("no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("No request goes to a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


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
