"""The scheme that a model's own configuration declares for its weights, and the option that estimates it. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profiling.precision import GROUP_SIZES, scheme
from profiling.spec import SpecError, Workload


def ignored_scheme(config: Any, workload: Workload) -> str | None:
    """The warning about a ``quantization_config`` of transformers that ``workload`` does not follow, or None."""
    if not config:
        return None
    words, option = configured_scheme(config)
    now = workload.weights_dtype or workload.dtype
    if option is not None and (now == option or scheme(now) == scheme(option)):
        return None
    how = f"choose {option} for the weights to estimate that" if option else "no scheme of this version is like it"
    return f"The configuration has its weights in {words}; this estimate has them in {now}: {how}."


def configured_scheme(config: Any) -> tuple[str, str | None]:
    """(what a ``quantization_config`` describes, the scheme of :func:`scheme` that is like it or None)."""
    if not isinstance(config, Mapping):
        return "a scheme that it does not name", None
    method = str(config.get("quant_method") or "").lower()
    bits, group = config.get("bits") or config.get("w_bit"), config.get("group_size") or config.get("q_group_size")
    if method == "bitsandbytes" or "load_in_4bit" in config or "load_in_8bit" in config:
        if config.get("load_in_4bit"):
            kind = config.get("bnb_4bit_quant_type", "fp4")
            return f"bitsandbytes {kind}", "nf4" if kind == "nf4" else None
        return "bitsandbytes int8", "int8"
    if method in ("fp8", "fbgemm_fp8"):
        return method, "fp8"
    if method == "mxfp4":
        return method, "mxfp4"
    if method in ("gptq", "awq", "auto-round", "hqq") and isinstance(bits, int):
        words = f"{method} with {bits} bits" + (f" in groups of {group}" if group in GROUP_SIZES else "")
        return words, "int8" if bits == 8 else _known(f"int{bits}-g{group}")
    return method or "a scheme that it does not name", None


def _known(name: str) -> str | None:
    try:
        return scheme(name).name
    except SpecError:
        return None
