"""What the bodies of requests ask for. Vertex AI's shape (``instances``) and the OpenAI protocol's (``messages``, ``prompt``) come to the
same route: the body decides. Pure, standard library only.

A field that is not known is refused by its name: one that was ignored could be the one that mattered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import Refusal

MAX_INSTANCES, MAX_MESSAGES, MAX_TOKENS = 8, 1000, 1_000_000
ROLES = ("system", "developer", "user", "assistant")

#: Fields of the OpenAI protocol that say how to choose tokens, or ask for more than a text, with the values that are served: the
#: container always takes the likeliest token. null is always taken.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0,),
    "top_p": (1,),
    "n": (1,),
    "best_of": (1,),
    "stop": ([],),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "store": (False,),
}
#: Fields that change nothing here: who asks, and which model, as there is only one.
FREE = ("model", "user", "metadata")


@dataclass(frozen=True)
class Question:
    """One text that is asked for. ``as_it_is``: the prompt is gone on with and not put into a chat template. ``max_tokens`` None: the
    container's default."""

    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    as_it_is: bool = False
    max_tokens: int | None = None
    seed: int = 0
    ignore_eos: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Body:
    """``kind``: ``predict``, ``chat`` or ``completion``. ``usage``: count tokens at the end of a stream. ``timing``: say the container's own
    times in an answer of the OpenAI protocol."""

    kind: str
    questions: tuple[Question, ...]
    stream: bool = False
    usage: bool = False
    timing: bool = False


def read(raw: bytes) -> Body:
    """The request in ``raw``. Raises :class:`Refusal` (400) with the field that is at fault."""
    try:
        found = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not JSON.") from None
    if not isinstance(found, dict):
        raise Refusal(400, "The body must be a JSON object.")
    if "instances" in found:
        return _predict(found)
    if "messages" in found or "prompt" in found:
        return _openai(found)
    message = (
        "The body has neither instances (Vertex AI) nor messages or prompt (OpenAI protocol), so nothing is asked for."
    )
    raise Refusal(400, message)


def _predict(found: Mapping[str, Any]) -> Body:
    _known(found, ("instances", "parameters"), "")
    instances, parameters = found["instances"], found.get("parameters")
    if not isinstance(instances, list) or not 1 <= len(instances) <= MAX_INSTANCES:
        raise Refusal(400, f"instances must be a list of 1 to {MAX_INSTANCES} objects.")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, Mapping):
        raise Refusal(400, "parameters must be an object.")
    _known(parameters, ("max_tokens", "seed", "profile", "ignore_eos"), "parameters.")
    options: dict[str, Any] = {
        "max_tokens": _tokens(parameters, "max_tokens", "parameters."),
        "seed": _seed(parameters, "parameters."),
        "ignore_eos": _flag(parameters, "ignore_eos", "parameters."),
        "profile": _flag(parameters, "profile", "parameters."),
    }
    questions = []
    for number, one in enumerate(instances):
        at = f"instances[{number}]"
        if not isinstance(one, Mapping) or ("prompt" in one) == ("messages" in one):
            raise Refusal(400, f"{at} must be an object with either prompt or messages.")
        _known(one, ("prompt", "messages"), f"{at}.")
        questions.append(Question(**_asked(one, f"{at}."), **options))
    return Body("predict", tuple(questions))


def _openai(found: Mapping[str, Any]) -> Body:
    chat = "messages" in found
    if chat and "prompt" in found:
        raise Refusal(400, "Send either messages or prompt, not both.")
    own = ("messages" if chat else "prompt", "max_tokens", "max_completion_tokens", "seed", "ignore_eos", "stream")
    _known(found, (*own, "stream_options", "llmcompare", *NEUTRAL, *FREE), "")
    for name, served in NEUTRAL.items():
        value = found.get(name)
        if value is not None and not any((type(value) is not bool and value == one) or value is one for one in served):
            shown = json.dumps(served[0])
            raise Refusal(400, f"{name} must be {shown} or left out: the likeliest token is always taken here.")
    if found.get("max_tokens") is not None and found.get("max_completion_tokens") is not None:
        raise Refusal(400, "Send either max_tokens or max_completion_tokens, not both.")
    stream, options = _flag(found, "stream"), _object(found, "stream_options", ("include_usage",))
    if options and not stream:
        raise Refusal(400, "stream_options need stream: true.")
    ours = _object(found, "llmcompare", ("profile", "timing"))
    profile = _flag(ours, "profile", "llmcompare.")
    limit = _tokens(found, "max_tokens")
    question = Question(
        **_asked(found, ""),
        as_it_is=not chat,
        max_tokens=_tokens(found, "max_completion_tokens") if limit is None else limit,
        seed=_seed(found),
        ignore_eos=_flag(found, "ignore_eos"),
        profile=profile,
    )
    return Body(
        "chat" if chat else "completion",
        (question,),
        stream,
        _flag(options, "include_usage", "stream_options."),
        profile or _flag(ours, "timing", "llmcompare."),
    )


def _asked(found: Mapping[str, Any], at: str) -> dict[str, Any]:
    if "messages" in found:
        return {"messages": _messages(found["messages"], f"{at}messages")}
    prompt = found["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise Refusal(400, f"{at}prompt must be a text that is not empty.")
    return {"prompt": _text(prompt, f"{at}prompt")}


def _messages(value: Any, at: str) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        raise Refusal(400, f"{at} must be a list of 1 to {MAX_MESSAGES:,} messages.")
    found = []
    for number, one in enumerate(value):
        here = f"{at}[{number}]"
        if not isinstance(one, Mapping):
            raise Refusal(400, f"{here} must be an object with role and content.")
        _known(one, ("role", "content"), f"{here}.")
        if one.get("role") not in ROLES:
            raise Refusal(400, f"{here}.role must be one of {', '.join(ROLES)}.")
        found.append({"role": one["role"], "content": _content(one.get("content"), f"{here}.content")})
    return tuple(found)


def _content(value: Any, at: str) -> str:
    """Text, or parts that are all text."""
    if isinstance(value, list):
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise Refusal(400, f"{at} has a part that is no text, and this container reads text alone.")
            parts.append(part["text"])
        value = "".join(parts)
    if not isinstance(value, str):
        raise Refusal(400, f"{at} must be a text.")
    return _text(value, at)


def _text(value: str, at: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal(400, f"{at} has half of a character (a lone surrogate).") from None
    return value


def _known(found: Mapping[str, Any], names: tuple[str, ...], at: str) -> None:
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise Refusal(400, f"{at}{unknown[0][:100]} is no field that this container knows.")


def _object(found: Mapping[str, Any], name: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    value = found.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Refusal(400, f"{name} must be an object.")
    _known(value, names, f"{name}.")
    return value


def _flag(found: Mapping[str, Any], name: str, at: str = "") -> bool:
    value = found.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Refusal(400, f"{at}{name} must be true or false.")
    return value


def _tokens(found: Mapping[str, Any], name: str, at: str = "") -> int | None:
    value = _whole(found.get(name))
    if found.get(name) is None:
        return None
    if value is None or not 1 <= value <= MAX_TOKENS:
        raise Refusal(400, f"{at}{name} must be a whole number from 1 to {MAX_TOKENS:,}.")
    return value


def _seed(found: Mapping[str, Any], at: str = "") -> int:
    value = _whole(found.get("seed"))
    if found.get("seed") is None:
        return 0
    if value is None or abs(value) >= 2**53:
        raise Refusal(400, f"{at}seed must be a whole number.")
    return value


def _whole(value: Any) -> int | None:
    """A whole number; also one with a fraction of zero, as Vertex AI's predict makes of every number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        return None
    return int(value)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")
