"""Looking at a server: which models it lists, and what it does when it is asked for two tokens.

What was found is one JSON document::

    {"models": the first ids of its list, or null, "models_count": of all of them, "models_problem": sentence,
     "model": the one that was asked, empty if none was chosen,
     "routes": {"chat": {"works", "streams", "usage", "usage_asked", "problem"}, "completions": {…}},
     "abilities": those of the route that is used, with "api"; null if none works,
     "problem": why nothing works, empty where something does}

``usage``: the server counts tokens in what it streams. ``usage_asked``: it has to be asked to, and takes that. A route that was not tried
is left out: unknown is not "no".
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from profiling.remote.addresses import Network, Refused, Resolve, system_resolve
from profiling.remote.client import PROBE_S, list_models, make_client, probe
from profiling.remote.protocol import APIS

#: The whole look, in seconds: three questions of ``PROBE_S`` each, and one repetition.
LIMIT_S = 4 * PROBE_S
#: Ids of a server's list that are kept.
MOST_MODELS = 500
#: How soon it ends when it is to stop, in seconds.
STOP_S = 0.2

#: Is told a fraction from 0 to 1 and a sentence.
Say = Callable[[float, str], None]


@dataclass(frozen=True)
class Place:
    """What is looked at. ``model`` may be empty: then only the list is asked for. ``api``: the route that is tried first. ``allowed``: networks
    that may be connected to although they are not public. ``hide`` takes credentials out of what the server said."""

    base: str
    model: str = ""
    api: str = "chat"
    key: str | None = field(default=None, repr=False)
    allowed: Sequence[Network] = ()
    hide: Callable[[str], str] = field(default=lambda text: text, repr=False)


def look(
    place: Place, say: Say, stop: threading.Event, *, resolve: Resolve = system_resolve, limit_s: float = LIMIT_S
) -> dict[str, Any] | None:
    """Look at the server now; returns within ``limit_s`` whatever it does. Soon after ``stop`` is set: None, since nothing is known then."""
    found: dict[str, Any] = {
        "models": None,
        "models_count": 0,
        "models_problem": "",
        "model": place.model,
        "routes": {},
        "abilities": None,
        "problem": "",
    }
    try:
        asyncio.run(_bounded(_look(place, say, resolve, found), stop, limit_s))
    except TimeoutError:
        if stop.is_set():
            return None
        if found["abilities"] is None:
            found["problem"] = f"The server had not answered everything after {limit_s:g} s."
    return _hidden(found, place.hide)


async def _bounded(work: Coroutine[Any, Any, None], stop: threading.Event, limit_s: float) -> None:
    """Do ``work`` or raise :class:`TimeoutError`; its connections are closed either way."""
    task = asyncio.ensure_future(work)
    end = asyncio.get_running_loop().time() + limit_s
    while not task.done():
        await asyncio.wait({task}, timeout=STOP_S)
        if not task.done() and (stop.is_set() or asyncio.get_running_loop().time() > end):
            task.cancel()
            await asyncio.wait({task})
            raise TimeoutError
    await task


async def _look(place: Place, say: Say, resolve: Resolve, found: dict[str, Any]) -> None:
    async with make_client(place.allowed, connections=1, silence_s=PROBE_S, resolve=resolve) as client:
        say(0.1, "Asks the server which models it has.")
        try:
            models = await asyncio.wait_for(list_models(client, place.base, place.key), PROBE_S)
            found["models"], found["models_count"] = models[:MOST_MODELS], len(models)
        except TimeoutError:
            found["models_problem"] = f"The server's list of models was not complete after {PROBE_S:g} s."
        except Refused as error:
            found["models_problem"] = _with_hint(place.base, str(error))
        if not place.model:
            found["problem"] = "" if found["models"] is not None else found["models_problem"]
            return
        await _ask_routes(client, place, say, found)


async def _ask_routes(client: httpx.AsyncClient, place: Place, say: Say, found: dict[str, Any]) -> None:
    """The route in use first, the other one too: which of them a server answers is what people want to know."""
    apis = sorted(APIS, key=lambda api: api != place.api)
    for number, api in enumerate(apis):
        say(0.4 + 0.3 * number, f"Asks for two tokens by {APIS[api]}.")
        abilities, answer = await probe(client, place.base, place.model, place.key, apis=(api,))
        found["routes"][api] = {
            "works": abilities is not None,
            "streams": abilities.streams if abilities else None,
            "usage": abilities.usage if abilities else None,
            "usage_asked": abilities.usage_asked if abilities else None,
            "problem": answer.error or "",
        }
        if abilities is not None and found["abilities"] is None:
            found["abilities"] = {"api": api} | {
                name: value for name, value in found["routes"][api].items() if name not in ("works", "problem")
            }
        if abilities is None and (answer.kind not in ("http", "stream") or answer.status in (401, 403, 429)):
            break  # another route would say the same
    if found["abilities"] is None:
        found["problem"] = _with_hint(place.base, next(route["problem"] for route in found["routes"].values()))


def _with_hint(base: str, problem: str) -> str:
    """The sentence, with what is wrong most often."""
    if "(status 404)" in problem and not urlsplit(base).path:
        return f"{problem} Most servers have their routes below /v1: add it to the address."
    return problem


def _hidden(found: Any, hide: Callable[[str], str]) -> Any:
    """The same without credentials: a server may send back in its answer what it was sent."""
    if isinstance(found, str):
        return hide(found)
    if isinstance(found, list):
        return [_hidden(item, hide) for item in found]
    if isinstance(found, dict):
        return {name: _hidden(value, hide) for name, value in found.items()}
    return found
