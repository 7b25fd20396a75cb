"""What a closed form depends on, and so under what it is stored. Needs numpy and the standard library only: asking for a stored form imports no torch."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import profiling
from profiling.forms.terms import FORMAT
from profiling.parallel import Plan
from profiling.spec import ModelSpec, Workload, digest


@cache
def versions() -> dict[str, str | None]:
    """Of everything that decides what a model's forward does and how it is counted. None: not installed."""
    found: dict[str, str | None] = {"engine": profiling.__version__, "format": str(FORMAT)}
    for name in ("torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def form_key(model: ModelSpec, workload: Workload, kernel_threads: int | None = None) -> dict[str, Any]:
    """Everything but batch, lengths, rates and formats: those are arguments of the form.

    ``kernel_threads``: of a processor, whose kernels take workspaces of their own; None for accelerators.
    """
    counting = workload.counting
    plan = Plan.of(workload)
    return {
        "config_sha256": model.config_sha256(),
        "kind": model.kind,
        "dtype": workload.dtype,
        "attn_implementation": workload.attn_implementation,
        "logits": workload.logits,
        "execution": counting.execution,
        "causal": counting.causal,
        "windowed": counting.windowed,
        "mla": counting.mla,
        "decoder_tokens": workload.decoder_tokens if model.kind == "encdec" else 1,
        "prefix_tokens": workload.prefix_tokens,
        "draft_tokens": workload.draft_tokens,
        "devices": None if plan.single else [plan.tensor, plan.pipeline, plan.expert, plan.data],
        "kernel_threads": kernel_threads,
        **versions(),
    }


def key_digest(key: dict[str, Any]) -> str:
    return digest(key)
