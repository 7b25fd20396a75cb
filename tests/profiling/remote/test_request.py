"""What one request says of a server: times against those that the server noted itself, tokens by usage, and a sentence for every failure."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from profiling.remote.addresses import Refused
from profiling.remote.client import list_models, probe
from profiling.remote.protocol import Question, Usage
from profiling.remote.request import ask
from tests.profiling.remote.serving import client, serving, well_behaved

QUESTION = Question("tiny", "Why?", max_tokens=8)


def answer_of(handler, question=QUESTION, **options):
    async def go():
        async with serving(handler) as (base, requests), client(connections=4) as http:
            return await ask(http, base, question, **options), requests

    return asyncio.run(go())


async def pause(until_ns: int) -> None:
    """Until a moment of the clock, to the millisecond: the server's own times are noted when it sends."""
    await asyncio.sleep(max(0.0, (until_ns - time.perf_counter_ns()) / 1e9))


def test_times_are_those_of_the_server_and_tokens_are_those_of_its_usage():
    """A role alone, chunks of several tokens, usage in a last chunk without choices, and no [DONE]."""

    async def handler(request):
        await request.head()
        await request.event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        start = time.perf_counter_ns()
        for number, text in enumerate(["one two", " three", " four five six", " seven"]):
            await pause(start + (number + 1) * 30_000_000)
            await request.text(text)
        await request.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
        await request.event({"choices": [], "usage": usage})
        await request.end()

    for _ in range(5):  # a machine with other work to do reads late, never early
        answer, [request] = answer_of(handler)
        _role, first, *_, last = request.sent_ns[:5]
        truth = {"ttft": (first - answer.sent_ns) / 1e9, "tpot": (last - first) / 6 / 1e9}
        found = {"ttft": answer.ttft_s, "tpot": answer.tpot_s}
        if found == pytest.approx(truth, rel=0.05, abs=1e-3):
            break
    assert found == pytest.approx(truth, rel=0.05, abs=1e-3)
    assert answer.error is None
    assert answer.text == "one two three four five six seven"
    assert answer.usage == Usage(5, 7, None, 3)
    assert answer.finish == "stop"
    assert answer.sent_ns < answer.first_chunk_ns < answer.first_token_ns
    assert answer.first_chunk_ns < first + 20e6 < answer.first_token_ns + 20e6
    assert len(answer.arrivals) == 4
    assert request.headers["accept-encoding"] == "identity"
    assert request.body["stream_options"] == {"include_usage": True}


def test_characters_and_lines_may_be_cut_anywhere():
    async def handler(request):
        await request.head()
        whole = f"data: {json.dumps({'choices': [{'delta': {'content': '🦙é中'}}]}, ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n".encode()
        for byte in whole:
            await request.send(bytes([byte]))
        await request.end()

    answer, _ = answer_of(handler)
    assert (answer.error, answer.text) == (None, "🦙é中")
    assert answer.ttft_s > 0
    assert answer.tpot_s is None  # the server counted no tokens: chunks are none


def test_times_hold_where_characters_are_cut_and_nothing_says_done():
    """A token is there with the last byte of its chunk, not with the first."""

    async def handler(request):
        await request.head()
        start, whole = time.perf_counter_ns(), []
        for number, text in enumerate(["🦙", "é", "中文", "🦙"]):
            event = {"choices": [{"delta": {"content": text}, "finish_reason": None}]}
            line = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
            middle = line.index(text.encode()) + 1  # inside a character
            await pause(start + (2 * number + 1) * 20_000_000)
            await request.send(line[:middle])
            await pause(start + (2 * number + 2) * 20_000_000)
            await request.send(line[middle:])
            whole.append(request.sent_ns[-1])
        await request.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        await request.event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}})
        await request.end()
        request.body["whole"] = whole

    for _ in range(5):  # a machine with other work to do reads late, never early
        answer, [request] = answer_of(handler)
        first, *_, last = request.body["whole"]
        truth = {"ttft": (first - answer.sent_ns) / 1e9, "tpot": (last - first) / 6 / 1e9}
        found = {"ttft": answer.ttft_s, "tpot": answer.tpot_s}
        if found == pytest.approx(truth, rel=0.05, abs=1e-3):
            break
    assert found == pytest.approx(truth, rel=0.05, abs=1e-3)
    assert (answer.error, answer.text, len(answer.arrivals)) == (None, "🦙é中文🦙", 4)


def test_reasoning_and_calls_of_functions_are_output():
    async def handler(request):
        await request.head()
        await request.event({"choices": [{"delta": {"reasoning_content": "hm"}}]})
        await request.event({"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}]})
        usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
        await request.event({"choices": [], "usage": usage})
        await request.event("[DONE]")
        await request.end()

    answer, _ = answer_of(handler)
    assert (answer.error, answer.text, answer.reasoning, len(answer.arrivals)) == (None, "", "hm", 2)
    assert answer.usage.reasoning == 4


def test_a_connection_is_used_again_after_done():
    """Else the handshakes of a new one would be in every time to first token."""

    async def go():
        async with serving(well_behaved) as (base, requests), client() as http:
            errors = [(await ask(http, base, QUESTION)).error for _ in range(3)]
            return errors, len({id(request.writer) for request in requests})

    assert asyncio.run(go()) == ([None] * 3, 1)


def test_an_answer_is_complete_at_done_though_its_stream_never_ends():
    async def handler(request):
        await request.head()
        await request.text("all of it")
        await request.event("[DONE]")
        await asyncio.sleep(3600)

    answer, _ = answer_of(handler, total_s=20.0)
    assert (answer.error, answer.text) == (None, "all of it")


@pytest.mark.parametrize(("thought", "tokens"), [(None, 3), ("hm", 9)])
def test_reasoning_that_is_not_sent_is_in_no_time_per_token(thought, tokens):
    """It was over before the first event: six tokens more between the events would make each look four times as fast."""

    async def handler(request):
        await request.head()
        if thought:
            await request.event({"choices": [{"delta": {"reasoning_content": thought}}]})
        for text in "abc":
            await request.text(text)
            await asyncio.sleep(0.005)
        usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": usage})
        await request.end()

    answer, _ = answer_of(handler)
    assert answer.usage.output == 9
    assert answer.tpot_s == pytest.approx((answer.last_token_ns - answer.first_token_ns) / (tokens - 1) / 1e9)


def test_a_count_of_zero_for_an_answer_with_text_is_no_count():
    async def handler(request):
        await request.head()
        await request.text("words")
        usage = {"prompt_tokens": 5, "completion_tokens": 0}
        await request.event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
        await request.event({"choices": [], "usage": {}})
        await request.end()

    answer, _ = answer_of(handler)
    assert answer.usage == Usage(input=5)


@pytest.mark.parametrize("count", [-1, 2**31, 10**300, 1e308, True, "7", None, [7]])
def test_a_count_that_cannot_be_is_none(count):
    async def handler(request):
        await request.head()
        await request.text("words")
        usage = {"prompt_tokens": count, "completion_tokens": 4}
        await request.event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
        await request.end()

    answer, _ = answer_of(handler)
    assert answer.usage == Usage(None, 4)


def test_an_empty_reason_is_no_end_and_a_long_one_is_cut():
    async def handler(request):
        await request.head()
        await request.event({"choices": [{"delta": {"content": "half"}, "finish_reason": reason}]})
        await request.end()

    reason = ""
    answer, _ = answer_of(handler)
    assert (answer.kind, answer.finish) == ("cut", None)
    reason = "x\n" * 10_000
    answer, _ = answer_of(handler)
    assert answer.error is None
    assert len(answer.finish) <= 300


def test_a_server_may_be_silent_until_the_time_limit():
    async def handler(request):
        await asyncio.sleep(0.3)  # a long prompt on a slow machine, or a queue
        await well_behaved(request)

    async def go():
        async with serving(handler) as (base, _), client(silence_s=0.1) as http:
            return await ask(http, base, QUESTION, total_s=60.0)

    assert asyncio.run(go()).error is None


async def cut(request):
    await request.head()
    await request.text("half of an ans")
    request.writer.transport.abort()


async def ended_early(request):
    await request.head()
    await request.text("half")
    await request.end()


async def error_inside(request):
    await request.head()
    await request.text("half")
    await request.event({"error": {"message": "CUDA out of memory", "code": 500}})
    await request.end()


async def garbage(request):
    await request.head()
    await request.event("<html>")
    await request.end()


async def redirect(request):
    await request.whole({}, 302, Location="http://169.254.169.254/")


async def web_page(request):
    await request.head(200, "text/html")
    await request.send(b"<html>It works!</html>")
    await request.end()


async def not_http(request):
    request.writer.write(b"+PONG\r\n")
    request.writer.close()


@pytest.mark.parametrize(
    ("handler", "kind", "says"),
    [
        (cut, "cut", "broke off"),
        (ended_early, "cut", "before the answer was complete"),
        (error_inside, "stream", "CUDA out of memory"),
        (garbage, "stream", "not JSON"),
        (redirect, "http", "not followed"),
        (web_page, "stream", "not JSON"),
        (not_http, "cut", "broke off"),
    ],
)
def test_a_failure_has_its_sentence_and_keeps_what_came(handler, kind, says):
    answer, _ = answer_of(handler)
    assert answer.kind == kind
    assert says in answer.error
    assert answer.error.endswith((".", "memory"))
    if handler in (cut, ended_early, error_inside):
        assert answer.text.startswith("half")
        assert answer.ttft_s > 0


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"error": {"message": "Incorrect API key provided: sk-verysecret"}}, "does not accept the API key"),
        (403, {"error": "no access to this model"}, "no access to this model"),
        (404, {"detail": "Not Found"}, "no such route or model"),
        (429, {"error": {"message": "Rate limit reached"}}, "rate limit"),
        (500, "not json at all", "The server failed (status 500)."),
        (503, {"object": "error", "message": "loading"}, "not ready"),
        (418, {}, "status 418"),
    ],
)
def test_a_refusal_says_why_and_never_repeats_the_key(status, body, says):
    async def handler(request):
        await request.whole(body, status, Retry_After="7")

    answer, [request] = answer_of(handler, key="sk-verysecret")
    assert request.headers["authorization"] == "Bearer sk-verysecret"
    assert (answer.kind, answer.status, answer.retry_after_s) == ("http", status, 7.0)
    assert says in answer.error
    assert "verysecret" not in answer.error


def test_an_answer_in_one_piece_has_no_time_to_first_token():
    async def handler(request):
        await request.whole(
            {"choices": [{"message": {"content": "All."}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}
        )

    answer, _ = answer_of(handler, Question("tiny", "x", stream=False))
    assert (answer.error, answer.text, answer.ttft_s, answer.tpot_s) == (None, "All.", None, None)
    assert answer.e2e_s > 0


def test_a_server_that_trickles_is_given_up_and_its_connection_closed():
    async def go():
        async def handler(request):
            await request.head()
            while True:
                await request.send(b": still thinking\n\n")
                await asyncio.sleep(0.01)

        async with serving(handler) as (base, requests), client() as http:
            answer = await ask(http, base, QUESTION, total_s=0.2)
            await asyncio.wait_for(requests[0].closed.wait(), 10)
            return answer

    answer = asyncio.run(go())
    assert (answer.kind, answer.ttft_s) == ("timeout", None)


def test_cancelling_closes_the_connection():
    async def go():
        begun = asyncio.Event()

        async def handler(request):
            await request.head()
            begun.set()
            while True:
                await request.text("x")
                await asyncio.sleep(0.01)

        async with serving(handler) as (base, requests), client() as http:
            task = asyncio.create_task(ask(http, base, QUESTION))
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.wait_for(requests[0].closed.wait(), 10)
            return task.cancelled()

    assert asyncio.run(go())


def test_nothing_answers_where_no_server_is():
    async def go():
        async with client() as http:
            return await ask(http, "http://127.0.0.1:9/v1", QUESTION)

    assert asyncio.run(go()).kind == "connect"


def test_the_list_of_models_and_what_a_server_can_do():
    """A strict server: refuses stream_options, knows no chat."""

    async def handler(request):
        if request.path == "/v1/models":
            await request.whole({"data": [{"id": "tiny"}, {"id": "line\nbreak"}]})
        elif request.path == "/v1/chat/completions":
            await request.whole({"detail": "Not Found"}, 404)
        elif "stream_options" in request.body:
            await request.whole({"error": {"message": "Unknown field: stream_options"}}, 400)
        else:
            await request.head()
            await request.event({"choices": [{"text": "Yes", "finish_reason": "length"}]})
            await request.end()

    async def go():
        async with serving(handler) as (base, _), client() as http:
            return await list_models(http, base), await probe(http, base, "tiny")

    models, (abilities, answer) = asyncio.run(go())
    assert models == ["tiny", "line break"]
    assert (abilities.api, abilities.usage_asked, abilities.usage, abilities.streams) == (
        "completions",
        False,
        False,
        True,
    )
    assert answer.text == "Yes"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {}, "API key"),
        (500, {}, "status 500"),
        (200, {"x": 1}, "not one of this protocol"),
        (200, "[]", "not one"),
    ],
)
def test_a_list_that_is_none_is_refused(status, body, says):
    async def go():
        async def handler(request):
            await request.whole(body, status)

        async with serving(handler) as (base, _), client() as http:
            await list_models(http, base)

    with pytest.raises(Refused, match=says):
        asyncio.run(go())
