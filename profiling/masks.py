"""Which keys the attention masks of transformers let queries see: told from the functions that masks are made of.

A mask on the meta device has no values, but transformers makes it of functions of two positions (``masking_utils``), and these are
known: causal, a sliding window to one side or to both, chunks. Masks that a model makes by itself are not recognised here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import masking_utils

from profiling.fused import current


@dataclass(frozen=True, slots=True)
class Pattern:
    """``causal``: no query sees keys after its own position. ``window``: nor keys at a distance of so many tokens or more
    (of more than so many, to both sides, where it is not causal). ``chunk``: nor those of another chunk of so many tokens."""

    causal: bool
    window: int | None = None
    chunk: int | None = None


def pattern(function: Callable) -> Pattern | None:
    """The pattern of a mask function; None where it is more than its parts all at once, or made of unknown ones."""
    parts = dict(_parts(function))
    if "or_masks" in parts:
        return None
    causal = "causal_mask_function" in parts
    if not causal and "bidirectional_mask_function" not in parts:
        return None
    sided = "sliding_window_overlay" if causal else "sliding_window_bidirectional_overlay"
    return Pattern(
        causal, parts.get(sided, {}).get("sliding_window"), parts.get("chunked_overlay", {}).get("chunk_size")
    )


def _parts(function: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of the outermost function, what it holds on to) of a mask function and of those that it is made of."""
    if not hasattr(function, "__code__"):
        return
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    held = dict(zip(function.__code__.co_freevars, cells, strict=True))
    yield function.__qualname__.split(".")[0], held
    for value in held.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            yield from _parts(part)


_lock = threading.Lock()
_installed = False


def install() -> None:
    """Let transformers tell the running trace what each mask for an attention kernel is made of. Once per process."""
    global _installed
    with _lock:
        if not _installed:
            masking_utils.AttentionMaskInterface.register("sdpa", _telling(masking_utils.sdpa_mask))
            _installed = True


def _telling(original: Callable) -> Callable:
    @functools.wraps(original)
    def mask(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        tracer = current()
        if tracer is not None and made is not None:
            tracer.masked(made, pattern(kwargs.get("mask_function", masking_utils.causal_mask_function)))
        return made

    return mask
