"""Run documents as plotly figures: plain dictionaries that ``static/charts.js`` draws.

Colours are not in the figures: a trace names its meaning (``meta.tone`` = "compute", "memory", …) and the browser takes the colour from
the stylesheet, so that light, dark and print need one figure. Every figure is built through ``plotly.graph_objects``, which refuses
anything that plotly would not understand; it is imported inside the functions, because most pages have no chart.
The page loads plotly's basic bundle: traces are ``scatter`` and ``bar``, nothing else. Texts have no markup but ``<br>``: plotly turns
``<b>`` and ``<sup>`` into inline styles, which the content security policy refuses.
"""

from __future__ import annotations

from llmcompare.runs.charts.base import plain
from llmcompare.runs.charts.load import load_figure
from llmcompare.runs.charts.memory import measured_part, memory_figure, memory_parts, memory_timeline_figure
from llmcompare.runs.charts.resources import resource_figures
from llmcompare.runs.charts.roofline import point_label, points_of, roofline_figure, roofs_of
from llmcompare.runs.charts.samples import MAX_SAMPLE_POINTS, distribution_figure, samples_figure

__all__ = [
    "MAX_SAMPLE_POINTS",
    "distribution_figure",
    "load_figure",
    "measured_part",
    "memory_figure",
    "memory_parts",
    "memory_timeline_figure",
    "plain",
    "point_label",
    "points_of",
    "resource_figures",
    "roofline_figure",
    "roofs_of",
    "samples_figure",
]
