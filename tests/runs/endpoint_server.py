"""A server of the OpenAI protocol in a process of its own: it demands a key, answers with tokens at known times, and tells what it was sent.

Not a thread of the test: that would answer late whenever the test or Django is busy.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

TOKENS, TOKEN_S = 4, 0.01


@dataclass
class Server:
    """``base``: its address up to ``/v1``."""

    base: str
    pipe: Connection

    def requests(self) -> list[dict[str, Any]]:
        """``path, authorization, body`` of everything that was asked so far."""
        self.pipe.send("requests")
        return self.pipe.recv()


def _serve(pipe: Connection, key: str, slots: int, hold: bool) -> None:
    from tests.profiling.remote.serving import Request, serving

    async def handler(request: Request) -> None:
        if key and request.headers.get("authorization") != f"Bearer {key}":
            # It repeats what it got, as some do.
            await request.whole({"error": {"message": f"wrong key {request.headers.get('authorization')}"}}, 401)
            return
        async with room:
            await request.head()
            await request.text(f"{key} ")
            for _ in range(TOKENS - 1):
                await asyncio.sleep(3600 if hold else TOKEN_S)
                await request.text("word ")
        usage = {"prompt_tokens": 9, "completion_tokens": TOKENS}
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": usage})
        await request.event("[DONE]")
        await request.end()

    async def go() -> None:
        nonlocal room
        room = asyncio.Semaphore(slots)
        async with serving(handler) as (base, requests):
            pipe.send(base)
            while await asyncio.to_thread(pipe.recv) == "requests":
                pipe.send(
                    [
                        {"path": one.path, "authorization": one.headers.get("authorization"), "body": one.body}
                        for one in requests
                    ]
                )

    room: asyncio.Semaphore
    asyncio.run(go())


@contextmanager
def endpoint_server(key: str = "", *, slots: int = 64, hold: bool = False) -> Iterator[Server]:
    """``slots``: requests that it answers at a time. ``hold``: answers begin and never end. Each answer begins with the key."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(there, key, slots, hold), daemon=True)
    process.start()
    try:
        assert here.poll(60), "the server did not start"
        yield Server(here.recv(), here)
    finally:
        process.kill()
        process.join(10)
