"""Layer graphs as downloads, in every format of ``profiling.graph_exports``: for the run page and for shared links alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext

from llmcompare.runs.exports import run_filename
from llmcompare.runs.models import Run
from profiling.graph_exports import EXPORTERS


def graph_file(request: HttpRequest, run: Run, document: Mapping[str, Any], suffix: str) -> HttpResponse:
    """The graph in the format with this suffix: of ``?stage=``, or of every stage. 404 for what there is not.

    ``document``: what the asker may see of the run's document.
    """
    form = next((form for form in EXPORTERS.values() if form.suffix == suffix), None)
    graphs = document.get("graph")
    if form is None or not isinstance(graphs, Mapping) or not graphs:
        raise Http404(gettext("There is no such graph."))
    stage = request.GET.get("stage", "")
    if stage and stage not in graphs:
        raise Http404(gettext("This run has no such stage."))
    shown = {stage: graphs[stage]} if stage else graphs
    name = run_filename(run, f"{stage if stage in ('prefill', 'decode', 'encode') else 'graph'}.{suffix}")
    return HttpResponse(
        form.write(shown, f"{run.model_name} on {run.hardware_name}"),
        content_type=form.media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
