"""The estimate beside a run of an endpoint: the same model on the hardware that its owner names, from the portal's own runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from llmcompare.runs.endpointpage import served_part
from llmcompare.runs.models import Run
from profiling.quantities import number, show, signed_percent

#: Column of a run → what an estimate and an endpoint say of it.
FIGURES = (
    ("ttft_s", "TTFT", "s"),
    ("tpot_s", "TPOT", "s"),
    ("e2e_s", "E2E", "s"),
    ("output_tokens_per_s", _("Output throughput"), "token/s"),
)


def estimate_beside(run: Run, user: Any, document: Mapping[str, Any]) -> dict[str, Any] | None:
    """``rows`` beside the newest estimate that the user sees, or ``launch``: the address of a form that asks for it, or ``missing``: the
    model or the hardware is not named, or ``uncounted``: nobody says how long the prompts were. None of other runs.

    The lengths are those of the answers that came, on average, as far as their tokens are counted: what was asked for is neither what ended
    early nor what a template adds."""
    if not run.of_endpoint or run.state != Run.State.DONE:
        return None
    if run.model is None or run.hardware is None:
        return {"missing": True}
    asked = {
        "batch_size": users_of(document),
        "input_tokens": _of_an_answer(document, "input") or run.input_tokens,
        "output_tokens": _of_an_answer(document, "output") or run.output_tokens,
    }
    if not asked["input_tokens"]:
        return {"uncounted": True}
    known = Run.objects.visible_to(user).filter(kind=Run.Kind.ESTIMATE, state=Run.State.DONE)
    same = known.filter(model=run.model, hardware=run.hardware, **asked)
    found = same.order_by("-finished", "-pk").first()
    form = reverse("runs:new")
    fields = {"kind": "estimate", "model": run.model.slug, "hardware": run.hardware.slug, **asked}
    launch = f"{form}?{urlencode(fields)}"
    if found is None:
        return {"launch": launch, "asked": asked, "model": run.model, "hardware": run.hardware}
    return {
        "run": found,
        "tags": found.option_tags,
        "compare": f"{reverse('runs:compare')}?{urlencode({'runs': f'{found.public_id},{run.public_id}'})}",
        "launch": launch,
        "asked": asked,
        "model": run.model,
        "hardware": run.hardware,
        "rows": [_row(found, run, *figure) for figure in FIGURES],
        "served": bool(served_part(document)),
    }


def _of_an_answer(document: Mapping[str, Any], name: str) -> int:
    """``input`` or ``output`` tokens of an answer on average; 0 where they are not counted of every answer."""
    total = number((document.get("tokens") or {}).get(name))
    served = number((document.get("load") or {}).get("served"))
    return max(1, round(total / served)) if total and served else 0


def users_of(document: Mapping[str, Any]) -> int:
    """Sequences that an estimate should have at once: users of a closed loop (of a sweep its best level); 1 of arrivals, whose number at
    once is the server's affair."""
    load = document.get("load") or {}
    users = number(load.get("concurrency")) if load.get("mode") == "closed" else 1
    return max(1, min(int(users or 1), int(number(load.get("requests")) or 1)))


def _row(estimate: Run, run: Run, name: str, title: str, unit: str) -> dict[str, str]:
    expected, seen = getattr(estimate, name), getattr(run, name)
    both = expected is not None and seen is not None and seen
    return {
        "title": str(title),
        "estimated": show(expected, unit),
        "seen": show(seen, unit),
        "error": signed_percent(100 * (expected - seen) / seen) if both else "–",
    }
