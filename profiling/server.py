"""The server of a load: first come, first served, static batches of what waits. Knows no torch: ``work`` runs the model.

A batch is taken from the front of the queue when the server is free, at most ``batch_size`` requests, and is run to its end before the
next is begun (no continuous batching). Prompts are padded to the longest of the batch, and the batch lasts as long as its longest answer;
each request ends with its own last token.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiling.load import Asked, Load

SCHEDULING = "first come, first served; static batches of what waits; no continuous batching"
COLUMNS = (
    *("request", "scheduled_ns", "started_ns", "first_token_ns", "end_ns"),
    *("input_tokens", "output_tokens", "batch_requests"),
)


@dataclass(frozen=True)
class Served:
    """One request. Nanoseconds since the load began; ``scheduled_ns``: when it was due, whether or not the server was free. What is
    None has not happened: the load ended before."""

    request: int
    scheduled_ns: int
    started_ns: int | None
    first_token_ns: int | None
    end_ns: int | None
    input_tokens: int
    output_tokens: int
    batch_requests: int | None

    def row(self) -> list[Any]:
        return [getattr(self, name) for name in COLUMNS]


@dataclass
class Clock:
    """Nanoseconds, and a way to wait for a moment of it. Tests have one that does not wait."""

    now_ns: Callable[[], int] = time.perf_counter_ns
    sleep: Callable[[float], None] = field(default=time.sleep)


#: Runs a batch: stamps in nanoseconds of the clock, at its start and after each token, so the longest output + 1 of them.
Work = Callable[[Sequence[Asked]], Sequence[int]]


def serve(
    load: Load,
    asked: Sequence[Asked],
    work: Work,
    *,
    batch_size: int,
    clock: Clock | None = None,
    enough: Callable[[int], bool] = lambda done: False,
    told: Callable[[Sequence[Served]], None] = lambda found: None,
) -> list[Served]:
    """Every request that was due, in order. ``enough(served so far)`` ends the load before the next batch; those that wait then are
    returned without times. ``told`` gets all that were served so far after every batch; the time it takes is the server's.

    Latency counts from ``scheduled_ns``: in an open loop from the arrival that was drawn beforehand, so time in the queue is in it and
    a slow server does not slow the load down (no coordinated omission); in a closed loop from the end of the user's request before.
    """
    clock = clock or Clock()
    begin = clock.now_ns()
    due: list[tuple[int, int, Asked]] = []
    following: Iterator[Asked] = iter(())
    if load.open:
        due = [(round((one.arrival_s or 0.0) * 1e9), one.index, one) for one in asked]
    else:
        due = [(0, one.index, one) for one in asked[: load.concurrency]]
        following = iter(asked[load.concurrency :])
    heapq.heapify(due)
    found: list[Served] = []
    while due and not enough(len(found)):
        wait = due[0][0] - (clock.now_ns() - begin)
        if wait > 0:
            clock.sleep(wait / 1e9)
            continue
        now = clock.now_ns() - begin
        batch: list[tuple[int, int, Asked]] = []
        while due and len(batch) < batch_size and due[0][0] <= now:
            batch.append(heapq.heappop(due))
        stamps = [stamp - begin for stamp in work([one for _, _, one in batch])]
        for scheduled, _, one in batch:
            end = stamps[one.output_tokens]
            found.append(
                Served(
                    one.index,
                    scheduled,
                    stamps[0],
                    stamps[1],
                    end,
                    one.input_tokens,
                    one.output_tokens,
                    len(batch),
                )
            )
            if load.mode == "closed" and (load.seconds is None or end <= load.seconds * 1e9):
                after = next(following, None)
                if after is not None:
                    heapq.heappush(due, (end, after.index, after))
        told(found)
    now = clock.now_ns() - begin
    found += [
        Served(one.index, at, None, None, None, one.input_tokens, one.output_tokens, None)
        for at, _, one in sorted(due)
        if at <= now
    ]
    return sorted(found, key=lambda one: one.request)
