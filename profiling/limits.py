"""What a model takes: lengths against its context. Standard library only, for the engine and for answers from stored forms alike."""

from __future__ import annotations

from profiling.spec import SpecError, Workload


def check_context(kind: str, limit: int | None, workload: Workload) -> None:
    """Raise :class:`SpecError` at the field that exceeds ``limit`` positions; None: nothing limits them."""
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
    if decoded > limit:
        room = limit - (decoded - workload.output_tokens)
        raise SpecError(
            "output_tokens",
            f"Input and output together exceed the model's {limit:,} positions: at most {room:,} output tokens are possible here.",
        )
