"""What a model takes: lengths against its context. Standard library only, for the engine and for answers from stored forms alike."""

from __future__ import annotations

from profiling.spec import SpecError, Workload


def check_context(kind: str, limit: int | None, workload: Workload) -> None:
    """Raise :class:`SpecError` at the field that exceeds ``limit`` positions (None: nothing limits them), or that a model of this
    ``kind`` has no use for."""
    _check_options(kind, workload)
    if limit is None or kind == "vision":
        return
    if workload.input_tokens > limit:
        raise SpecError(
            "input_tokens",
            f"{workload.input_tokens:,} input tokens are more than this model takes: at most {limit:,}.",
        )
    if kind == "encoder":
        return
    decoded = workload.output_tokens + (workload.decoder_tokens - 1 if kind == "encdec" else workload.input_tokens)
    decoded += workload.draft_tokens if workload.output_tokens > 1 else 0
    if decoded > limit:
        room = limit - (decoded - workload.output_tokens)
        raise SpecError(
            "output_tokens",
            f"Input and output together exceed the model's {limit:,} positions: at most {room:,} output tokens are possible here.",
        )


def _check_options(kind: str, workload: Workload) -> None:
    """Options that say nothing to a model would be ignored without a word: they are refused."""
    generates = kind not in ("encoder", "vision")
    if workload.decoder_tokens != 1 and kind != "encdec":
        raise SpecError("decoder_tokens", "Only the decoder of an encoder-decoder model begins with tokens of its own.")
    if workload.draft_tokens and not generates:
        raise SpecError("draft_tokens", "This model generates no tokens that a draft could guess.")
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
    for name, value in (("prefix_tokens", 0), ("draft_tokens", 0), ("decoder_tokens", 1)):
        if getattr(workload, name) != value:
            raise SpecError(name, f"A measured run does not have this option: leave it at {value}, or run an estimate.")
