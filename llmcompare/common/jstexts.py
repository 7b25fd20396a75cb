"""What the scripts of ``static/`` say. They have no words of their own: a page carries these in its language, as JSON.

A script asks ``lcText("copied")``, with values ``lcText("tick-many", {count: 3})`` for ``{count}`` in the text. A test compares the keys
that the scripts ask for with the ones here.
"""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

TEXTS = {
    # app.js
    "copied": _("Copied"),
    "tick-none": _("Tick runs to compare (2 to 20), tag, export, cancel or delete them."),
    "tick-one": _("1 run ticked; tick one more to compare."),
    "tick-many": _("{count} runs ticked."),
    "tick-too-many": _("{count} runs ticked; 20 can be compared."),
    # graph.js
    "close": _("Close"),
    "module-open": _("Open this module"),
    "module-close": _("Close this module"),
    # charts.js: buttons and hints of plotly
    "plot-png": _("Download the plot as a picture"),
    "plot-zoom": _("Zoom"),
    "plot-pan": _("Pan"),
    "plot-in": _("Zoom in"),
    "plot-out": _("Zoom out"),
    "plot-reset": _("Reset the axes"),
    "plot-back": _("Double-click to zoom back out"),
    "plot-legend-toggle": _("Double-click in the legend to show one line alone"),
    # skeleton.js
    "load-failed": _("This could not be loaded. Check the connection and try again."),
    "load-failed-old": _("The answer could not be loaded. Below are the figures of the question before; try again."),
    "poll-failed": _("The server does not answer. This page goes on asking by itself."),
    "draw-failed": _("This could not be drawn. Its numbers are in the tables; load the page again to try once more."),
    # new_run.js
    "formats-none": _(
        "No rate of this hardware is known for any of these formats: memory can be estimated, time cannot."
    ),
    "format-unknown": _("No {format} rate is known for this hardware. Known: {known}."),
}


def texts() -> dict[str, str]:
    """Key → text in the language that is active."""
    return {key: str(text) for key, text in TEXTS.items()}
