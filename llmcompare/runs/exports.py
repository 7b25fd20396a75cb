"""Runs as files: CSV and JSON of one run, of a list, of a comparison.

Pages, the REST API and shared links use these same functions. Each takes the request only for ``?delimiter=`` and ``?decimal=``
and for who is asking; which runs may be exported is decided before, by the querysets.

- ``run_csv(request, run)``, ``run_json(request, run)``: one run; ``run_rows(exported)`` and ``run_object(run, viewer=)`` are the
  plain values behind them.
- ``runs_csv(request, queryset)``, ``runs_json(request, queryset)``: a filtered and sorted list, one line per run.
- ``comparison_csv(request, runs, baseline=None)``, ``comparison_json(...)``: runs side by side, in the order given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.text import slugify

from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.runs.exportrows import RUN_HEADER, run_rows, unit_of
from llmcompare.runs.models import Run
from llmcompare.runs.monitoring import monitoring_json
from llmcompare.runs.options import DEFAULTS, chosen
from llmcompare.runs.querysets import RunQuerySet

#: Columns of a list of runs. A contract: scripts read them by name, so they are only ever added to.
RUNS_HEADER = (
    "id",
    "name",
    "title",
    "kind",
    "state",
    "visibility",
    "owner",
    "team",
    "model",
    "hardware",
    "host",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "dtype",
    "created",
    "started",
    "finished",
    "duration_s",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "output_tokens_per_s",
    "memory_bytes",
    "fits",
    "bound",
    "ceilings",
    "attempt",
    "error_phase",
    "error",
    "spec_digest",
    "url",
    "options",
    "tags",
)

# --- one run ---------------------------------------------------------------------------------------------------------


def run_url(run: Run) -> str:
    try:
        return settings.PUBLIC_URL + reverse("runs:detail", args=[run.public_id])
    except NoReverseMatch:
        return f"{settings.PUBLIC_URL}/runs/{run.public_id}/"


def summary(run: Run) -> dict[str, Any]:
    """One line of a list: the values of :data:`RUNS_HEADER`, for somebody who is signed in and may see the run."""
    derived = {
        "id": run.public_id,
        "name": run.title or f"{run.model_name} on {run.hardware_name}",
        "owner": run.owner.username,
        "team": run.team.name if run.team else None,
        "model": run.model_name,
        "hardware": run.hardware_name,
        "host": run.host.name if run.host else None,
        "bound": run.bound or None,
        "ceilings": run.ceilings or None,
        # What nobody knows of an endpoint: empty columns of the row.
        "batch_size": run.batch_size or None,
        "input_tokens": run.input_tokens or None,
        "dtype": run.dtype or None,
        "duration_s": run.duration_s,
        "url": run_url(run),
        "options": chosen(run.spec.get("workload") or {}),
        "tags": [tag.name for tag in run.tags.all()],
    }
    # Not getattr for the derived ones: following a link would cost a query per line.
    return {name: derived[name] if name in derived else getattr(run, name) for name in RUNS_HEADER}


def run_object(run: Run) -> dict[str, Any]:
    """The run document unchanged, plus ``run``: who and what it is in this portal. Without a document only ``run``."""
    identity = summary(run) | {"notes": run.notes, "spec": shown_spec(run)}
    return {**document_of(run), "run": identity}


def shown_spec(run: Run) -> dict[str, Any]:
    """The frozen inputs without the folder of the weights: where files lie on the server is nobody's business outside it.

    ``spec_digest`` is the digest of the inputs with it.
    """
    against = run.spec.get("against")
    return _without_folder(run.spec) | ({"against": _without_folder(against)} if against else {})


#: Fields of a model that say where its files lie.
FOLDERS = ("weights_path", "weights_root")


def _without_folder(spec: dict[str, Any]) -> dict[str, Any]:
    model = spec.get("model") or {}
    return {**spec, "model": {name: value for name, value in model.items() if name not in FOLDERS}}


def document_of(run: Run) -> dict[str, Any]:
    """The stored run document, or an empty one while there is none."""
    document = getattr(run, "document", None)
    return document.data if document is not None else {}


def run_filename(run: Run, suffix: str) -> str:
    """ASCII, no quotes, no separators: made from slugs and the public id. Visitors get it too, so an endpoint is not named."""
    what = slugify(run.model_name if run.of_endpoint else f"{run.model_name} on {run.hardware_name}")[:80].strip("-")
    return f"{what or 'run'}-{run.public_id}.{suffix}"


def run_csv(request: HttpRequest, run: Run) -> StreamingHttpResponse:
    layout = CsvFormat.from_query(request.GET)
    return csv_response(run_filename(run, "csv"), RUN_HEADER, run_rows(_with_monitoring(run)), layout)


def run_json(request: HttpRequest, run: Run) -> HttpResponse:
    return json_response(run_filename(run, "json"), _with_monitoring(run))


def _with_monitoring(run: Run) -> dict[str, Any]:
    """:func:`run_object`, and of an endpoint of a cloud ``monitoring``: what the page's figures of it are drawn from."""
    found = monitoring_json(run)
    return run_object(run) | ({"monitoring": found} if found else {})


# --- a list ----------------------------------------------------------------------------------------------------------


def _summaries(runs: RunQuerySet) -> Iterator[dict[str, Any]]:
    for run in runs.select_related("owner", "team", "host").prefetch_related("tags").iterator(chunk_size=500):
        yield summary(run)


def runs_csv(request: HttpRequest, runs: RunQuerySet) -> StreamingHttpResponse:
    """Every run of the filtered list, not one page of it."""
    rows = ([line[name] for name in RUNS_HEADER] for line in _summaries(runs))
    return csv_response("runs.csv", RUNS_HEADER, rows, CsvFormat.from_query(request.GET))


def runs_json(request: HttpRequest, runs: RunQuerySet) -> StreamingHttpResponse:
    def chunks() -> Iterator[str]:
        yield '{"schema": "llmcompare-runs", "schema_version": "1.0", "runs": ['
        for number, line in enumerate(_summaries(runs)):
            yield (",\n" if number else "\n") + to_json(line)
        yield "\n]}\n"

    return StreamingHttpResponse(
        chunks(),
        content_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="runs.json"'},
    )


# --- a comparison ----------------------------------------------------------------------------------------------------

#: What a comparison says about each run before its figures.
COMPARED_FACTS = (
    "name",
    "kind",
    "state",
    "model",
    "hardware",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "dtype",
    "created",
    "memory_bytes",
    "fits",
    "bound",
)


def comparison_object(
    lines: Sequence[tuple[Mapping, Sequence]],
    *,
    baseline: str | None = None,
    layers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs side by side, in the order given.

    ``lines``: per run its summary (at least ``id``, ``options`` and :data:`COMPARED_FACTS`) and its ``RunMetric`` rows. ``baseline``:
    the id that differences refer to, the first run when None. A figure that a run does not have is null, and so is its difference.
    Options that some run sets have a row each, of section ``option``, with the defaults of the other runs.
    ``delta_pct`` = 100·(value − baseline)/baseline, for figures of the same origin, unit and definition only. ``layers``: of
    :func:`llmcompare.runs.rolediff.diff_json`; its roles and parts have a row each, of sections ``role`` and ``part``.
    """
    ids = [facts["id"] for facts, _ in lines]
    at = ids.index(baseline) if baseline in ids else 0
    rows = [
        {"section": "run", "key": name, "origin": "", "unit": unit_of(name), "values": [f.get(name) for f, _ in lines]}
        for name in COMPARED_FACTS
    ]
    rows += [
        {
            "section": "option",
            "key": name,
            "origin": "",
            "unit": "",
            "values": [(facts.get("options") or {}).get(name, getattr(DEFAULTS, name)) for facts, _ in lines],
        }
        for name in dict.fromkeys(name for facts, _ in lines for name in facts.get("options") or {})
    ]
    by_run = [{(m.key, m.origin, m.unit): m for m in metrics} for _, metrics in lines]
    for key, origin, unit in sorted({name for figures in by_run for name in figures}):
        found = [figures.get((key, origin, unit)) for figures in by_run]
        values, ids_of = [m and m.value for m in found], [m and m.definition for m in found]
        # As on the page: a newer definition counts otherwise.
        deltas = [
            _delta_pct(value, values[at]) if known == ids_of[at] else None
            for value, known in zip(values, ids_of, strict=True)
        ]
        rows.append(
            {"section": "metric", "key": key, "origin": origin, "unit": unit, "values": values, "delta_pct": deltas}
        )
        # What was predicted by replay never stands without its range.
        rows += [
            {
                "section": "metric",
                "key": f"{key}.{bound}",
                "origin": origin,
                "unit": unit,
                "values": [m.detail.get(bound) if m else None for m in found],
            }
            for bound in ("low", "high")
            if any(m and bound in m.detail for m in found)
        ]
    rows += _layer_rows(layers, at) if layers else []
    return {
        "schema": "llmcompare-comparison",
        "schema_version": "1.0",
        "runs": ids,
        "baseline": ids[at] if ids else None,
        "rows": rows,
        **({"layers": layers} if layers else {}),
    }


def _layer_rows(layers: Mapping[str, Any], at: int) -> list[dict[str, Any]]:
    """Own figures of roles and parts in one stage, as rows of a comparison: the key says stage, measure and what."""
    origin = layers["origins"][at]
    return [
        {
            "section": section,
            "key": f"{layers['stage']} {layers['measure']} {line['key']}",
            "origin": origin,
            "unit": layers["unit"],
            "values": list(line["values"]),
            "delta_pct": [_delta_pct(value, line["values"][at]) for value in line["values"]],
        }
        for section, lines in (("role", layers["roles"]), ("part", layers["parts"]))
        for line in lines
    ]


def _delta_pct(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else 100.0 * (value - base) / base


def comparison_lines(runs: Iterable[Run]) -> list[tuple[dict, list]]:
    return [(summary(run), list(run.metrics.all())) for run in runs]


def comparison_table(compared: Mapping[str, Any]) -> tuple[list[str], Iterator[list]]:
    """Header and rows of the CSV: one column per run, then one per run with its difference to the baseline."""
    ids = compared["runs"]
    header = ["section", "key", "origin", "unit", *ids, *(f"{name} vs {compared['baseline']} [%]" for name in ids)]
    unknown = [None] * len(ids)
    rows = (
        [row["section"], row["key"], row["origin"], row["unit"], *row["values"], *row.get("delta_pct", unknown)]
        for row in compared["rows"]
    )
    return header, rows


def comparison_csv(
    request: HttpRequest,
    runs: Iterable[Run],
    *,
    baseline: str | None = None,
    layers: Mapping[str, Any] | None = None,
) -> StreamingHttpResponse:
    layout = CsvFormat.from_query(request.GET)
    header, rows = comparison_table(comparison_object(comparison_lines(runs), baseline=baseline, layers=layers))
    return csv_response("comparison.csv", header, rows, layout)


def comparison_json(
    request: HttpRequest,
    runs: Iterable[Run],
    *,
    baseline: str | None = None,
    layers: Mapping[str, Any] | None = None,
    charts: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """``charts``: the numbers of the charts of the page at the same address."""
    compared = comparison_object(comparison_lines(runs), baseline=baseline, layers=layers)
    return json_response("comparison.json", compared | ({"charts": charts} if charts else {}))


# --- JSON ------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """Strict JSON: a number that is not finite becomes null, as in the page; times are RFC 3339."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def json_response(filename: str, value: Any) -> HttpResponse:
    return HttpResponse(
        to_json(value),
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )
