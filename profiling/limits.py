"""What a model takes: lengths against its context. Standard library only, for the engine and for answers from stored forms alike."""

from __future__ import annotations

from profiling.spec import SpecError, Workload


def check_context(kind: str, limit: int | None, workload: Workload, joined: int = 0) -> None:
    """Raise :class:`SpecError` at the field that exceeds ``limit`` positions (None: nothing limits them), or that a model of this
    ``kind`` has no use for. ``joined``: tokens that images and audio clips take in the prompt of a sequence."""
    _check_options(kind, workload)
    if limit is None or kind == "vision":
        return
    if joined and workload.input_tokens + joined > limit:
        raise SpecError("images" if workload.images else "audios", _too_long(limit, workload, joined))
    if workload.input_tokens > limit:
        raise SpecError(
            "input_tokens",
            f"{workload.input_tokens:,} input tokens are more than this model takes: at most {limit:,}.",
        )
    if kind == "encoder":
        return
    given = workload.decoder_tokens - 1 if kind == "encdec" else workload.input_tokens + joined
    decoded = workload.output_tokens + given
    decoded += workload.draft_tokens if workload.output_tokens > 1 else 0
    if decoded > limit:
        room = limit - (decoded - workload.output_tokens)
        raise SpecError(
            "output_tokens",
            f"Input and output together exceed the model's {limit:,} positions: at most {room:,} output tokens are possible here."
            + (
                f" {pieces(workload)} of the input {'take' if several(workload) else 'takes'} {joined:,} tokens."
                if joined
                else ""
            ),
        )


def pieces(workload: Workload) -> str:
    """The images and audio clips of a sequence in words."""
    counts = ((workload.images, "image"), (workload.audios, "audio clip"))
    return " and ".join(f"{count:,} {name}{'s' if count > 1 else ''}" for count, name in counts if count)


def several(workload: Workload) -> bool:
    return workload.images + workload.audios > 1


def _too_long(limit: int, workload: Workload, joined: int) -> str:
    if joined >= limit:
        return f"The {joined:,} tokens of {pieces(workload)} do not fit: this model takes at most {limit:,}, the text included."
    return (
        f"The {joined:,} tokens of {pieces(workload)} leave {limit - joined:,} of this model's {limit:,} to the text, "
        f"which has {workload.input_tokens:,}."
    )


def _check_options(kind: str, workload: Workload) -> None:
    """Options that say nothing to a model would be ignored without a word: they are refused."""
    generates = kind not in ("encoder", "vision")
    if workload.decoder_tokens != 1 and kind != "encdec":
        raise SpecError("decoder_tokens", "Only the decoder of an encoder-decoder model begins with tokens of its own.")
    if workload.draft_tokens and not generates:
        raise SpecError("draft_tokens", "This model generates no tokens that a draft could guess.")
    for name, words in (("images", "images"), ("audios", "audio clips")):
        if getattr(workload, name) and kind not in ("decoder", "ssm"):
            raise SpecError(name, f"Only models that continue a text take {words} beside it: leave it at 0.")
    if not workload.prefix_tokens:
        return
    if kind not in ("decoder", "ssm"):
        why = (
            "reads its whole input at once"
            if not generates
            else "begins with its encoder, which keeps nothing of another input"
        )
        raise SpecError("prefix_tokens", f"This model {why}: no prefix can lie in a cache.")
    if workload.prefix_tokens >= workload.input_tokens:
        raise SpecError(
            "prefix_tokens",
            f"Of {workload.input_tokens:,} input tokens at most {workload.input_tokens - 1:,} can lie in the cache: the last one makes "
            "the first output token.",
        )


def check_measurable(workload: Workload) -> None:
    """A measured run computes the whole prompt, and each token by itself: raise :class:`SpecError` for what only estimates have."""
    defaults = (
        ("prefix_tokens", 0),
        ("draft_tokens", 0),
        ("decoder_tokens", 1),
        ("images", 0),
        ("audios", 0),
        ("pipeline_parallel", 1),
        ("expert_parallel", 1),
        ("data_parallel", 1),
    )
    for name, value in defaults:
        if getattr(workload, name) != value:
            raise SpecError(name, f"A measured run does not have this option: leave it at {value}, or run an estimate.")
