"""The model in a thread of its own: it is loaded there, and answers one request at a time, first come first served.

What a request brings forth goes to its event loop as :class:`Token`, :class:`Answer` and :class:`Profile`; whoever waits for it can stop it
at any token.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from profiling.failures import EngineError, describe, device_failed, out_of_memory
from profiling.remote.packed import TooLarge, pack
from profiling.spec import SpecError
from serving.bodies import Question
from serving.errors import Refusal
from serving.waiting import Full, Line

#: Tokens of an answer whose request does not say how many.
DEFAULT_TOKENS = 256
#: So many computations in a row that fail with an error of the device, and it is taken for broken.
DEVICE_FAILURES = 3
#: A profile that is fetched by itself may have so many bytes: what a dedicated endpoint lets through, with room for the frame.
WHOLE_BYTES = 9_000_000

Load = Callable[[Callable[[str, float, str], None]], Any]


class Stopped(Exception):
    """Nobody waits for this any more."""


@dataclass(frozen=True)
class Token:
    id: int


@dataclass(frozen=True)
class Answer:
    """A whole answer. Times in ns of ``time.perf_counter_ns``: the request had arrived whole, its turn came, it was tokens, the pass of the
    model began, and each token was there."""

    text: str
    finish: str
    prompt_tokens: int
    received_ns: int
    started_ns: int
    tokenized_ns: int
    times_ns: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.times_ns) - 1


@dataclass(frozen=True)
class Profile:
    """The run document of the answer before it, packed to go with it, or why there is none. ``whole``: packed for a request of its own."""

    packed: dict[str, Any] | None
    reason: str | None = None
    whole: dict[str, Any] | None = None


Event = Token | Answer | Profile


@dataclass(eq=False)
class Job:
    """One question on its way. Made by :meth:`Engine.submit`. ``room``: bytes that a packed profile may take beside its answer. ``leave``
    takes it out of the line, where it still waits there."""

    question: Question
    received_ns: int
    stream: bool
    room: Callable[[Answer], int]
    loop: asyncio.AbstractEventLoop
    leave: Callable[[Job], bool]
    events: asyncio.Queue[Event | Refusal | None] = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def put(self, event: Event | Refusal | None) -> None:
        """From the model's thread. The loop may have ended meanwhile."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    async def next(self) -> Event | None:
        """What comes next of it; None: nothing more. Raises :class:`Refusal`."""
        event = await self.events.get()
        if isinstance(event, Refusal):
            raise event
        return event

    def stop(self) -> None:
        """Nobody waits for it any more: it gives its place away, or ends at its next token."""
        self.cancelled.set()
        self.leave(self)


class Engine:
    """``load`` makes the resident model; it gets a function that it tells its progress. ``max_waiting``: requests beside the one that is
    answered. ``on_broken`` is called once, in the model's thread, when the device is found to compute nothing more."""

    def __init__(self, load: Load, max_waiting: int, on_broken: Callable[[], None] = lambda: None) -> None:
        self._load, self._max_waiting, self._on_broken = load, max_waiting, on_broken
        self._line: Line[Job] = Line(max_waiting)
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.ending = False
        self.stage = "The model is being loaded."
        self.failure: str | None = None
        #: Why the device computes nothing more. After some errors of CUDA every further call in the same process fails.
        self.broken: str | None = None
        #: When the model was ready, in seconds since 1970.
        self.ready_at = 0
        self.resident: Any = None
        #: A tokenizer for other threads than the model's: one is not to be used by two at once.
        self.tokenizer: Any = None

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """No more requests; those that wait are refused, the one that is answered goes on until it is stopped or has ended."""
        self.ending = True
        self._line.close()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    @property
    def ready(self) -> bool:
        return self.resident is not None and not self.ending and self.broken is None

    def unready(self) -> Refusal:
        """Why no request is taken now."""
        if self.ending:
            return Refusal(503, "The container is being stopped.")
        if self.failure is not None:
            return Refusal(503, f"The model could not be loaded. {self.failure}")
        if self.broken is not None:
            return Refusal(
                503, f"The device does not compute any more, and the container must be restarted. {self.broken}"
            )
        return Refusal(503, f"The model is not ready yet. {self.stage}", retry_after_s=5)

    def submit(
        self, questions: Sequence[Question], received_ns: int, room: Callable[[Answer], int], *, stream: bool = False
    ) -> list[Job]:
        """Take a place in the queue for each of ``questions``, or for none. Raises :class:`Refusal` (503, 429)."""
        if not self.ready:
            raise self.unready()
        loop = asyncio.get_running_loop()
        jobs = [Job(one, received_ns, stream, room, loop, self._line.remove) for one in questions]
        try:
            self._line.add(jobs)
        except Full as full:
            raise Refusal(
                429,
                f"{full.waiting} requests wait for the model already, and at most {self._max_waiting} may. Try again later.",
                retry_after_s=1,
            ) from None
        return jobs

    # --- in the model's thread ---

    def _run(self) -> None:
        try:
            self._prepare()
        except Stopped:
            return
        except (EngineError, SpecError) as error:
            self.failure = str(error)
        except BaseException as error:
            traceback.print_exc()
            self.failure = describe(error)
        if self.failure is not None:
            print(f"llmcompare: the model could not be loaded. {self.failure}", file=sys.stderr, flush=True)
            return
        while (job := self._line.take()) is not None:
            try:
                self._answer(job)
            finally:
                self._line.done()
        self._refuse_rest()

    def _prepare(self) -> None:
        def report(stage: str, fraction: float, message: str) -> None:
            if self.ending:
                raise Stopped
            if message != self.stage:
                print(f"llmcompare: {message}", file=sys.stderr, flush=True)
            self.stage = f"{message}."

        resident = self._load(report)
        self.tokenizer = copy.deepcopy(resident.tokenizer)
        gc.collect()
        gc.freeze()  # what loading made stays: no collection during a request need look through it
        self.ready_at = int(time.time())
        self.resident = resident

    def _answer(self, job: Job) -> None:
        """Everything that goes wrong goes to whoever asked; the thread lives on."""
        try:
            if not self.ready:
                raise self.unready()
            self._serve(job)
        except Stopped:
            pass
        except Refusal as error:
            job.put(error)
        except SpecError as error:
            job.put(Refusal(400, f"{_field(error.field)}: {error}"))
        except EngineError as error:
            self._look_at_device(error)
            job.put(Refusal(503 if error.kind == "memory" else 500, error.message))
        except Exception as error:
            traceback.print_exc()
            self._look_at_device(error)
            memory = out_of_memory(error)
            message = "The memory is not enough for this request. Ask for fewer tokens." if memory else describe(error)
            job.put(Refusal(503 if memory or self.broken is not None else 500, message))
        finally:
            job.put(None)

    def _look_at_device(self, error: BaseException) -> None:
        """After a computation that failed with ``error``: where that was an error of the device, the model is tried out at once, as waiting
        for further requests to fail would cost them."""
        for _ in range(DEVICE_FAILURES - 1):
            if not device_failed(error):
                return
            try:
                self.resident.try_out()
            except Exception as another:
                error = another
            else:
                return
        if device_failed(error):
            self.broken = describe(error)
            print(f"llmcompare: the device does not compute any more. {self.broken}", file=sys.stderr, flush=True)
            self._on_broken()

    def _serve(self, job: Job) -> None:
        resident, question = self.resident, job.question

        def check() -> None:
            if job.cancelled.is_set():
                raise Stopped

        def told(token: Any) -> None:
            check()
            if job.stream:
                job.put(Token(int(token[0, 0])))

        check()
        started = time.perf_counter_ns()
        if question.messages is not None:
            prompt = resident.conversation(question.messages)
        elif question.as_it_is:
            prompt = resident.continuation(question.prompt)
        else:
            prompt = resident.question(question.prompt)
        tokenized = time.perf_counter_ns()
        served = resident.serve(
            prompt,
            _limit(question, resident.room(prompt)),
            seed=question.seed,
            ignore_eos=question.ignore_eos,
            told=told,
            report=lambda stage, fraction, message: check(),
        )
        answer = Answer(
            text=resident.text(served.tokens),
            finish=served.finish,
            prompt_tokens=len(prompt.ids),
            received_ns=job.received_ns,
            started_ns=started,
            tokenized_ns=tokenized,
            times_ns=tuple(served.times_ns),
        )
        job.put(answer)
        if question.profile:
            job.put(self._profile(served, job.room(answer), check))

    def _profile(self, served: Any, room: int, check: Callable[[], None]) -> Profile:
        """The answer is out already: what fails here costs the profile and not the answer. Packed here, as the next request would be
        disturbed by it."""
        whole = None
        try:
            document = self.resident.document(served, check)
            whole = pack(document, WHOLE_BYTES)
            return Profile(whole if len(json.dumps(whole)) <= room else pack(document, room), None, whole)
        except Stopped:
            raise
        except TooLarge as error:
            return Profile(None, str(error), whole)
        except Exception as error:
            traceback.print_exc()
            self._look_at_device(error)
            return Profile(None, f"The answer was measured, but no profile could be made of it. {describe(error)}")

    def _refuse_rest(self) -> None:
        for job in self._line.rest():
            job.put(self.unready())
            job.put(None)


def _limit(question: Question, room: int | None) -> int:
    """Most tokens of the answer: as asked, which the context may not have, or the default as far as it goes."""
    if question.max_tokens is not None:
        return question.max_tokens
    return DEFAULT_TOKENS if room is None else max(1, min(DEFAULT_TOKENS, room))


def _field(name: str) -> str:
    """The request's word for a field of the engine."""
    return {"output_tokens": "max_tokens", "input_tokens": "prompt"}.get(name, name)
