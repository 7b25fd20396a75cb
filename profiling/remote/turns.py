"""Readers that wait for bytes go on one after the other, and between two of them the event loop looks at every socket. Standard library only.

Servers send the tokens of a whole batch at the same moment. If all their readers were woken at once, the loop would look at no socket until
the last of them had gone on, and what arrives meanwhile would have a time that is late by their work: with 64 streams, tens of milliseconds.
Like this a time is late by the work of one reader at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary


class Turns:
    """Wakes futures of one event loop, one in each of its rounds, in the order in which they were given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    def wake(self, future: asyncio.Future[None]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.append(future)

    def _next(self) -> None:
        future = self._waiting.popleft()
        if not future.done():  # else its reader was cancelled meanwhile
            future.set_result(None)
        if self._waiting:
            self._loop.call_soon(self._next)


_OF: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _OF.get(loop)
    if found is None:
        found = _OF[loop] = Turns(loop)
    return found
