"""Placeholders in the shape and size of what is drawn later: ``static/app.css`` shows them with scripts only, ``static/skeleton.js`` ends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: What plotly takes where a figure does not say.
PLOTLY_HEIGHT = 450


def heights(figure: Mapping[str, Any]) -> tuple[float, float]:
    """Height of a plotly figure in CSS pixels: in a wide box, and in one below 800 px, where ``fitted`` of ``static/charts.js`` puts an
    upright legend under the figure. A browser test holds the two together."""
    layout, traces = figure["layout"], figure["data"]
    wide = layout.get("height") or PLOTLY_HEIGHT
    if (layout.get("legend") or {}).get("orientation") != "v":
        return wide, wide
    lines = sum(trace.get("showlegend") is not False for trace in traces)
    groups = len({trace.get("legendgroup") for trace in traces})
    return wide, wide + max(160, 21 * (lines + groups) - 60)


@register.simple_tag
def chart_skeleton(figure: Mapping[str, Any]) -> SafeString:
    """The box of a figure until it is drawn. As an attribute of SVG the height needs no style sheet and no script."""
    wide, narrow = heights(figure)
    if wide == narrow:
        return format_html('<svg class="skeleton skeleton-chart" height="{}" aria-hidden="true"></svg>', wide)
    return format_html(
        '<span class="skeleton skeleton-box" aria-hidden="true"><svg class="skeleton-chart skeleton-wide" height="{}"></svg>'
        '<svg class="skeleton-chart skeleton-narrow" height="{}"></svg></span>',
        wide,
        narrow,
    )
