"""The line of requests: who gives up leaves it, and the model's thread with the HTTP routes above it counts only those who stay."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from serving.app import make_app
from serving.bodies import Question
from serving.engine import Engine
from serving.errors import Refusal
from serving.settings import Settings
from serving.waiting import Full, Line


def test_places_are_those_of_who_is_there():
    line: Line[object] = Line(2)
    first, second, third, fourth = (object() for _ in range(4))
    line.add([first, second, third])  # the first is answered at once
    with pytest.raises(Full) as full:
        line.add([fourth])
    assert full.value.waiting == 3
    assert line.take() is first
    with pytest.raises(Full):
        line.add([fourth])
    assert line.remove(second)
    assert not line.remove(second)
    assert not line.remove(first), "who is being answered is in no line"
    line.add([fourth])
    line.done()
    assert line.take() is third
    assert line.rest() == [fourth]


def test_whoever_waits_for_the_next_one_is_woken_by_it_and_by_the_end():
    line: Line[str] = Line(2)
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.extend([line.take(), line.take()]))
    thread.start()
    line.add(["one"])
    line.close()
    thread.join(10)
    assert taken in (["one", None], [None, None])
    assert line.take() is None


class Slow:
    """A model that answers when it is let go."""

    tokenizer = None
    context = 100

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.asked: list[str] = []

    def question(self, text: str) -> SimpleNamespace:
        self.asked.append(text)
        return SimpleNamespace(ids=(1,), text=text)

    def room(self, prompt: SimpleNamespace) -> int:
        return 10

    def serve(self, prompt: SimpleNamespace, limit: int, **options: object) -> SimpleNamespace:
        self.begun.set()
        assert self.go.wait(30)
        return SimpleNamespace(tokens=[1], finish="length", times_ns=[1, 2])

    def text(self, tokens: list[int]) -> str:
        return "said"


@pytest.fixture
def slow():
    model = Slow()
    yield model
    model.go.set()


@pytest.fixture
def engine(slow):
    found = Engine(lambda report: slow, 1)
    found.start()
    while not found.ready:
        time.sleep(0.01)
    yield found
    slow.go.set()
    found.end()
    found.join(10)


def test_who_gives_up_while_waiting_gives_the_place_to_the_next(engine, slow):
    async def go() -> None:
        def submit(text: str):
            return engine.submit([Question(prompt=text)], 0, lambda answer: 0)[0]

        first = submit("first")
        await asyncio.to_thread(slow.begun.wait, 10)
        second = submit("second")
        with pytest.raises(Refusal) as refused:
            submit("third")
        assert (refused.value.code, refused.value.message[:10]) == (429, "1 requests")
        second.stop()
        third = submit("third")
        slow.go.set()
        for job in (first, third):
            while await job.next() is not None:
                pass

    asyncio.run(asyncio.wait_for(go(), 30))
    assert slow.asked == ["first", "third"], "nothing was done for the second"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_closes_while_it_waits_leaves_the_line(engine, slow, stream):
    """Over HTTP: it is noticed when the connection ends, not when its turn comes."""
    app = make_app(Settings(model="x", max_waiting=1), engine)

    async def ask(text: str, receive, sent: list) -> None:
        async def send(message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/completions",
            "raw_path": b"/v1/completions",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [],
            "server": ("127.0.0.1", 1),
            "client": ("127.0.0.1", 2),
        }
        await app(scope, receive, send)

    def connection(text: str):
        """What a server tells of one: the body, and later that it is closed."""
        events: asyncio.Queue = asyncio.Queue()
        body = httpx.Request("POST", "http://x", json={"prompt": text, "max_tokens": 1, "stream": stream}).content
        events.put_nowait({"type": "http.request", "body": body, "more_body": False})
        return events

    async def go() -> list[int]:
        sent: list[list] = [[], [], []]
        clients = [connection(text) for text in ("first", "second", "third")]
        slow.question, slow.continuation = None, lambda text: Slow.question(slow, text)
        first = asyncio.create_task(ask("first", clients[0].get, sent[0]))
        await asyncio.to_thread(slow.begun.wait, 10)
        second = asyncio.create_task(ask("second", clients[1].get, sent[1]))
        await asyncio.sleep(0.05)
        clients[1].put_nowait({"type": "http.disconnect"})
        await second
        third = asyncio.create_task(ask("third", clients[2].get, sent[2]))
        await asyncio.sleep(0.05)
        assert not third.done(), "it waits, as there is place"
        slow.go.set()
        engine.tokenizer = SimpleNamespace(decode=lambda ids, **_: "said")
        await asyncio.wait_for(asyncio.gather(first, third), 20)
        return [messages[0]["status"] for messages in sent]

    engine.resident.model = SimpleNamespace(name="slow")
    engine.resident.device = SimpleNamespace(type="cpu")
    engine.resident.hardware = SimpleNamespace(name="here")
    engine.resident.workload = SimpleNamespace(dtype="fp32")
    engine.resident.threads = 1
    assert asyncio.run(asyncio.wait_for(go(), 30)) == [200, 499, 200]
    assert slow.asked == ["first", "third"]
