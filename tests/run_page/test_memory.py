"""Measured memory on the run page: parts beside the estimate, what is unknown, the timeline as a table and against the capacity."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string

from llmcompare.runs import charts
from llmcompare.runs.memorytable import memory_by_part, timeline_rows
from llmcompare.runs.presentation import memory
from tests.run_page import documents

COLUMNS = ["phase", "part", "measured_bytes", "estimated_bytes", "error_pct", "note"]
ROWS = [
    ["prefill", "weights", 1000, 900, -10.0, None],
    ["prefill", "cache", 0, None, None, "no pass ran yet"],
    ["prefill", "other", None, None, None, "<b>unknown</b>"],
    ["decode", "weights", 1000, 1000, 0.0, None],
]
TIMELINE = [
    [5_000_000_000, "load", "rss", 100],
    [6_000_000_000, "load", "rss", 300],
    [7_000_000_000, "prefill", "rss", 200],
    [7_000_000_000, "prefill", "device_allocated", 50],
]


@pytest.fixture
def document() -> dict:
    made = documents.measured()
    made["memory"]["breakdown"] = {"columns": COLUMNS, "rows": ROWS}
    made["memory"]["timeline"] = {"columns": ["t_ns", "phase", "kind", "bytes"], "rows": TIMELINE}
    return made


def test_parts_stand_beside_their_estimate_and_unknown_stays_unknown(document):
    prefill, decode = memory_by_part(document)
    weights, cache, other = prefill["parts"]
    assert (weights["measured"], weights["estimated"], weights["error"]) == ("1\u202fkB", "900\u202fB", "−10.0\u202f%")
    assert (cache["measured"], cache["estimated"], cache["error"]) == ("0\u202fB", "–", "–")
    assert other["measured"] == "unknown"
    assert decode["parts"][0]["error"] == "0.0\u202f%"
    assert memory_by_part(documents.estimate()) == []


def test_the_timeline_has_its_table(document):
    load, prefill, device = timeline_rows(document)
    assert (load["begin"], load["end"], load["least"], load["most"]) == (
        "0\u202fs",
        "1\u202fs",
        "100\u202fB",
        "300\u202fB",
    )
    assert prefill["begin"] == "2\u202fs"
    assert (device["kind"], device["most"]) == ("device_allocated", "50\u202fB")
    assert timeline_rows(documents.estimate()) == []


def test_the_page_has_both_and_escapes_notes(document):
    html = render_to_string("runs/_memory.html", {"result": {"memory": memory(document)}})
    assert "Measured by part" in html
    assert "&lt;b&gt;unknown" in html
    assert "<b>unknown" not in html
    assert "As a table" in html


def test_the_capacity_is_drawn_where_it_is_near(document):
    document["memory"]["estimate"]["capacity_bytes"] = 400
    (line,) = charts.memory_timeline_figure(document)["layout"]["shapes"]
    assert (line["y0"], line["y1"]) == (400, 400)
    document["memory"]["estimate"]["capacity_bytes"] = 400 * 10**9
    assert "shapes" not in charts.memory_timeline_figure(document)["layout"]


def test_stages_that_were_not_looked_into_have_no_stack(document):
    """A stack without its activations would look like less than what was used."""
    assert charts.memory_figure(document)["layout"]["yaxis"]["categoryarray"] == ["Estimate"]
    document["memory"]["breakdown"] = documents.breakdown(document["memory"]["estimate"])
    bars = charts.memory_figure(document)["layout"]["yaxis"]["categoryarray"]
    assert bars == ["Estimate", "Measured (prefill)", "Measured (decode)"]


def test_a_cache_of_states_has_the_colour_of_states(document):
    document["memory"]["breakdown"] = documents.breakdown(document["memory"]["estimate"])
    document["memory"]["estimate"] |= {"kv_cache_bytes": 0, "state_bytes": 5_000_000}
    by_tone = {t["meta"]["tone"]: list(t["y"]) for t in charts.memory_figure(document)["data"]}
    assert by_tone["part-2"] == ["Estimate", "Measured (prefill)", "Measured (decode)"]
    assert "part-1" not in by_tone
    assert {
        part["tone"] for phase in memory_by_part(document) for part in phase["parts"] if part["part"] == "Cache"
    } == {"part-2"}
