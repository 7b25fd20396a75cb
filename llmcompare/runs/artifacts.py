"""Files of a measurement: what there is, and handing one out."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.utils.translation import gettext

from llmcompare.runs.models import Artifact, Run
from profiling.artifacts import CONTENT_TYPE, KINDS, file_name
from profiling.quantities import show


def artifacts_of(run: Run) -> list[dict[str, Any]]:
    """What the page and the API say of each file of a run, without reading the files."""
    return [
        {
            "kind": item.kind,
            "name": item.name,
            "title": item.get_kind_display(),
            "opens_with": item.opens_with,
            "text_bytes": item.text_bytes,
            "stored_bytes": item.stored_bytes,
            "size": show(item.stored_bytes, "B"),
            "sha256": item.sha256,
            "cut": item.cut,
        }
        for item in Artifact.objects.filter(run=run).defer("data")
    ]


def artifact_file(run: Run, name: str) -> HttpResponse:
    """The file of that name, compressed as it is stored: its size and digest are those that page and API name. 404 for any other."""
    kind = next((kind for kind in KINDS if file_name(kind) == name), None)
    data = Artifact.objects.filter(run=run, kind=kind).values_list("data", flat=True).first() if kind else None
    if data is None:
        raise Http404(gettext("The run has no such file."))
    return HttpResponse(
        bytes(data),
        content_type=CONTENT_TYPE,
        headers={
            "Content-Disposition": f'attachment; filename="run-{run.public_id}-{name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )
