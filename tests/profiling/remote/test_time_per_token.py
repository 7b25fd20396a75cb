"""The time per output token goes to the end of what was counted: the token by which a model ends its answer is counted and has no text."""

from __future__ import annotations

import asyncio
import time

import pytest

from profiling.remote.protocol import Question, Usage
from profiling.remote.request import Answer, ask
from profiling.units import DEFINITIONS, current
from tests.profiling.remote.serving import client, serving

GAP_S, TOKENS = 0.02, 21


def paced(events, finish, counted):
    """A server that decodes a token every :data:`GAP_S`. ``events``: text and the number of tokens after which it is sent; ``finish``: the
    reason and the number of tokens after which it is sent; ``counted``: tokens of its usage."""

    async def handler(request):
        await request.head()
        await request.event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        start = time.perf_counter_ns()

        async def decoded(tokens):
            await asyncio.sleep(max(0.0, (start + tokens * GAP_S * 1e9 - time.perf_counter_ns()) / 1e9))

        for text, tokens in events:
            await decoded(tokens)
            await request.text(text)
        reason, tokens = finish
        await decoded(tokens)
        await request.event({"choices": [{"delta": {}, "finish_reason": reason}]})
        await request.event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": counted}})
        await request.event("[DONE]")
        await request.end()

    return handler


async def answer_of(handler):
    async with serving(handler) as (base, _), client(connections=1) as http:
        return await ask(http, base, Question("tiny", "Why?", max_tokens=64))


one_by_one = [(f"t{number} ", number + 1) for number in range(TOKENS - 1)]


@pytest.mark.parametrize(
    ("events", "finish", "counted"),
    [
        pytest.param(one_by_one, ("stop", TOKENS), TOKENS, id="the end is counted"),
        pytest.param(one_by_one, ("length", TOKENS - 1), TOKENS - 1, id="no end: the limit was reached"),
        pytest.param(one_by_one, ("stop", TOKENS), TOKENS - 1, id="the end is not counted"),
        pytest.param(one_by_one[::2], ("stop", TOKENS), TOKENS, id="two tokens in an event"),
        pytest.param(one_by_one, ("tool_calls", TOKENS), TOKENS, id="a call of a function"),
    ],
)
def test_every_answer_of_a_server_has_the_time_that_a_token_takes(events, finish, counted):
    """Twenty tokens: without the last gap, or with one too many, each would be off by 5 %."""
    for _ in range(5):  # a machine with other work to do is late now and then
        answer = asyncio.run(answer_of(paced(events, finish, counted)))
        assert answer.error is None
        if answer.tpot_s == pytest.approx(GAP_S, rel=0.02):
            break
    assert answer.tpot_s == pytest.approx(GAP_S, rel=0.02)


def answered(arrivals, finish_ns, tokens, **more):
    first, last = arrivals[0], arrivals[-1]
    values = {"first_token_ns": first, "last_token_ns": last, "finish_ns": finish_ns, "finish": "stop"}
    return Answer(0, arrivals=arrivals, usage=Usage(output=tokens), **values | more)


def test_tokens_that_were_counted_in_the_text_end_with_the_text():
    """The tokenizer of this side sees no token that has no text, however few events its tokens came in."""
    assert answered([10, 30], 40, 5, counted=True).tpot_s == pytest.approx(20e-9 / 4)
    assert answered([10, 30], 40, 5).tpot_s == pytest.approx(30e-9 / 4)


@pytest.mark.parametrize("finish", ["length", "content_filter", "something_new", None])
def test_an_answer_that_the_model_did_not_end_ends_with_its_text(finish):
    assert answered([10, 20, 30], 90, 5, finish=finish).tpot_s == pytest.approx(20e-9 / 4)


def test_an_answer_in_one_event_says_nothing_of_the_time_between_tokens():
    assert answered([10], 40, 4).tpot_s is None


def test_the_definition_says_what_is_counted_and_the_old_one_stays_for_old_figures():
    assert current("endpoint_tpot") == "endpoint_tpot/2"
    assert "no text" in DEFINITIONS["endpoint_tpot/2"].formula
    assert "Arrival of the last event with output" in DEFINITIONS["endpoint_tpot/1"].formula
