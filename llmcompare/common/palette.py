"""The colours of every chart: one for each meaning, in plotly, cytoscape and SVG alike, on light and on dark pages.

Families hold what may stand side by side in one chart. Within a family every two colours stay apart for people with normal sight,
protanopia and deuteranopia, and each has at least 4.5 : 1 against its page, so that words may be written in it and on it (WCAG 2.2,
1.4.3; graphics alone would need 3 : 1, 1.4.11). Colour never stands alone: shape, pattern or a word says the same.

``python -m llmcompare.common.palette > static/palette.css`` writes the stylesheet that pages read; a test fails while they differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

#: Family → meaning → (on light pages, on dark pages). A stylesheet knows them as ``--tone-<meaning>``.
FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    # What limits an operator or a stage.
    "bound": {
        "compute": ("#b8430a", "#f29545"),
        "memory": ("#2f66a5", "#84c3f7"),
        "overhead": ("#601ba2", "#b06fe0"),
        "network": ("#1c7e64", "#3fe0bd"),
        "other": ("#485063", "#8a929e"),
    },
    # What a module is in its model (llmcompare.runs.modelroles).
    "role": {
        "role-attention": ("#104581", "#84bcf8"),
        "role-mlp": ("#b64107", "#f58442"),
        "role-experts": ("#77713a", "#f3dc62"),
        "role-norm": ("#1f7e63", "#6fe6cf"),
        "role-embedding": ("#7434af", "#b276e5"),
        "role-head": ("#811040", "#eb6794"),
        "role-mixer": ("#14521d", "#8fcf7c"),
        "role-other": ("#5c6675", "#9aabb8"),
    },
    # What memory is used for: weights, cache, state, activations, a widened copy, the rest.
    "part": {
        "part-0": ("#1170c8", "#83bbf7"),
        "part-1": ("#097a72", "#6fe6cf"),
        "part-2": ("#76319d", "#ad75e3"),
        "part-3": ("#b8430a", "#f29545"),
        "part-4": ("#b72862", "#de5d74"),
        "part-5": ("#5b6e90", "#8d96a2"),
    },
    # Runs side by side; from the ninth on they repeat, with another shape.
    "series": {
        "series-0": ("#1e71c4", "#7cb8f5"),
        "series-1": ("#d42e13", "#f29545"),
        "series-2": ("#00615e", "#6fe6cf"),
        "series-3": ("#772897", "#ac73e2"),
        "series-4": ("#b31e65", "#e2618d"),
        "series-5": ("#627818", "#f3dc62"),
        "series-6": ("#56738d", "#9ba3af"),
        "series-7": ("#5a1020", "#e35a53"),
    },
    # Where a figure comes from. What was measured stands beside the kinds of memory as well.
    "origin": {"measured": ("#00523f", "#c5f6ac"), "estimated": ("#687181", "#8a94a3")},
}

#: What is drawn around the figures: roofs, what steps back, the heat of the layer graph. Not held apart from each other.
AROUND: dict[str, tuple[str, str]] = {
    "--tone-roof": ("#1b2230", "#e6e9ef"),
    "--tone-roof-other": ("#6f7988", "#8b95a3"),
    "--tone-muted": ("#737c8a", "#8b95a3"),
    "--on-tone": ("#ffffff", "#12151b"),
    "--heat-low": ("#eef3f9", "#2a3240"),
    "--heat-high": ("#f4a259", "#a35514"),
    "--graph-group": ("#f3f5f9", "#20252e"),
    "--graph-text": ("#1b2230", "#f0f3f7"),
    "--graph-edge": ("#7b8797", "#7d8999"),
}

#: What charts are drawn on: a card, and the page around it.
BACKGROUNDS: tuple[tuple[str, ...], tuple[str, ...]] = (("#ffffff", "#f6f7f9"), ("#1a1e26", "#12151b"))

#: Matrices on linear RGB that show normal sight what a dichromat sees: Machado, Oliveira & Fernandes, "A Physiologically-based Model
#: for Simulation of Color Vision Deficiency", IEEE TVCG 15 (6), 2009, table of severity 1.0.
VISION: dict[str, tuple[tuple[float, float, float], ...]] = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def series(index: int) -> str:
    """The meaning of the run at ``index`` among others (from 0), a key of the family ``series``."""
    return f"series-{index % len(FAMILIES['series'])}"


def linear(colour: str) -> tuple[float, float, float]:
    """ "#rrggbb" as linear RGB, 0–1 (IEC 61966-2-1)."""
    values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1–21 (WCAG 2.2, "contrast ratio" and "relative luminance")."""

    def luminance(colour: str) -> float:
        red, green, blue = linear(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def seen(colour: str, vision: str) -> tuple[float, float, float]:
    """The colour in CIELAB (D65) as somebody with ``vision``, a key of :data:`VISION`, sees it."""
    light = linear(colour)
    red, green, blue = (min(max(sum(m * v for m, v in zip(row, light, strict=True)), 0), 1) for row in VISION[vision])
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def difference(one: str, other: str, vision: str) -> float:
    """CIE 1976 ΔE of two colours under ``vision``; about 2.3 is just noticeable (Mahy et al. 1994)."""
    return math.dist(seen(one, vision), seen(other, vision))


def closest(colours: Sequence[str]) -> float:
    """The smallest difference between any two, under any vision."""
    return min(difference(a, b, vision) for a, b in combinations(colours, 2) for vision in VISION)


def stylesheet() -> str:
    """The palette as custom properties, light first."""
    lines = [
        "/* Written by python -m llmcompare.common.palette: edit that module, not this file. */",
        *_block(":root", 0),
        *_block('[data-bs-theme="dark"]', 1),
        # Paper is white, whatever the screen was.
        "@media print {",
        *_block('[data-bs-theme="dark"]', 0),
        "}",
        *(f".dot.tone-{meaning} {{ background: var(--tone-{meaning}); }}" for meaning in _meanings()),
        *(f".fill-{meaning} {{ fill: var(--tone-{meaning}); }}" for meaning in _meanings()),
    ]
    return "\n".join(lines) + "\n"


def _meanings() -> Iterator[str]:
    for family in FAMILIES.values():
        yield from family


def _block(selector: str, theme: int) -> Iterator[str]:
    yield f"{selector} {{"
    for family in FAMILIES.values():
        yield "  " + " ".join(f"--tone-{meaning}: {pair[theme]};" for meaning, pair in family.items())
    yield "  " + " ".join(f"{name}: {pair[theme]};" for name, pair in AROUND.items())
    yield "}"


if __name__ == "__main__":
    print(stylesheet(), end="")
