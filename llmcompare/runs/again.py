"""“Run again with …”: the form of a new run, filled in from this one with one thing changed. The few changes that people ask for most."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text
from llmcompare.runs.models import Run

_SHORTER_WEIGHTS = (("fp8", _("fp8 weights")), ("int4", _("int4 weights")))


def again_with(run: Run) -> list[dict[str, Any]]:
    """``title`` and ``href`` of each change that makes sense for this run."""
    if run.of_endpoint:
        return _of_endpoint(run)
    workload: dict[str, Any] = run.spec.get("workload") or {}
    changes: list[tuple[Text, dict[str, Any]]] = []
    if run.batch_size:
        changes.append(
            (gettext("batch %(batch_size)s") % {"batch_size": 2 * run.batch_size}, {"batch_size": 2 * run.batch_size})
        )
        if run.batch_size > 1:
            changes.append(
                (
                    gettext("batch %(batch_size)s") % {"batch_size": max(run.batch_size // 2, 1)},
                    {"batch_size": max(run.batch_size // 2, 1)},
                )
            )
    if run.input_tokens and not workload.get("prompt"):
        changes.append(
            (
                gettext("%(input_tokens)s input tokens") % {"input_tokens": 2 * run.input_tokens},
                {"input_tokens": 2 * run.input_tokens},
            )
        )
    if run.kind == Run.Kind.ESTIMATE and not run.replays:  # operators are replayed as transformers calls them
        changes += [
            (title, {"weights_dtype": name})
            for name, title in _SHORTER_WEIGHTS
            if workload.get("weights_dtype") != name and workload.get("dtype") != name
        ]
        if run.devices == 1:
            changes.append((gettext("two devices, tensor parallel"), {"tensor_parallel": 2}))
    elif run.kind == Run.Kind.MEASURE:
        changes.append((gettext("an estimate instead"), {"kind": Run.Kind.ESTIMATE.value}))
    return _links(run, changes)


def _of_endpoint(run: Run) -> list[dict[str, Any]]:
    load, changes = run.spec.get("load") or {}, list[tuple[Text, dict[str, Any]]]()
    users = load.get("concurrency") or 1
    if run.spec.get("sweep"):
        return []
    if load.get("mode") == "closed":
        text = gettext("%(users)s users") % {"users": 2 * users}
        changes.append((text, {"send": "closed", "load_concurrency": 2 * users}))
    changes.append((gettext("a sweep over users"), {"send": "sweep"}))
    return _links(run, changes)


def _links(run: Run, changes: list[tuple[Text, dict[str, Any]]]) -> list[dict[str, Any]]:
    form = reverse("runs:new")
    return [
        {"title": title, "href": f"{form}?{urlencode({'from': run.public_id, **change})}"} for title, change in changes
    ]
