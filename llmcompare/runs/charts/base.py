"""What every figure is made with: texts that plotly takes as they are, axes, and the check by plotly itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from llmcompare.common.saying import Text
from profiling.quantities import show

Document = Mapping[str, Any]


def plain(text: Any, limit: int = 80) -> str:
    """A name without what plotly would read as markup ("<", "&") or as a template ("%{")."""
    cleaned = str(text).replace("<", "‹").replace(">", "›").replace("&", "+").replace("%{", "% {")
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def figure(traces: list[Any], **layout: Any) -> dict[str, Any]:
    import plotly.graph_objects as go

    return go.Figure(traces, layout=go.Layout(template=None, **layout)).to_plotly_json()


def at_seconds(digits: int) -> str:
    """Template of a card on a time axis: what stands in the text, and when."""
    # plotly's own placeholders look like Python's: they are put in, not translated.
    return (
        gettext("%(what)s at %(seconds)s s") % {"what": "%{hovertext}", "seconds": f"%{{x:.{digits}f}}"}
        + "<extra></extra>"
    )


def axis(title: Text, **more: Any) -> dict[str, Any]:
    return {"title": {"text": str(title)}, "automargin": True, **more}


def log_axis(title: Text, low: float, high: float, unit: str) -> dict[str, Any]:
    """Powers of ten, written by us: plotly would write 10¹⁵ with an inline style, which the content security policy refuses."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=[10.0**n for n in decades],
        ticktext=[show(10.0**n, unit) if unit else f"{10.0**n:,g}" for n in decades],
    )
