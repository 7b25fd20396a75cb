"""What a look at a server finds: its models, its routes, whether it streams and counts; and how it ends with servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from profiling.remote.look import Place, look
from tests.profiling.remote.serving import LOOPBACK, serving

KEY = "sk-not-to-be-seen-1234567890"
MODELS = {"object": "list", "data": [{"id": "big"}, {"id": "small"}]}


def found_at(handler, *, model="small", key=None, limit_s=20.0, stop=None, **place):
    """What is found, the requests that came, and what was said meanwhile."""
    said = []

    async def go():
        async with serving(handler) as (base, requests):
            at = Place(base, model, key=key, allowed=LOOPBACK, **place)
            looked = await asyncio.to_thread(
                look, at, lambda *what: said.append(what), stop or threading.Event(), limit_s=limit_s
            )
            return looked, requests

    return (*asyncio.run(go()), said)


def answering(routes=("chat", "completions"), usage=True, stream=True, strict=False):
    """A server as they are: with these routes, and that."""

    async def handler(request):
        if request.path == "/v1/models":
            return await request.whole(MODELS)
        api = "chat" if request.path.endswith("chat/completions") else "completions"
        if api not in routes:
            return await request.whole({"error": {"message": "no such route"}}, 404)
        if strict and "stream_options" in request.body:
            return await request.whole({"error": {"message": "unknown field stream_options"}}, 400)
        count = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}} if usage else {}
        if not stream:
            choice = {"message": {"content": "Hi"}, "text": "Hi", "finish_reason": "stop"}
            return await request.whole({"choices": [choice], **count})
        await request.head()
        await request.event({"choices": [{"delta": {"content": "Hi"}, "text": "Hi", "finish_reason": "stop"}], **count})
        await request.event("[DONE]")
        await request.end()

    return handler


def test_everything_that_a_whole_server_does_is_found():
    found, requests, said = found_at(answering(), key=KEY)
    assert found["models"] == ["big", "small"]
    assert found["abilities"] == {"api": "chat", "streams": True, "usage": True, "usage_asked": True}
    assert {api: route["works"] for api, route in found["routes"].items()} == {"chat": True, "completions": True}
    assert found["problem"] == found["models_problem"] == ""
    assert [request.headers["authorization"] for request in requests] == [f"Bearer {KEY}"] * 3
    assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)
    assert json.loads(json.dumps(found)) == found


def test_without_a_model_only_the_list_is_asked_for():
    found, requests, _ = found_at(answering(), model="")
    assert (found["models"], found["abilities"], found["problem"]) == (["big", "small"], None, "")
    assert [request.path for request in requests] == ["/v1/models"]


@pytest.mark.parametrize(
    ("server", "abilities"),
    [
        ({"routes": ["completions"]}, {"api": "completions", "streams": True, "usage": True, "usage_asked": True}),
        ({"usage": False}, {"api": "chat", "streams": True, "usage": False, "usage_asked": True}),
        ({"strict": True}, {"api": "chat", "streams": True, "usage": True, "usage_asked": False}),
        ({"stream": False}, {"api": "chat", "streams": False, "usage": True, "usage_asked": True}),
    ],
)
def test_what_a_server_lacks_is_found(server, abilities):
    found, _, _ = found_at(answering(**server))
    assert found["abilities"] == abilities


def test_the_route_in_use_is_tried_first():
    found, requests, _ = found_at(answering(), api="completions")
    assert found["abilities"]["api"] == "completions"
    assert [request.path for request in requests[1:]] == ["/v1/completions", "/v1/chat/completions"]


def test_a_refused_key_is_said_once_and_the_other_route_stays_unknown():
    async def handler(request):
        await request.whole({"error": {"message": f"bad key {KEY}"}}, 401)

    found, requests, _ = found_at(handler, key=KEY)
    assert len(requests) == 2
    assert list(found["routes"]) == ["chat"]
    assert "does not accept the API key" in found["problem"]
    assert KEY not in json.dumps(found)


def test_a_long_list_is_counted_and_its_beginning_kept():
    async def handler(request):
        await request.whole({"data": [{"id": f"m{number}"} for number in range(700)]})

    found, _, _ = found_at(handler, model="")
    assert (len(found["models"]), found["models_count"]) == (500, 700)


@pytest.mark.parametrize(("end", "hinted"), [("", True), ("/v1", False)])
def test_an_address_without_v1_is_what_is_wrong_most_often(end, hinted):
    async def handler(request):
        await request.whole({"error": {"message": "not found"}}, 404)

    async def go():
        async with serving(handler) as (base, _):
            place = Place(base.removesuffix("/v1") + end, "m", allowed=LOOPBACK)
            return await asyncio.to_thread(look, place, lambda *_: None, threading.Event())

    found = asyncio.run(go())
    assert ("add it to the address" in found["problem"]) == hinted
    assert ("add it to the address" in found["models_problem"]) == hinted


# --- servers that misbehave ---


async def garbage(request):
    await request.head(200, "application/json")
    await request.send(b"\x00\xff{not json" * 50)
    await request.end()


async def broken(request):
    await request.whole("<html>500</html>", 500)


async def huge(request):
    await request.head(200, "application/json")
    for _ in range(10):
        await request.send(b'{"data": [' + b'{"id": "' + b"a" * 2**20 + b'"},')
    await request.end()


async def deep(request):
    await request.whole("[" * 100_000)


async def elsewhere(request):
    await request.whole("", 302, Location="http://127.0.0.1:1/v1/models")


async def lying(request):
    """Shapes that are JSON and not the protocol."""
    await request.whole({"data": [1, None, {"id": 5}], "choices": "none"})


@pytest.mark.parametrize("server", [garbage, broken, huge, deep, elsewhere, lying])
def test_a_broken_server_is_a_sentence_not_a_traceback(server):
    found, requests, _ = found_at(server, key=KEY)
    assert found["models"] is None
    assert found["models_problem"]
    assert found["abilities"] is None
    assert found["problem"].endswith((".", "…"))
    assert all(request.path.startswith("/v1/") for request in requests), "no redirect is followed"
    assert len(json.dumps(found)) < 5000, "what a server sends is quoted short"


def test_a_server_that_drips_is_given_up():
    async def dripping(request):
        await request.head(200, "application/json")
        while True:
            await request.send(b" ")
            await asyncio.sleep(0.02)

    begin = time.monotonic()
    found, requests, _ = found_at(dripping, limit_s=0.5)
    assert time.monotonic() - begin < 5
    assert "after 0.5 s" in found["problem"]
    assert len(requests) == 1


def test_a_worker_that_stops_does_not_wait_for_the_server():
    stop = threading.Event()

    async def silent(request):
        stop.set()
        await asyncio.sleep(60)

    begin = time.monotonic()
    found, _, _ = found_at(silent, stop=stop)
    assert found is None
    assert time.monotonic() - begin < 10


def test_a_server_that_sends_the_key_back_does_not_get_it_stored():
    """As a model's name, and inside of a stream."""

    async def echo(request):
        if request.path == "/v1/models":
            return await request.whole({"data": [{"id": f"model-{KEY}"}]})
        await request.head()
        await request.event({"error": {"message": "x" * 280 + request.headers["authorization"]}})
        await request.end()

    found, _, _ = found_at(echo, key=KEY, hide=lambda text: text.replace(KEY, "…"))
    assert found["models"] == ["model-…"]
    assert KEY not in json.dumps(found)
