"""A server of the OpenAI protocol that sends what a test wants, when it wants, and notes when it did. Real sockets, real HTTP."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from profiling.remote.addresses import parse_networks
from profiling.remote.client import make_client

LOOPBACK = parse_networks("127.0.0.0/8")


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: dict
    got_ns: int
    writer: asyncio.StreamWriter
    sent_ns: list[int] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def send(self, part: bytes) -> None:
        """One chunk on the wire; its time is noted."""
        self.writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.sent_ns.append(time.perf_counter_ns())
        await self.writer.drain()

    async def event(self, found: dict | str) -> None:
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        await self.send(f"data: {text}\n\n".encode())

    async def text(self, text: str) -> None:
        await self.event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def whole(self, found: dict | str, status: int = 200, **headers: str) -> None:
        await self.head(status, "application/json", **headers)
        await self.send((found if isinstance(found, str) else json.dumps(found)).encode())
        await self.end()


Handler = Callable[[Request], Awaitable[None]]
Greet = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, greet: Greet | None = None
) -> AsyncIterator[tuple[str, list[Request]]]:
    """``base`` address of a server on 127.0.0.1, and the requests that it got. ``greet`` is told of each connection when it is made."""
    requests: list[Request] = []
    tasks: set[asyncio.Task] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            if greet is not None:
                await greet(writer)
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                one = Request(method, path, headers, json.loads(body or b"{}"), time.perf_counter_ns(), writer)
                requests.append(one)
                await handler(one)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if requests:
                requests[-1].closed.set()
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def client(**options):
    return make_client(LOOPBACK, **options)


async def well_behaved(request: Request, tokens: int = 4) -> None:
    """The list of models, and answers of so many tokens, each an event, with usage."""
    if request.path == "/v1/models":
        await request.whole({"data": [{"id": "tiny"}]})
        return
    await request.head()
    for number in range(tokens):
        await request.text(f"t{number} ")
        await asyncio.sleep(0.002)
    await request.event({"choices": [{"delta": {}, "finish_reason": "length"}]})
    await request.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}})
    await request.event("[DONE]")
    await request.end()


@contextmanager
def running(handler: Handler, **options) -> Iterator[tuple[str, list[Request]]]:
    """A server in a thread of its own: what is tested has its own event loop."""
    ready = threading.Event()
    found: dict = {}

    async def go() -> None:
        found["end"], found["loop"] = asyncio.Event(), asyncio.get_running_loop()
        async with serving(handler, **options) as (base, requests):
            found["base"], found["requests"] = base, requests
            ready.set()
            await found["end"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(go()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield found["base"], found["requests"]
    finally:
        found["loop"].call_soon_threadsafe(found["end"].set)
        thread.join(20)
