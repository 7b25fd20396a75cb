"""What is sent to a server that speaks the OpenAI protocol, and what its answers mean. Pure: no network, no clock.

Servers differ. Some send an empty chunk that only names the role, some send usage in a last chunk without choices, some say an error inside
of a stream that began with status 200, some never send ``[DONE]``. All of that is read here, so that nothing else has to know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

APIS = {"chat": "/chat/completions", "completions": "/completions"}
DONE = "[DONE]"
MAX_REASON = 300
#: No request has as many tokens, and no column of a database holds more.
MOST_TOKENS = 2**31


@dataclass(frozen=True)
class Question:
    """One request for text. ``temperature`` 0 and a ``seed`` make answers as alike as the server can. ``profile``: ask a server of ours
    for its own times and a profile of the model; others refuse or ignore it."""

    model: str
    prompt: str
    max_tokens: int = 128
    api: str = "chat"
    temperature: float = 0.0
    seed: int | None = 0
    usage: bool = True
    stream: bool = True
    profile: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON of the request. Only fields that every server knows: strict ones refuse the others."""
        own: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.api == "chat":
            own["messages"] = [{"role": "user", "content": self.prompt}]
        else:
            own["prompt"] = self.prompt
        if self.seed is not None:
            own["seed"] = self.seed
        if self.stream:
            own["stream"] = True
            if self.usage:
                own["stream_options"] = {"include_usage": True}
        if self.profile:
            own["llmcompare"] = {"profile": True, "timing": True}
        return own


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counted them; None where it did not say. ``reasoning`` is part of ``output``, ``cached`` of ``input``."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None


@dataclass(frozen=True)
class Chunk:
    """What one event of a stream brought. ``tool``: part of a call of a function, which is output as well. ``ours``: what a server of ours
    adds, of which nothing has been checked."""

    text: str = ""
    reasoning: str = ""
    tool: bool = False
    finish: str | None = None
    usage: Usage | None = None
    error: str | None = None
    done: bool = False
    ours: Mapping[str, Any] | None = None

    @property
    def has_output(self) -> bool:
        """Whether tokens of the answer came: a role alone, or usage alone, are none."""
        return bool(self.text or self.reasoning or self.tool)


def parse(data: str) -> Chunk:
    """An event of a stream. Raises :class:`ValueError` with a sentence when it is none of this protocol."""
    if data.strip() == DONE:
        return Chunk(done=True)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("The server sent an event that is not JSON.") from None
    if not isinstance(found, Mapping):
        raise ValueError("The server sent an event that is not an object.")
    message = error_text(found)
    if message is not None:
        return Chunk(error=message)
    return _chunk(found, "delta")


def parse_whole(data: str) -> Chunk:
    """An answer that was not streamed. Raises :class:`ValueError` as :func:`parse` does."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("The server's answer is not JSON.") from None
    if not isinstance(found, Mapping):
        raise ValueError("The server's answer is not an object.")
    message = error_text(found)
    return Chunk(error=message) if message is not None else _chunk(found, "message")


def _chunk(found: Mapping[str, Any], part: str) -> Chunk:
    choices = found.get("choices")
    first: Any = choices[0] if isinstance(choices, list) and choices else {}
    first = first if isinstance(first, Mapping) else {}
    delta: Any = first.get(part) or first.get("delta") or first.get("message") or {}
    delta = delta if isinstance(delta, Mapping) else {}
    finish, ours = first.get("finish_reason"), found.get("llmcompare")
    return Chunk(
        text=_text(delta.get("content")) or _text(first.get("text")),
        reasoning=_text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
        tool=bool(delta.get("tool_calls") or delta.get("function_call")),
        # Some servers write "" until there is a reason.
        finish=(cleaned(finish) or None) if isinstance(finish, str) else None,
        usage=_usage(found.get("usage")),
        ours=ours if isinstance(ours, Mapping) else None,
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):  # content in parts
        return "".join(_text(item.get("text")) for item in value if isinstance(item, Mapping))
    return ""


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, Mapping):
        return None
    out, into = value.get("completion_tokens_details"), value.get("prompt_tokens_details")
    found = Usage(
        input=_count(value, "prompt_tokens"),
        output=_count(value, "completion_tokens"),
        reasoning=_count(out, "reasoning_tokens"),
        cached=_count(into, "cached_tokens"),
    )
    return None if found == Usage() else found


def _count(holder: Any, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS else None


def error_text(found: Any) -> str | None:
    """The message of an error object, in any of the shapes that servers use; None when ``found`` is no error."""
    if not isinstance(found, Mapping):
        return None
    error = found.get("error")
    if error is None and found.get("object") == "error":
        error = found
    if (
        error is None
        and set(found) <= {"detail", "message", "code", "status"}
        and ("detail" in found or "message" in found)
    ):
        error = found.get("detail", found.get("message"))
    if error is None:
        return None
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("detail") or error.get("type") or "no reason"
    return cleaned(error if isinstance(error, str) else json.dumps(error))


def cleaned(text: str) -> str:
    """A short excerpt of a stranger's text that can stand in a sentence: one line, no control characters."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
    return plain if len(plain) <= MAX_REASON else plain[: MAX_REASON - 1] + "…"


def usage_refused(status: int, message: str | None) -> bool:
    """Whether a refusal is about ``stream_options``, so that the same request without it may pass."""
    words = (message or "").lower()
    return status in (400, 422) and ("stream_options" in words or "include_usage" in words)
