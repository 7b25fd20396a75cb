"""A connection that notes when bytes arrived, not when somebody got round to them.

With many streams at once, tokens come in bursts, as a server sends those of a whole batch together. A task that reads one of them waits for
the tasks before it, and a time taken there is late by all of their work. ``data_received`` is called for every socket that has something
before any task goes on, so the time is taken there; and tasks go on one by one (:mod:`profiling.remote.turns`), so that it is called again
between two of them.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import httpcore

from profiling.remote.turns import turns

#: A reader that is slower than the network stops it here.
HIGH_WATER = 2**20


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.parts: deque[tuple[bytes, int]] = deque()
        self.held = 0
        self.ended = False
        self.error: Exception | None = None
        self.reader: asyncio.Future[None] | None = None
        self.woken = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport | None = None
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parts.append((data, time.perf_counter_ns()))
        self.held += len(data)
        if self.held > HIGH_WATER and self.transport is not None and not self.paused:
            self.transport.pause_reading()
            self.paused = True
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self.error = True, error
        self.writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _wake(self) -> None:
        if self.reader is not None and not self.woken:
            self.woken = True
            turns().wake(self.reader)

    async def wait(self) -> None:
        """Until there is something to read, or nothing more comes."""
        if not self.parts and not self.ended:
            self.reader, self.woken = asyncio.get_running_loop().create_future(), False
            await self.reader

    def take(self, most: int) -> tuple[bytes, int]:
        data, at = self.parts.popleft()
        if len(data) > most:
            self.parts.appendleft((data[most:], at))
            data = data[:most]
        self.held -= len(data)
        if self.paused and self.held <= HIGH_WATER // 2 and self.transport is not None:
            self.transport.resume_reading()
            self.paused = False
        return data, at


class StampedStream(httpcore.AsyncNetworkStream):
    """``read_ns``: when what :meth:`read` returned last had arrived, of ``time.perf_counter_ns``. ``begun_ns`` to ``open_ns``: opening it, TLS
    included. ``unused``: no answer came on it yet. ``secured_for``: TLS is up for this name already (:meth:`start_tls` has nothing to do)."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol, begun_ns: int | None = None) -> None:
        self._transport, self._protocol = transport, protocol
        self.read_ns = self.open_ns = time.perf_counter_ns()
        self.begun_ns = self.open_ns if begun_ns is None else begun_ns
        self.unused = True
        self.secured_for: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a first request can be sent on it: nothing came, and neither side has closed it."""
        return not (self._protocol.parts or self._protocol.ended or self._transport.is_closing())

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                await self._protocol.wait()
        except TimeoutError:
            raise httpcore.ReadTimeout from None
        if self._protocol.parts:
            data, self.read_ns = self._protocol.take(max_bytes)
            return data
        if self._protocol.error is not None:
            raise httpcore.ReadError(str(self._protocol.error))
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._protocol.writable.wait()
        except TimeoutError:
            raise httpcore.WriteTimeout from None
        if self._transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        self._transport.write(buffer)

    async def aclose(self) -> None:
        self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> StampedStream:
        if self.secured_for is not None:
            if server_hostname != self.secured_for:
                raise httpcore.ConnectError("the connection was opened for another name")
            return self
        try:
            async with asyncio.timeout(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport, self._protocol, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            self._transport.abort()
            raise httpcore.ConnectTimeout from None
        except (OSError, ssl.SSLError) as error:
            self._transport.abort()
            raise httpcore.ConnectError(str(error)) from error
        if transport is None:
            raise httpcore.ConnectError("the connection closed during the TLS handshake")
        self._protocol.transport = transport
        return StampedStream(transport, self._protocol, self.begun_ns)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return bool(self._protocol.parts) or self._protocol.ended
        return self._transport.get_extra_info({"client_addr": "sockname", "server_addr": "peername"}.get(info, info))


async def connect(
    address: str, port: int, timeout: float | None = None, socket_options: Iterable[Any] | None = None
) -> StampedStream:
    """A connection to an IP address. Raises httpcore's errors."""
    begun_ns = time.perf_counter_ns()
    try:
        async with asyncio.timeout(timeout):
            transport, protocol = await asyncio.get_running_loop().create_connection(_Protocol, address, port)
    except TimeoutError:
        raise httpcore.ConnectTimeout from None
    except OSError as error:
        raise httpcore.ConnectError(error.strerror or str(error)) from error
    for option in socket_options or ():
        transport.get_extra_info("socket").setsockopt(*option)
    return StampedStream(transport, protocol, begun_ns)
