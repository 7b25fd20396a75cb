"""Many requests to a remote server: when they are sent, and whether this side kept up with its own plan.

In a closed loop users each send their next request when the one before has ended; in an open loop arrivals are fixed beforehand
(:func:`profiling.load.planned`) and do not wait for answers. A request's latencies count from the moment at which it was due: its arrival in an open loop, so
that a client that falls behind, or a server that slows down, hides nothing (no coordinated omission); in a closed loop when its user begins it. The lag of this side's event loop is sampled all the while and reported:
times that it could not have taken are not to be believed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from profiling.load import Load
from profiling.remote.request import Answer

#: How often the event loop is asked whether it is on time.
TICK_S = 0.005


@dataclass
class Sent:
    """One request of a load. Nanoseconds of the clock; ``due_ns``: when it should have been sent."""

    index: int
    due_ns: int
    answer: Answer

    @property
    def late_s(self) -> float:
        """How much later than due it was handed to the connection."""
        return (self.answer.sent_ns - self.due_ns) / 1e9

    @property
    def limited(self) -> bool:
        """Whether it met a rate limit or quota."""
        return self.answer.status == 429


@dataclass(frozen=True)
class Earlier:
    """Requests of a load that a document of it does not have: how many ended, and what became of them."""

    ended: int = 0
    failed: int = 0
    limited: int = 0


@dataclass
class Loaded:
    """All requests that were sent, in order, and ``lags_s`` of the event loop (one value a tick). ``unsent``: due, but not sent.
    ``earlier``: those before ``sent``, where only the latest are kept."""

    sent: list[Sent] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    unsent: int = 0
    earlier: Earlier = field(default_factory=Earlier)

    def latest(self, most: int) -> Loaded:
        """What is known by now, with the latest ``most`` requests; nothing that changes later."""
        before = self.sent[: max(len(self.sent) - most, 0)]
        failed, limited = sum(one.answer.error is not None for one in before), sum(one.limited for one in before)
        return Loaded(self.sent[len(before) :], list(self.lags_s), self.unsent, Earlier(len(before), failed, limited))


#: Sends request number N and gives its answer; never raises for what the server does.
Send = Callable[[int], Awaitable[Answer]]


Enough = Callable[[Sequence[Sent]], bool]

#: Connections of an open loop that are opened before it, at most: more are hardly ever in use together.
MOST_AHEAD = 256


def connections_ahead(load: Load, answers: Sequence[Answer]) -> int:
    """How many connections ``load`` should find open: one a user of a closed loop, since all begin at once.

    In an open loop those that are in use together: rate × time of an answer (Little's law), by the ``answers`` of the warm-up. With Poisson
    arrivals that number is itself Poisson distributed where nothing queues, so it is taken three standard deviations higher.
    """
    if not load.open:
        return min(load.concurrency, load.requests)
    times = [answer.e2e_s for answer in answers if answer.error is None and answer.e2e_s is not None]
    mean = (load.rate or 0.0) * median(times) if times else 0.0
    return min(load.requests, MOST_AHEAD, 1 + math.ceil(mean + 3 * math.sqrt(mean)))


async def closed(send: Send, requests: int, concurrency: int, enough: Enough, into: Loaded | None = None) -> Loaded:
    """``concurrency`` users until ``requests`` were sent or ``enough(sent so far)``. What is under way then is waited for.

    ``into`` holds what has ended if the task is cancelled, which closes the connections of the others.
    """
    found, numbers = into or Loaded(), iter(range(requests))

    async def user() -> None:
        for number in numbers:
            if enough(found.sent):
                return
            due = time.perf_counter_ns()
            answer = await send(number)
            found.sent.append(Sent(number, due, answer))

    async with _lag(found.lags_s), asyncio.TaskGroup() as users:
        for _ in range(min(concurrency, requests)):
            users.create_task(user())
            await asyncio.sleep(0)  # sockets are looked at between two first requests, as between two tokens
    found.sent.sort(key=lambda one: one.index)
    return found


async def opened(send: Send, due_s: Sequence[float], enough: Enough, into: Loaded | None = None) -> Loaded:
    """A request at each of ``due_s`` (seconds after the begin, ascending), whatever became of those before; ``into`` as above."""
    found = into or Loaded()
    begin = time.perf_counter_ns()

    async def one(number: int, due_ns: int) -> None:
        found.sent.append(Sent(number, due_ns, await send(number)))

    async with _lag(found.lags_s), asyncio.TaskGroup() as group:
        for number, at in enumerate(due_s):
            due = begin + round(at * 1e9)
            while (wait := due - time.perf_counter_ns()) > 0 and not enough(found.sent):
                await asyncio.sleep(min(wait / 1e9, 0.1))
            if enough(found.sent):
                found.unsent = len(due_s) - number
                break
            group.create_task(one(number, due))
    found.sent.sort(key=lambda one: one.index)
    return found


class _lag:
    """Samples how late the event loop wakes up: what any time taken in it can be off by."""

    def __init__(self, into: list[float]) -> None:
        self._into = into

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._sample())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _sample(self) -> None:
        due = time.perf_counter()
        while True:
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            now = time.perf_counter()
            # Ticks that were due meanwhile are late too: with one value for a stop, however long, percentiles would hardly see it.
            while due <= now - TICK_S:
                self._into.append(now - due)
                due += TICK_S
            self._into.append(max(0.0, now - due))
