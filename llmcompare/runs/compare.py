"""Runs side by side: a pure function from runs and their documents to the rows that the comparison page shows.

A difference is given in per cent of the baseline. Whether it is an improvement follows from the metric's definition. Two numbers of
different origin (estimated, measured) or of estimates on different ceilings are never ranked: the difference is shown without a colour,
and the page says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, enumerated, said
from llmcompare.runs.division import division_of
from llmcompare.runs.extract import is_made, with_extracts
from llmcompare.runs.facts import text_of
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS
from llmcompare.runs.replaytable import ORIGIN as PREDICTED
from llmcompare.runs.replaytable import bounds
from llmcompare.runs.tiles import MAIN, OF_ENDPOINT, ORDER, UNTIMED, ceilings_level
from profiling.judgements import verdict_on, where
from profiling.quantities import number, show, signed_percent
from profiling.replay.section import METHOD as REPLAY
from profiling.replay.section import METRICS as OF_REPLAY
from profiling.units import DEFINITIONS
from profiling.verdicts import FASTER, SLOWER

MAX_RUNS = 20

#: Conditions that can make two runs incomparable: title, where it stands in the document (or the frozen spec), and whether a
#: difference deserves a warning. A different model or hardware is what people compare, so it does not.
CONDITIONS: tuple[tuple[Text, tuple[str, ...], bool], ...] = (
    (_("Kind"), ("kind",), False),
    (_("Model"), ("model", "name"), False),
    (_("Architecture"), ("model", "architecture"), False),
    (_("Parameters"), ("model", "parameters"), False),
    (_("Weights"), ("model", "weights"), False),
    (_("Weights note"), ("model", "weights_note"), False),
    (_("Hardware"), ("hardware", "name"), False),
    (_("Endpoint"), ("endpoint", "name"), False),
    (_("Model of the server"), ("endpoint", "model"), False),
    (_("Route"), ("endpoint", "api"), True),
    (_("Prompts begin differently"), ("endpoint", "unique_prompts"), True),
    (_("Load"), ("load", "mode"), True),
    (_("Users"), ("load", "concurrency"), True),
    (_("Requests per second"), ("load", "rate"), True),
    (_("Input lengths"), ("load", "input_lengths"), True),
    (_("Output lengths"), ("load", "output_lengths"), True),
    (_("TTFT objective"), ("load", "objectives", "ttft_s"), True),
    (_("TPOT objective"), ("load", "objectives", "tpot_s"), True),
    (_("End-to-end objective"), ("load", "objectives", "e2e_s"), True),
    (_("Batch size"), ("workload", "batch_size"), True),
    (_("Input tokens"), ("workload", "input_tokens"), True),
    (_("Output tokens"), ("workload", "output_tokens"), True),
    (_("Data type"), ("workload", "dtype"), True),
    (_("Attention"), ("workload", "attn_implementation"), True),
    (_("Logits"), ("conventions", "logits"), True),
    (_("Execution"), ("conventions", "execution"), True),
    (_("Ceilings"), ("conventions", "ceilings"), False),
    (_("Threads"), ("environment", "threads"), True),
    ("torch", ("producer", "torch"), True),
    ("transformers", ("producer", "transformers"), True),
    (_("Engine"), ("producer", "version"), True),
)


#: What stands beside a metric of models in one's own process when an endpoint is compared with them: the same question, asked from outside.
NEAREST = {
    "ttft": "endpoint_ttft",
    "tpot": "endpoint_tpot",
    "e2e_latency": "endpoint_e2e_latency",
    "output_throughput": "request_output_throughput",
}


def is_replayed(figure: Mapping[str, Any] | None) -> bool:
    """Whether it was predicted from operators that were timed alone."""
    return bool(figure) and figure.get("method") == REPLAY  # type: ignore[union-attr]


@dataclass(frozen=True)
class Column:
    """One run of the comparison. ``document`` is the extract of its document, empty while there is none, or while it is still to be made."""

    run: Run
    document: Mapping[str, Any]

    @property
    def label(self) -> str:
        return str(self.run)

    @property
    def pending(self) -> bool:
        """Whether the run has its results and its extract is still to be made."""
        return not self.document and self.run.state == Run.State.DONE

    @property
    def origin(self) -> str:
        """What the times of this run are: ``measured``, ``measured from outside`` (of an endpoint), or ``estimated`` on which ceilings."""
        if self.document.get("kind") == "measure":
            return "measured"
        if self.of_endpoint:
            return "measured from outside"
        level = ceilings_level(self.document)
        return f"estimated, {level} ceilings" if level else "estimated"

    def origin_of(self, figure: Mapping[str, Any] | None) -> str:
        """:attr:`origin` as far as this figure has it; "" without one. Of an endpoint, what stands on tokens counted here is an estimate; what
        replay predicts stands on no ceilings."""
        if is_replayed(figure):
            return PREDICTED
        if figure and self.of_endpoint and figure.get("origin") == "estimated":
            return "estimated"
        return self.origin if figure else ""

    @property
    def of_endpoint(self) -> bool:
        return self.document.get("kind") == "endpoint"

    def figure(self, key: str) -> Mapping[str, Any] | None:
        """The metric of this key; of an endpoint also the one that is nearest to it (:data:`NEAREST`)."""
        metrics = self.document.get("metrics") or {}
        return metrics.get(key) or (metrics.get(NEAREST[key]) if self.of_endpoint and key in NEAREST else None)

    @property
    def estimate_level(self) -> str:
        """The ceilings under the estimates of modules in this document, also of a measured one; "" where it has none."""
        return ceilings_level(self.document)

    def cautions_of(self, figure: Mapping[str, Any] | None) -> tuple[str, ...]:
        """:attr:`cautions` of a time of this run; "" where there is none."""
        if is_replayed(figure):
            busy = ((self.document.get("replay") or {}).get("conditions") or {}).get("contended")
            return (gettext("busy machine"),) if busy else ()
        return self.cautions if figure else ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What stands against taking this run's times as they are, in the few words that fit at each figure."""
        found = []
        if self.of_endpoint:
            found.append(gettext("with network and queue"))
        elif self.origin != "measured" and self.estimate_level == "datasheet":
            found.append(gettext("optimistic bound"))
        if (self.document.get("conditions") or {}).get("contended"):
            found.append(gettext("busy machine"))
        codes = {str(w.get("code")) for w in self.document.get("warnings") or [] if isinstance(w, Mapping)}
        if self.origin != "measured" and "ceilings_contended" in codes:
            found.append(gettext("ceilings of a busy machine"))
        return tuple(found)


def columns_of(runs: Sequence[Run], within: float | None = None) -> list[Column]:
    """One column for each run, from what comparisons read of its document (``llmcompare.runs.extract``). ``within``: seconds after which
    what is not made yet is left out (``Column.pending``); None waits for all."""
    return [Column(run, run.extract.data if is_made(run) else {}) for run in with_extracts(runs, within)]


def comparison(columns: Sequence[Column], *, baseline: int = 0, only_differences: bool = False) -> dict[str, Any]:
    """``metrics`` and ``conditions`` rows with one cell per column, ``notes`` to read before drawing conclusions.

    With ``only_differences`` conditions that are the same everywhere are left out (``hidden`` counts them); metrics never are.
    """
    conditions = [_condition_row(title, path, columns) for title, path, _ in CONDITIONS] + _option_rows(columns)
    conditions = [row for row in conditions if any(cell != "" for cell in row["cells"])]
    shown = [row for row in conditions if row["differs"] or not only_differences]
    return {
        "metrics": [_metric_row(key, columns, baseline) for key in _metric_keys(columns)],
        "conditions": shown,
        "hidden": len(conditions) - len(shown),
        "notes": notes(columns),
    }


def _metric_keys(columns: Sequence[Column]) -> list[str]:
    present = {key for column in columns for key in (column.document.get("metrics") or {})}
    # Beside a run that has the metric itself, that of an endpoint stands in the same row.
    present -= {near for key, near in NEAREST.items() if key in present and near != "request_output_throughput"}
    order = (*ORDER, *OF_ENDPOINT, *OF_REPLAY)
    return [k for k in order if k in present] + sorted(present - set(order))


def _metric_row(key: str, columns: Sequence[Column], baseline: int) -> dict[str, Any]:
    figures = [column.figure(key) for column in columns]
    # The row is called as its own metric is, not as the nearest one of an endpoint that stands first.
    own = [(column.document.get("metrics") or {}).get(key) for column in columns]
    first = next(figure for figure in (*own, *figures) if figure)
    definition = DEFINITIONS.get(str(first.get("definition")))
    return {
        "key": key,
        "title": said(definition.name if definition else key.replace("_", " ").capitalize()),
        "definition": said(definition.formula) if definition else "",
        "better": definition.better if definition else "",
        "main": key in MAIN,
        "cells": [
            _metric_cell(key, column, columns[baseline], definition.better if definition else "")
            | {
                "origin": column.origin_of(figure),
                "cautions": column.cautions_of(figure) if key not in UNTIMED else (),
                "range": " – ".join(bounds(figure)) if figure and is_replayed(figure) else "",
                "is_baseline": index == baseline,
            }
            for index, (column, figure) in enumerate(zip(columns, figures, strict=True))
        ],
    }


def _metric_cell(key: str, column: Column, baseline: Column, better: str) -> dict[str, Any]:
    """``tone`` is ``better``, ``worse`` or "" where nothing may be said; ``verdict`` and ``why`` (of measurements) say what and why."""
    figure, base = column.figure(key), baseline.figure(key)
    if figure is None:
        return {"text": "–", "raw": None, "delta": "", "tone": "", "verdict": "", "why": ""}
    unit = str(figure.get("unit", ""))
    value, reference = number(figure.get("value")), number((base or {}).get("value"))
    cell = {"text": show(figure.get("value"), unit), "raw": value, "delta": "", "tone": "", "verdict": "", "why": ""}
    if base is None or column is baseline or value is None or not reference:
        return cell
    near = column.of_endpoint != baseline.of_endpoint
    if (base.get("definition") != figure.get("definition") and not near) or base.get("unit") != unit:
        return cell
    change = 100.0 * (value - reference) / reference
    cell["delta"] = signed_percent(change)
    if column.origin != baseline.origin or not better or column.of_endpoint:
        return cell  # of an endpoint: one load says nothing of how far the next one may be from it
    if is_replayed(figure):
        return cell  # times of operators differ from one replay to the next, and nothing says here by how much
    if column.origin == "measured":
        return cell | _judged(key, column, baseline, change, better)
    # Estimates have no noise: all that the text, with its one decimal, shows as a difference is one.
    return cell | {"tone": _tone(change < 0, better) if abs(change) >= 0.05 else ""}


def _tone(lower: bool, better: str) -> str:
    return "better" if lower == (better == "lower") else "worse"


#: Figures that a measurement takes once: ranked beyond so many per cent.
TAKEN_ONCE, MEASURED_NOISE = ("peak_memory", "load_time"), 5.0


def _judged(key: str, column: Column, baseline: Column, change: float, better: str) -> dict[str, str]:
    """Tone, verdict and reasons of a measured figure; of one that iterations do not give, the tone alone."""
    verdict = verdict_on(key, baseline.document, column.document)
    if verdict is None:
        busy = any((side.document.get("conditions") or {}).get("contended") for side in (column, baseline))
        ranked = key in TAKEN_ONCE and abs(change) >= MEASURED_NOISE and not (busy and key == "load_time")
        return {"tone": _tone(change < 0, better) if ranked else ""}
    tone = {FASTER: "better", SLOWER: "worse"}.get(verdict.verdict, "")
    return {
        "tone": tone,
        "verdict": verdict.verdict,
        "why": " ".join(said(text) for text in (*verdict.reasons, where(verdict)) if text),
    }


def _condition_row(title: Text, path: tuple[str, ...], columns: Sequence[Column]) -> dict[str, Any]:
    values = [_lookup(column, path) for column in columns]
    return {
        "title": str(title),
        "cells": ["" if value is None else text_of(path[-1], value) for value in values],
        "differs": any(value != values[0] for value in values[1:]),
    }


def _option_rows(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The options that not every run leaves as they are by themselves, and that no other row shows: an absent value is the default."""
    others = {path[-1] for _, path, _ in CONDITIONS}
    workloads = [_lookup(column, ("workload",)) or {} for column in columns]
    rows = []
    for option in (o for o in OPTIONS if o.name not in others):
        # Whatever leaves the option as it is counts as its default, however it is written.
        values = [None if option.is_plain(w) else w[option.name] for w in workloads]
        if any(value is not None for value in values):
            shown = [option.says(option.default if value is None else value) for value in values]
            rows.append({"title": str(option.title), "cells": shown, "differs": len(set(map(repr, values))) > 1})
    return rows


def _lookup(column: Column, path: tuple[str, ...]) -> Any:
    value: Any = column.document or {"kind": column.run.kind, **column.run.spec}
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _within_a_sentence(title: Text) -> str:
    """In small letters, but for abbreviations."""
    text = str(title)
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def notes(columns: Sequence[Column], *, ranked: bool = True) -> list[str]:
    """What a reader has to know before comparing these columns; empty when nothing stands against it. ``ranked``: verdicts are shown."""
    found = []
    waiting = [column.label for column in columns if not column.document and not column.pending]
    if waiting:
        found.append(gettext("No results yet: %(runs)s.") % {"runs": enumerated(waiting)})
    pending = [column.label for column in columns if column.pending]
    if pending:
        found.append(
            gettext("Being prepared: %(runs)s. Load this page again in a few seconds.") % {"runs": enumerated(pending)}
        )
    origins = {column.origin for column in columns if column.document}
    if len(origins) > 1:
        found.append(
            gettext(
                "These numbers are of different origin (%(origins)s). An estimate on datasheet ceilings is an optimistic bound: "
                "differences between columns of different origin are shown without a verdict."
            )
            % {"origins": "; ".join(said(origin) for origin in sorted(origins))}
        )
    elif origins == {"estimated, datasheet ceilings"}:
        found.append(
            gettext("All of these are estimates on datasheet ceilings: optimistic bounds, not what a machine reaches.")
        )
    different = [
        _within_a_sentence(title)
        for title, path, matters in CONDITIONS
        if matters and len({repr(v) for v in (_lookup(c, path) for c in columns if c.document) if v is not None}) > 1
    ]
    different += [
        _within_a_sentence(row["title"]) for row in _option_rows([c for c in columns if c.document]) if row["differs"]
    ]
    if different:
        found.append(
            gettext("The conditions differ in %(conditions)s: part of each difference may come from that.")
            % {"conditions": enumerated(different)}
        )
    if redefined := _redefined(columns):
        found.append(
            gettext("These runs have different definitions of %(metrics)s: part of each difference comes from that.")
            % {"metrics": enumerated(redefined)}
        )
    divisions = [division_of(column.document) for column in columns]
    if any(division.shared for division in divisions):
        found.append(
            gettext(
                "Of runs as several processes on one machine memory is that of one process; times and throughput are not those of several devices."
            )
        )
    if any(division.devices > 1 for division in divisions):
        found.append(
            gettext(
                "Of runs on several devices memory and utilisation are those of one device, throughput is that of all together."
            )
        )
    if any("replay" in column.document for column in columns):
        found.append(
            gettext(
                "What replay predicts has rows of its own: it stands on the operators of the model, each timed alone on that run's host. It is no "
                "measurement, and it is not ranked."
            )
        )
    if any(column.of_endpoint for column in columns):
        found.append(
            gettext(
                "Figures of endpoints are seen from outside, with network, gateway and queue in them; they are not ranked: the next load of "
                "the same server may differ by as much. Beside other runs they stand in the row of the nearest figure."
            )
        )
    contended = [c.label for c in columns if (c.document.get("conditions") or {}).get("contended")]
    if contended:
        found.append(
            gettext("Measured while the machine was busy with something else: %(runs)s.")
            % {"runs": enumerated(contended)}
        )
    if ranked and sum(column.origin == "measured" for column in columns) > 1:
        found.append(
            gettext(
                "Measurements are ranked by the differences between their processes, not between iterations of one: a run of a single process "
                "differs from the next by several per cent without any reason, so it is not ranked."
            )
        )
    return found


def _redefined(columns: Sequence[Column]) -> list[str]:
    """Titles of metrics that not all runs were measured by one definition of: a newer version counts otherwise."""
    ids: dict[str, set[str]] = {}
    for column in columns:
        for key, figure in (column.document.get("metrics") or {}).items():
            ids.setdefault(key, set()).add(str((figure or {}).get("definition")))
    return [
        _within_a_sentence(said(DEFINITIONS[max(found)].name))
        for key, found in ids.items()
        if len(found) > 1 and found <= DEFINITIONS.keys()
    ]
