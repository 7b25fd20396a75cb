"""The routes: Vertex AI's contract for containers and the OpenAI protocol. Nothing here runs the model; see :mod:`serving.engine`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving import answers, bodies
from serving.engine import Answer, Engine, Job, Profile, Token
from serving.errors import Refusal
from serving.settings import Settings
from serving.text import Pieces

#: Of a body that is too large, so much is still read: who is sending cannot hear the refusal before.
DRAIN_BYTES = 64 * 2**20
#: While nothing comes, a stream says so often that it is alive.
ALIVE_S = 10.0
#: Profiles that are kept for requests of their own.
KEPT_PROFILES = 4
DEVICES = ("cpu", "cuda")

T = TypeVar("T")


def make_app(settings: Settings, engine: Engine) -> Starlette:
    """The application; ``engine`` is started and ended with it."""
    container = Container(settings, engine)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine.start()
        yield
        engine.end()

    routes = [
        Route(settings.health_route, container.health, methods=["GET"]),
        Route(settings.predict_route, container.ask, methods=["POST"]),
        Route("/v1/chat/completions", container.ask, methods=["POST"]),
        Route("/v1/completions", container.ask, methods=["POST"]),
        Route("/v1/models", container.models, methods=["GET"]),
        Route("/profile/{id}", container.profile, methods=["GET"]),
        Route("/", container.health, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_route,
            ClientDisconnect: _failed,  # by its name, or it would be written to the log as a fault of the container
            Exception: _failed,
        },
    )


class Container:
    """The handlers of the routes, and the profiles that can still be fetched."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._profiles: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @property
    def _about(self) -> dict[str, Any]:
        """What every answer says of the container."""
        resident = self._engine.resident
        return {
            "model": resident.model.name,
            "device": resident.device.type,
            "hardware": resident.hardware.name,
            "dtype": resident.workload.dtype,
            "threads": resident.threads,
        }

    async def health(self, request: Request) -> Response:
        if not self._engine.ready:
            raise self._engine.unready()
        return JSONResponse({"status": "ready", **self._about, "serves_on": list(DEVICES)})

    async def models(self, request: Request) -> Response:
        if not self._engine.ready:
            raise self._engine.unready()
        resident = self._engine.resident
        row = {
            "id": resident.model.name,
            "object": "model",
            "created": self._engine.ready_at,
            "owned_by": "llmcompare",
            "max_model_len": resident.context,
        }
        return JSONResponse({"object": "list", "data": [row]})

    async def profile(self, request: Request) -> Response:
        found = self._profiles.get(request.path_params["id"])
        if found is None:
            raise Refusal(404, f"There is no such profile; the last {KEPT_PROFILES} are kept.")
        return JSONResponse({"id": request.path_params["id"], "object": answers.PROFILE_OBJECT, "profile": found})

    async def ask(self, request: Request) -> Response:
        """An answer in the shape of the question, which the body decides."""
        raw = await self._body(request)
        received = time.perf_counter_ns()
        if not self._engine.ready:
            raise self._engine.unready()
        body = bodies.read(raw)
        wanted = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}.get(request.url.path, body.kind)
        if request.url.path != self._settings.predict_route and body.kind != wanted:
            raise Refusal(400, f"{request.url.path} needs {'messages' if wanted == 'chat' else 'a prompt'}.")
        share = self._settings.max_answer_bytes // len(body.questions)
        jobs = self._engine.submit(
            body.questions, received, lambda answer: answers.room(answer, self._about, share), stream=body.stream
        )
        try:
            if body.stream:
                shape = answers.OpenAI(body.kind, self._engine.resident.model.name)
                # Refused before anything was sent, a request gets a status of its own.
                first = await _while_connected(request, jobs[0].next())
                return _Stream(self._stream(jobs[0], first, shape, body), jobs[0])
            results = await _while_connected(request, _results(jobs))
        except BaseException:
            for job in jobs:
                job.stop()
            raise
        return JSONResponse(self._whole(results, body, share))

    def _whole(self, results: list[tuple[Answer, Profile | None]], body: bodies.Body, limit: int) -> dict[str, Any]:
        ours = [answers.own(answer, self._about, profile, limit) for answer, profile in results]
        if body.kind == "predict":
            rows = [answers.prediction(answer, own) for (answer, _), own in zip(results, ours, strict=True)]
            return {"predictions": rows}
        (answer, profile) = results[0]
        shape = answers.OpenAI(body.kind, self._engine.resident.model.name)
        self._keep(shape.id, profile)
        return shape.whole(answer) | ({"llmcompare": ours[0]} if body.timing else {})

    def _keep(self, key: str, profile: Profile | None) -> None:
        if profile is not None and profile.whole is not None:
            self._profiles[key] = profile.whole
            while len(self._profiles) > KEPT_PROFILES:
                self._profiles.popitem(last=False)

    async def _stream(self, job: Job, first: Any, shape: answers.OpenAI, body: bodies.Body) -> AsyncIterator[bytes]:
        tokenizer, answer, profile = self._engine.tokenizer, None, None
        pieces = Pieces(lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)))
        if role := shape.role():
            yield _event(role)
        event = first
        try:
            while event is not None:
                if isinstance(event, Token):
                    if piece := pieces.add(event.id):
                        yield _event(shape.piece(piece))
                elif isinstance(event, Answer):
                    answer = event
                    if piece := pieces.rest(answer.text):
                        yield _event(shape.piece(piece))
                    yield _event(shape.finish(answer.finish))
                    if body.usage:
                        yield _event(shape.usage(answer))
                elif isinstance(event, Profile):
                    profile = event
                async for event in _patiently(job):
                    if event is _ALIVE:
                        yield b": at work\n\n"
        except Refusal as error:
            yield _event(error.to_json())
            return
        if answer is not None and body.timing:
            self._keep(shape.id, profile)
            ours = answers.own(answer, self._about, profile, self._settings.max_answer_bytes)
            yield _event({"id": shape.id, "object": answers.PROFILE_OBJECT, "choices": [], "llmcompare": ours})
        yield b"data: [DONE]\n\n"

    async def _body(self, request: Request) -> bytes:
        """The whole body. Raises :class:`Refusal` (413) for one that is too large."""
        limit, parts, total = self._settings.max_request_bytes, [], 0
        async for part in request.stream():
            total += len(part)
            if total <= limit:
                parts.append(part)
            elif total > DRAIN_BYTES:
                break
        if total > limit:
            raise Refusal(413, f"The body has more than the {limit:,} bytes that this container takes.")
        return b"".join(parts)


class _Stream(StreamingResponse):
    """Server-sent events; when they end, for whatever reason, so does the work on them."""

    def __init__(self, content: AsyncIterator[bytes], job: Job) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._job = job

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.stop()


_ALIVE = object()


async def _patiently(job: Job) -> AsyncIterator[Any]:
    """The next event of ``job``, and :data:`_ALIVE` before it while there is none."""
    while True:
        try:
            async with asyncio.timeout(ALIVE_S):
                event = await job.next()
        except TimeoutError:
            yield _ALIVE
            continue
        yield event
        return


async def _results(jobs: list[Job]) -> list[tuple[Answer, Profile | None]]:
    """What came of all of them. Raises :class:`Refusal`, which names the instance at fault where there are several."""
    found = []
    for number, job in enumerate(jobs):
        try:
            found.append(await _result(job))
        except Refusal as error:
            if error.code != 400 or len(jobs) == 1:
                raise
            raise Refusal(400, f"instances[{number}]: {error.message}") from None
    return found


async def _result(job: Job) -> tuple[Answer, Profile | None]:
    answer, profile = None, None
    while (event := await job.next()) is not None:
        if isinstance(event, Answer):
            answer = event
        elif isinstance(event, Profile):
            profile = event
    if answer is None:
        raise Refusal(499, "The request was given up.")
    return answer, profile


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled when the client goes. Raises :class:`Refusal` (499) then; nobody will read it."""
    task, gone = asyncio.ensure_future(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "The client has gone.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(found: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(found, separators=(',', ':'))}\n\n".encode()


def _refused(request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, Refusal) else Refusal(500, "The container failed.")
    return JSONResponse(refusal.to_json(), refusal.code, refusal.headers)


def _no_route(request: Request, error: Exception) -> Response:
    code = getattr(error, "status_code", 500)
    sentence = {404: "There is no such route.", 405: f"This route does not take {request.method}."}.get(
        code, str(error)
    )
    return _refused(request, Refusal(code, sentence))


def _failed(request: Request, error: Exception) -> Response:
    gone = isinstance(error, ClientDisconnect)
    return _refused(request, Refusal(499 if gone else 500, "The client has gone." if gone else "The container failed."))
