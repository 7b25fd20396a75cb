"""What to keep in mind about an estimate of a model under a workload, whatever the hardware. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from profiling import speculative
from profiling.declared import ignored_scheme
from profiling.spec import ModelSpec, Workload


def cautions(
    model: ModelSpec,
    workload: Workload,
    architecture: str,
    kind: str,
    attention: str | None,
    unknown: Sequence[str],
) -> list[dict[str, str]]:
    """Warnings of a run document, each with a ``code`` and a ``message``.

    ``attention``: the implementation that runs, None for a model without attention. ``unknown``: names of operators without costs.
    """
    found = speculative.warnings(workload)
    ignored = ignored_scheme(model.config.get("quantization_config"), workload)
    if ignored:
        found.append({"code": "quantisation_ignored", "message": ignored})
    if unknown:
        found.append(
            {
                "code": "unknown_operators",
                "message": f"The engine cannot cost {', '.join(unknown)}: totals and times are too low by their share.",
            }
        )
    if attention and attention != workload.attn_implementation:
        found.append(
            {
                "code": "attention_fallback",
                "message": f"{architecture} does not offer {workload.attn_implementation} attention: {attention} was "
                "estimated, whose score matrices are in memory and traffic.",
            }
        )
    if kind == "vision":
        found.append(
            {
                "code": "fixed_input",
                "message": "The input is one image of the model's own size: input tokens are ignored.",
            }
        )
    if kind == "audio":
        found.append(
            {
                "code": "fixed_input",
                "message": "The encoder runs on one full window of audio; input tokens are the decoder's prompt.",
            }
        )
    return found
