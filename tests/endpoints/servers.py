"""A server of the protocol beside a test that is not asynchronous itself, and its endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.profiling.remote.serving import Request, serving

MODELS = {"object": "list", "data": [{"id": "big"}, {"id": "small"}]}


async def whole(request: Request) -> None:
    """Lists two models, streams an answer by both routes and counts its tokens."""
    if request.path.endswith("/models"):
        return await request.whole(MODELS)
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    await request.head()
    await request.event(
        {"choices": [{"delta": {"content": "Hi"}, "text": "Hi", "finish_reason": "stop"}], "usage": usage}
    )
    await request.event("[DONE]")
    await request.end()


@contextmanager
def running(handler=whole) -> Iterator[tuple[str, list[Request]]]:
    """``base`` of a server in a thread of its own, and the requests that it got."""
    started, stopped = threading.Event(), threading.Event()
    facts: list = []

    async def serve() -> None:
        async with serving(handler) as (base, requests):
            facts.extend([base, requests])
            started.set()
            await asyncio.to_thread(stopped.wait)

    thread = threading.Thread(target=asyncio.run, args=[serve()], daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield facts[0], facts[1]
    finally:
        stopped.set()
        thread.join(10)
