"""Names for groups of operators: the role that an operator has in the model, the same for every identical block."""

from __future__ import annotations

import re

from profiling.build import Built, block_index
from profiling.recording import Call

_NORM = re.compile(r"norm", re.IGNORECASE)
_ATTENTION = re.compile(r"^(self_attn|self_attention|attn|attention|SelfAttention)$")
_CROSS = re.compile(r"^(encoder_attn|crossattention|EncDecAttention|cross_attn)$")
_FEED_FORWARD = re.compile(r"^(mlp|ffn|feed_forward|block_sparse_moe|DenseReluDense)$")

#: Operators that deserve their own name where no leaf module stands for them.
_NAMED = {"sdpa": "sdpa", "grouped_mm": "grouped_mm", "selective_scan": "selective_scan", "bmm": "scores and values"}


def relative_path(built: Built, path: str) -> tuple[str | None, str]:
    """(path of the list of blocks, path inside the block), or (None, path) outside of blocks."""
    for fold in built.folds:
        index = block_index(fold, path)
        if index is not None:
            return fold.path, path[len(f"{fold.path}.{index}") :].lstrip(".")
    return None, path


class Roles:
    """Role of each call of a model: ``attention q_proj``, ``mlp down_proj``, ``sdpa``, ``norm``, ``lm_head``, ``residual add``."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._infos = {m.path: m for m in built.modules}
        self._two_stacks = len(built.folds) > 1
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, call: Call) -> str:
        base, kind = self._module(call.path)
        if kind == "leaf":
            return base
        name = _NAMED.get(call.name)
        if call.op_class in ("attention", "experts", "scan"):
            return f"{base} {name or call.name}".strip()
        if kind == "block" and call.name == "add" and not call.label:
            return f"{base} residual add".strip()
        if call.label == "update" and call.op_class == "copy":
            return f"{base} cache update".strip()
        label = call.label.strip("_") or name or call.name
        return f"{base or ('block' if kind == 'block' else 'model')} {label}"

    def _module(self, path: str) -> tuple[str, str]:
        if path not in self._known:
            self._known[path] = self._name(path)
        return self._known[path]

    def _name(self, path: str) -> tuple[str, str]:
        info = self._infos[path]
        stack, inner = relative_path(self._built, path)
        prefix = stack.split(".")[-2] + " " if stack and self._two_stacks and "." in stack else ""
        if info.leaf and _NORM.search(info.class_name):
            place = "" if stack else "final "
            return f"{prefix}{place}norm".strip(), "leaf"
        if stack and not inner:
            return prefix.strip(), "block"
        parts = [_word(p) for p in (inner if stack else path).split(".") if p and not p.isdigit()]
        if not stack:
            parts = parts[-1:]
        deduplicated = [p for i, p in enumerate(parts) if i == 0 or p != parts[i - 1]]
        words = " ".join(p for p in deduplicated if p not in ("self", "layer"))
        return f"{prefix}{words}".strip(), "leaf" if info.leaf else "container"


def _word(part: str) -> str:
    if _ATTENTION.match(part):
        return "attention"
    if _CROSS.match(part):
        return "cross attention"
    if _FEED_FORWARD.match(part):
        return "mlp"
    return part
