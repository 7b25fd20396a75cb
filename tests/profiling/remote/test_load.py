"""A load sends what is due when it is due, and says when this side was late."""

from __future__ import annotations

import asyncio
import time

from profiling.remote.load import closed, opened
from profiling.remote.protocol import Question
from profiling.remote.request import Answer, ask
from tests.profiling.remote.serving import client, serving


def never(sent):
    return False


def test_users_of_a_closed_loop_wait_for_their_answer():
    under_way, most, numbers = 0, 0, []

    async def send(number):
        nonlocal under_way, most
        answer = Answer(time.perf_counter_ns())
        under_way += 1
        most = max(most, under_way)
        numbers.append(number)
        await asyncio.sleep(0.002)
        under_way -= 1
        return answer

    found = asyncio.run(closed(send, 20, 3, never))
    assert most == 3
    assert sorted(numbers) == list(range(20)) == [one.index for one in found.sent]


def test_an_open_loop_does_not_wait_and_counts_from_when_a_request_was_due():
    """The first answer blocks this side for 60 ms: the requests due meanwhile are late, and it shows."""

    async def send(number):
        answer = Answer(time.perf_counter_ns())
        if number == 0:
            time.sleep(0.06)  # what a client must not do
        await asyncio.sleep(0.03)
        return answer

    found = asyncio.run(opened(send, [0.0, 0.01, 0.02, 0.2], never))
    late = [one.late_s for one in found.sent]
    assert late[1] > 0.03
    assert max(found.lags_s) > 0.03
    assert late[3] < late[1]


def test_a_stop_of_this_side_weighs_as_much_as_it_lasts():
    """With one value for 100 ms as for 5 ms, the 99th percentile of a load would not know of it."""

    async def send(number):
        time.sleep(0.1)  # what a client must not do
        await asyncio.sleep(0.02)
        return Answer(time.perf_counter_ns())

    found = asyncio.run(closed(send, 1, 1, never))
    assert sum(lag > 0.005 for lag in found.lags_s) >= 15
    assert max(found.lags_s) > 0.08


def test_users_of_a_closed_loop_are_not_late_for_the_work_of_this_side():
    """A request is due when its user begins it: what the requests of other users cost here is no latency of the server."""

    async def send(number):
        answer = Answer(time.perf_counter_ns())
        time.sleep(0.02)
        await asyncio.sleep(0)
        return answer

    found = asyncio.run(closed(send, 5, 5, never))
    assert max(one.late_s for one in found.sent) < 0.02


def test_a_load_ends_when_it_is_enough():
    async def send(number):
        await asyncio.sleep(0)
        return Answer(time.perf_counter_ns())

    assert len(asyncio.run(closed(send, 1000, 1, enough=lambda sent: len(sent) >= 5)).sent) == 5
    found = asyncio.run(opened(send, [0.0, 0.001, 3600.0], enough=lambda sent: len(sent) >= 2))
    assert (len(found.sent), found.unsent) == (2, 1)


def test_64_streams_are_read_to_their_end_at_once():
    async def handler(request):
        nonlocal open_streams, most
        await request.head()
        open_streams += 1
        most = max(most, open_streams)
        if open_streams == 64:
            all_open.set()
        await all_open.wait()
        for _ in range(20):
            await request.text("x")
            await asyncio.sleep(0)
        open_streams -= 1
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 20}})
        await request.event("[DONE]")
        await request.end()

    async def go():
        async with serving(handler) as (base, _), client(connections=64) as http:
            return await closed(lambda n: ask(http, base, Question("tiny", str(n))), 64, 64, never)

    open_streams, most, all_open = 0, 0, asyncio.Event()
    found = asyncio.run(go())
    assert most == 64
    assert [(one.answer.error, len(one.answer.text)) for one in found.sent] == [(None, 20)] * 64
    assert found.lags_s
