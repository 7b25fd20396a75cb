"""One endpoint, measured from outside: requests by a plan, then what they were, counted and held against the server's own clock.

Latencies are of this side's clock and hold the network. Tokens are the server's own count; where it gives none, they are counted with the
tokenizer that the user named, and where there is none of that either, everything that needs tokens is left out. Nothing inside of the
server is seen, unless it is one of ours and says it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, TypeVar

from profiling.failures import describe
from profiling.load import Load, planned
from profiling.remote.client import Client
from profiling.remote.counting import Counter, count_answers
from profiling.remote.document import document
from profiling.remote.levels import Sweep
from profiling.remote.load import Earlier, Loaded, Sent, closed, connections_ahead, opened
from profiling.remote.prompts import prompts
from profiling.remote.protocol import Question
from profiling.remote.request import Answer, ask
from profiling.remote.secrets import secrets_of, without
from profiling.remote.served import Served, read_served
from profiling.remote.sweep import Level, begun, ended
from profiling.spec import SpecError, Workload

#: No request is begun once this part of the time limit is used: what is under way must still end.
TIME_SHARE = 0.8
#: How soon a cancelled load ends, in seconds.
CANCEL_S = 0.2
#: How often what is known so far is told, in seconds.
TELL_S = 10.0
#: Requests of a load that such a document has, the latest.
TOLD = 4000
#: So many failures in a row, before anything has succeeded, end a load: the server will not answer the others either.
HOPELESS = 5
NO_TEXT = "The answer ended without any text: the model ended it at once, or needed all of its tokens for reasoning that the server keeps to itself."

T = TypeVar("T")
Progress = Callable[[str, float, str], None]
#: Headers of the next request: a token of a cloud does not live as long as a load.
Headers = Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server. ``base``: address up to ``/v1``. ``usage``: ask for the count of tokens in streams. ``unique``: begin each
    prompt differently, also from one run to the next, so that no cache of prefixes answers for the model. ``exact_url``: the whole address of
    the route, where it is not one of the protocol. ``profile``: after the load, ask for the server's own times and the profile of its layers
    (one of ours has them)."""

    name: str
    base: str
    model: str
    api: str = "chat"
    usage: bool = True
    unique: bool = True
    exact_url: str | None = None
    profile: bool = False


@dataclass
class Outcome:
    """What came of the requests: those before that count for nothing, the load or the levels of a sweep, and the request for the profile."""

    warmups: list[Answer] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    profiled: Answer | None = None
    cut: bool = False

    @property
    def sent(self) -> list[Sent]:
        return [one for level in self.levels for one in level.loaded.sent]

    @property
    def earlier(self) -> list[Earlier]:
        """Of each level, the requests that ``sent`` does not have."""
        return [level.loaded.earlier for level in self.levels]


def bearer(key: str | None) -> Headers:
    """The header of an API key that stays the same."""
    return lambda: {"Authorization": f"Bearer {key}"} if key else {}


@dataclass
class Runner:
    """The state of one run: what is asked, how much time is left, what came back so far."""

    client: Client
    endpoint: Endpoint
    workload: Workload
    load: Load
    headers: Headers
    progress: Progress
    cancelled: Callable[[], bool]
    told: Callable[[Outcome], None]
    outcome: Outcome = field(default_factory=Outcome)
    began: float = field(default_factory=time.monotonic)
    told_at: float = field(default_factory=time.monotonic)
    telling: asyncio.Future[None] | None = None
    mark: str = field(default_factory=lambda: token_hex(8))

    @property
    def short(self) -> bool:
        """Whether too little time is left to begin another request."""
        return time.monotonic() - self.began > TIME_SHARE * self.workload.time_limit_s

    async def send(self, text: str, tokens: int, *, profile: bool = False) -> Answer:
        endpoint, left = self.endpoint, self.workload.time_limit_s - (time.monotonic() - self.began)
        question = Question(
            endpoint.model,
            text,
            tokens,
            endpoint.api,
            seed=self.workload.seed,
            usage=endpoint.usage,
            profile=profile,
        )
        # The headers may have to be fetched; a request's time begins after that.
        headers = self.headers()
        return await ask(
            self.client, endpoint.base, question, headers=headers, url=endpoint.exact_url, total_s=max(1.0, left)
        )

    def prompts(self, load: Load, first: int) -> list[tuple[str, int]]:
        return prompts(self.workload, load, unique=self.endpoint.unique, first=first, run=self.mark)

    async def until_cancelled(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What comes of it, or None soon after the run was cancelled."""
        task = asyncio.create_task(work)
        while not task.done():
            await asyncio.wait([task], timeout=CANCEL_S)
            if self.cancelled():
                task.cancel()
        return None if task.cancelled() else task.result()

    async def warm_up(self) -> None:
        """Requests that count for nothing, one after the other."""
        count = self.workload.warmup
        load = replace(self.load, mode="closed", rate=None, requests=max(count, 1))
        texts = self.prompts(load, -count)
        for index in range(count):
            self.progress("warmup", 0.05 * index / max(count, 1), f"Warm-up {index + 1} of {count}")
            answer = await self.until_cancelled(self.send(*texts[index % len(texts)]))
            if answer is not None:
                self.outcome.warmups.append(answer)
            if self.cancelled():
                self.outcome.cut = True
                return

    async def connect(self, load: Load) -> None:
        """Open the connections that a load needs before it begins: else handshakes would be in the times of each user's first request."""
        url, count = self.endpoint.exact_url or self.endpoint.base, connections_ahead(load, self.outcome.warmups)
        await self.until_cancelled(self.client.open_ahead(url, count))

    async def stage(self, load: Load, at: tuple[float, float], users: int | None = None) -> Level:
        """One load, whose progress goes from one fraction to the other; what has ended is in ``outcome`` also when it is given up."""
        level = Level(users, load, Loaded(), first=len(self.outcome.sent))
        texts = self.prompts(load, level.first)
        self.outcome.levels.append(level)
        await self.connect(load)
        of_level = "" if users is None else f" with {users} at once"
        load_began = time.monotonic()

        def enough(sent: Sequence[Sent]) -> bool:
            failed = list(itertools.takewhile(lambda one: one.answer.error is not None, sent))
            hopeless = len(failed) >= HOPELESS and len(failed) == len(sent)
            share = len(sent) / max(len(texts), 1)
            self.progress(
                "requests", at[0] + (at[1] - at[0]) * share, f"{len(sent)} of {len(texts)} requests{of_level}"
            )
            self._tell()
            late = load.seconds is not None and not load.open and time.monotonic() - load_began > load.seconds
            level.cut = level.cut or hopeless or self.short or self.cancelled()
            return level.cut or late

        async def one(number: int) -> Answer:
            answer = await self.send(*texts[number % len(texts)])
            answer.ours = None  # was not asked for, and may be large
            if answer.error is None and answer.last_token_ns is None:
                # It has no latency: counted as an answer, it would be in the rates of a server that says nothing.
                answer.fail("stream", NO_TEXT)
            return answer

        if load.open:
            due = [
                one.arrival_s or 0.0 for one in planned(load, input_tokens=1, output_tokens=1, seed=self.workload.seed)
            ]
            task = asyncio.create_task(opened(one, due, enough, level.loaded))
        else:
            task = asyncio.create_task(closed(one, len(texts), load.concurrency, enough, level.loaded))
        while not task.done():
            await asyncio.wait([task], timeout=CANCEL_S)
            if self.cancelled() and not task.done():  # what is under way is given up, what has ended is kept
                level.cut = True
                task.cancel()
        await asyncio.gather(task, return_exceptions=level.cut)
        self.outcome.cut = self.outcome.cut or level.cut
        return level

    async def sweep(self, sweep: Sweep) -> None:
        """Level after level, until one of them says that more users gain nothing."""
        for number, users in enumerate(sweep.levels):
            span = (0.05 + 0.85 * number / len(sweep.levels), 0.05 + 0.85 * (number + 1) / len(sweep.levels))
            await self.stage(begun(self.load, users), span, users)
            if self.outcome.cut or ended(self.outcome.levels, sweep) is not None:
                return

    async def ask_profile(self) -> None:
        """One request more, alone, for the server's own clock and its layers; a server that is none of ours refuses or ignores the wish."""
        text, tokens = self.prompts(self.load, len(self.outcome.sent))[0]
        self.progress("profile", 0.92, "One more request, for the server's own times and layers")
        self.outcome.profiled = await self.until_cancelled(self.send(text, tokens, profile=True))

    def _tell(self) -> None:
        """Beside the load, in a thread: writing a document takes longer than a token."""
        if time.monotonic() - self.told_at < TELL_S or (self.telling is not None and not self.telling.done()):
            return
        self.told_at = time.monotonic()
        levels = [replace(one, loaded=one.loaded.latest(TOLD)) for one in self.outcome.levels]
        levels[-1].cut = True  # it is under way: of a sweep, neither the best level nor the end
        so_far = Outcome(list(self.outcome.warmups), levels, None, True)
        self.telling = asyncio.get_running_loop().run_in_executor(None, self.told, so_far)


async def run(runner: Runner, sweep: Sweep | None = None) -> Outcome:
    """Warm-up requests, the load or the levels of the sweep, and at last the request for the profile. ``cancelled`` gives up what is under
    way; time ends a load before its next request."""
    await runner.warm_up()
    outcome = runner.outcome
    if not outcome.cut:
        await (runner.stage(runner.load, (0.05, 0.9)) if sweep is None else runner.sweep(sweep))
    if runner.endpoint.profile and not runner.cancelled() and any(one.answer.error is None for one in outcome.sent):
        await runner.ask_profile()
    if runner.telling is not None:
        await asyncio.gather(runner.telling, return_exceptions=True)
    return outcome


def check(endpoint: Endpoint, workload: Workload, load: Load, sweep: Sweep | None = None) -> None:
    """Raise :class:`SpecError` for what cannot be asked of an endpoint."""
    workload.check()
    load.check()
    if sweep is not None:
        sweep.check()
        if load.open:
            raise SpecError("load_mode", "The levels of a sweep are users of a closed loop.")
    if workload.output_tokens < 1:
        raise SpecError("output_tokens", "Ask for at least 1 output token.")
    if not endpoint.model:
        raise SpecError("model", "Choose which of the server's models to ask.")


def measure_endpoint(
    endpoint: Endpoint,
    workload: Workload,
    load: Load,
    client: Callable[[], Client],
    *,
    sweep: Sweep | None = None,
    key: str | None = None,
    headers: Headers | None = None,
    counter: Counter | None = None,
    progress: Progress = lambda stage, fraction, message: None,
    cancelled: Callable[[], bool] = lambda: False,
    partial: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """:func:`run` in an event loop of its own, and its :func:`document`. Raises :class:`SpecError` for what cannot be asked.

    ``headers`` (or ``key``, which stays the same) are asked for before every request. ``counter`` counts tokens by the model's own
    tokenizer, after the load. ``partial`` gets the document of what is known so far, about every :data:`TELL_S` seconds.
    """
    check(endpoint, workload, load, sweep)
    headers = headers or bearer(key)
    started, began, seen = datetime.now(UTC), time.monotonic(), set[str]()

    def noted() -> Mapping[str, str]:
        found = headers()
        seen.update(secrets_of(found))
        return found

    def written(
        outcome: Outcome, served: Served | None = None, counter: Counter | None = None, *, final: bool = True
    ) -> dict[str, Any]:
        tokens, problem = _counted(outcome, counter)
        found = document(
            endpoint, workload, load, outcome, sweep=sweep, served=served, tokens=tokens, started=started, duration_s=time.monotonic() - began, final=final
        )  # fmt: skip
        if problem:
            found["warnings"].append({"code": "not_counted", "message": problem})
        return without(sorted(seen, key=len, reverse=True), found)

    async def go() -> Outcome:
        async with client() as http:
            runner = Runner(
                http,
                endpoint,
                workload,
                load,
                noted,
                progress,
                cancelled,
                lambda outcome: partial(written(outcome, final=False)),
            )
            return await run(runner, sweep)

    outcome = asyncio.run(go())
    progress("document", 0.96, "Counting tokens" if counter else "Writing down what came back")
    return written(outcome, read_served(outcome.profiled) if outcome.profiled else None, counter)


def _counted(outcome: Outcome, counter: Counter | None) -> tuple[dict[str, Any], str]:
    """``tokens`` of the document, and why the tokenizer counted none of them: a count is not worth losing a load for."""
    try:
        return count_answers(outcome.sent, counter), ""
    except Exception as error:
        return count_answers(outcome.sent, None), f"Tokens could not be counted here. {describe(error)}"
