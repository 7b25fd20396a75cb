"""The shapes of answers: predictions of Vertex AI, objects and chunks of the OpenAI protocol, and what is ours beside them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from serving.engine import Answer, Profile

#: Bytes left for the frame of an answer: identifiers, names, brackets.
FRAME = 2_000
PROFILE_OBJECT = "llmcompare.profile"


def usage(answer: Answer) -> dict[str, int]:
    """Tokens of the prompt (with the chat template's) and of the answer, the one that ended it among them."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }


def server(answer: Answer, about: Mapping[str, Any]) -> dict[str, Any]:
    """The container's own clock. ``ttft_s``, ``e2e_s`` and ``token_times_ns`` count from when the whole request had arrived;
    ``queue_s`` (until its turn came), ``tokenize_s`` and ``prefill_s`` (the pass over the prompt) are in them. ``tpot_s``: from the first to
    the last token ÷ (tokens − 1), null for one. What a network and gateways take is in none of them."""
    begin, first, *_ = answer.times_ns
    last, received = answer.times_ns[-1], answer.received_ns
    return {
        "queue_s": (answer.started_ns - received) / 1e9,
        "tokenize_s": (answer.tokenized_ns - answer.started_ns) / 1e9,
        "prefill_s": (first - begin) / 1e9,
        "ttft_s": (first - received) / 1e9,
        "tpot_s": (last - first) / (answer.tokens - 1) / 1e9 if answer.tokens > 1 else None,
        "e2e_s": (last - received) / 1e9,
        "token_times_ns": [at - received for at in answer.times_ns[1:]],
        **about,
    }


def prediction(answer: Answer, ours: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": answer.text, "finish_reason": answer.finish, "usage": usage(answer), **ours}


def own(answer: Answer, about: Mapping[str, Any], profile: Profile | None, limit: int) -> dict[str, Any]:
    """What is ours in an answer: ``server`` and, where one was asked for, ``profile`` (packed; null: ``profile_error`` says why). The times of
    single tokens are null where they alone would pass ``limit`` bytes."""
    found: dict[str, Any] = {"server": server(answer, about)}
    if _size(answer, about) > limit:
        found["server"]["token_times_ns"] = None
    if profile is not None:
        found["profile"] = profile.packed
        if profile.packed is None:
            found["profile_error"] = profile.reason
    return found


def room(answer: Answer, about: Mapping[str, Any], limit: int) -> int:
    """Bytes that are left for a packed profile."""
    size = _size(answer, about)
    return limit - (size if size <= limit else len(json.dumps(answer.text)) + FRAME)


def _size(answer: Answer, about: Mapping[str, Any]) -> int:
    return len(json.dumps([answer.text, server(answer, about)])) + FRAME


class OpenAI:
    """Objects of one answer. ``kind``: ``chat`` or ``completion``."""

    def __init__(self, kind: str, model: str) -> None:
        self._chat = kind == "chat"
        self.id = f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._model, self._created = model, int(time.time())

    def whole(self, answer: Answer) -> dict[str, Any]:
        part: dict[str, Any] = {"text": answer.text}
        if self._chat:
            part = {"message": {"role": "assistant", "content": answer.text}}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": answer.finish}
        return self._object("", [choice]) | {"usage": usage(answer)}

    def role(self) -> dict[str, Any] | None:
        """The first chunk of a chat, before there is a token; completions have none."""
        return self._chunk({"role": "assistant", "content": ""}, None) if self._chat else None

    def piece(self, text: str) -> dict[str, Any]:
        return self._chunk({"content": text}, None)

    def finish(self, reason: str) -> dict[str, Any]:
        return self._chunk({}, reason)

    def usage(self, answer: Answer) -> dict[str, Any]:
        return self._object(".chunk", []) | {"usage": usage(answer)}

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        part: dict[str, Any] = {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        return self._object(".chunk", [{"index": 0, **part, "logprobs": None, "finish_reason": reason}])

    def _object(self, suffix: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"chat.completion{suffix}" if self._chat else "text_completion"
        return {"id": self.id, "object": name, "created": self._created, "model": self._model, "choices": choices}
