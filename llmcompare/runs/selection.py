"""One selected thing on the whole page (``?at=``): a module, or a group of operators, and what of the other kind belongs to it.

Groups are named by the engine (``profiling/roles.py``): "attention q_proj", "mlp down_proj", "norm". Which modules they come from is told
from the names here, for highlighting only: no figure depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from llmcompare.runs.layertable import ModuleRow

#: Names of the modules that hold what attends and what feeds forward, in many architectures.
ATTENTION = re.compile(r"^(self_attn|self_attention|attn|attention|SelfAttention)$")
FEED_FORWARD = re.compile(r"^(mlp|ffn|feed_forward|block_sparse_moe|DenseReluDense)$")
_NORM = re.compile(r"norm|^ln_", re.IGNORECASE)
_OWN = " (own work)"


def words_of(path: str, class_name: str = "", *, leaf: bool = True) -> str:
    """The name that the operators of a module go by: "attention q_proj" for ``layers.0.self_attn.q_proj``, "" for a block."""
    parts = path.split(".")
    numbered = [at for at, part in enumerate(parts) if part.isdigit()]
    inner = parts[numbered[0] + 1 :] if numbered else parts[-1:]
    if leaf and _NORM.search(class_name):
        return "norm" if numbered else "final norm"
    words: list[str] = []
    for part in inner:
        word = "attention" if ATTENTION.match(part) else "mlp" if FEED_FORWARD.match(part) else part
        if not part.isdigit() and word not in ("self", "layer") and word not in words[-1:]:
            words.append(word)
    return " ".join(words)


def links(groups: Iterable[str], rows: Mapping[str, ModuleRow]) -> dict[str, list[str]]:
    """Group of operators (or measured point) → folded paths of the modules that it belongs to, in the order of the model."""
    named: dict[str, list[str]] = {}
    tails: dict[str, list[str]] = {}
    for path, row in rows.items():
        if not path:
            continue
        named.setdefault(words_of(path, str(row.raw.get("class") or ""), leaf=not row.children), []).append(path)
        parts = [part for part in path.split(".") if not part.isdigit()]
        tails.setdefault(".".join(parts[-2:]), []).append(path)
    return {group: _modules_of(group, named, tails) for group in dict.fromkeys(groups)}


def _modules_of(group: str, named: Mapping[str, list[str]], tails: Mapping[str, list[str]]) -> list[str]:
    plain = group.removesuffix(_OWN)
    if plain in tails and "." in plain:
        return tails[plain]
    if group in named:
        return named[group]
    # "attention sdpa": an operator of the module "attention" itself. The first word may name one of two stacks.
    words = group.split(" ")
    for end in range(len(words) - 1, 0, -1):
        if found := named.get(" ".join(words[:end])):
            return found
    rest = " ".join(words[1:])
    return named.get(rest, []) if rest else []
