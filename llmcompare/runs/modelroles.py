"""What a module is in its model: attention, MLP, norm … One small set of names for every architecture, told from path and class.

The run page colours areas and bars by it; comparisons of two models align by it. It names, it never counts: figures come from the document.
"""

from __future__ import annotations

import re
from functools import lru_cache

from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text

#: Role → words for people, in the order in which a token meets them.
ROLES: dict[str, Text] = {
    "embedding": _("Embedding"),
    "attention": _("Attention"),
    "mixer": _("State space, convolution"),
    "mlp": _("MLP"),
    "experts": _("Experts"),
    "norm": _("Norm"),
    "head": _("Output head"),
    "other": _("Other"),
}

#: The first pattern that a part of the path or the class matches names the role; the innermost part is asked first.
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (role, re.compile(pattern, re.IGNORECASE))
    for role, pattern in (
        ("norm", r"norm|^ln_?\w*$|^layer_?norm"),
        ("head", r"^(lm_head|head|score|classifier|embed_out|qa_outputs|cls|predictions|output_projection)$"),
        ("embedding", r"embed|^(wte|wpe|rotary|rotary_emb)$|rotary"),
        ("experts", r"expert|^router$|moe|^gate$|topk"),
        ("attention", r"attn|attention"),
        ("mixer", r"mamba|^(mixer|ssm|rwkv|conv|conv1d|linear_attn|recurrent|temporal_block)$|ssm|scan|rglru|shortconv"),
        ("mlp", r"^(mlp|ffn|ff|fc\d?|feed_forward|dense_h_to_4h|dense_4h_to_h|intermediate|densereludense)$|mlp|feedforward"),
    )
)  # fmt: skip


def role_of(path: str, class_name: str = "") -> str:
    """The role of the module at ``path`` (a key of :data:`ROLES`). What no name tells is ``other``.

    Its own name is asked first, then a class that says norm or embedding, then what it is inside of, and last what its class says.
    """
    names = tuple(part for part in path.partition("#")[0].split(".") if part and not part.isdigit())
    return _role(names or ("",), class_name)


@lru_cache(4096)
def _role(names: tuple[str, ...], class_name: str) -> str:
    *above, own = names
    found = _named(own) or _named(class_name, only=("norm", "embedding"))
    for name in (*reversed(above), class_name):
        found = found or _named(name)
    return found or "other"


def _named(name: str, only: tuple[str, ...] = tuple(ROLES)) -> str:
    return next((role for role, pattern in _PATTERNS if role in only and pattern.search(name)), "") if name else ""
