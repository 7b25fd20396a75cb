"""From document to page: the numbers shown are the document's, unknown is said, and nothing private is in a shared page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmcompare.runs.presentation import run_context
from tests.run_page import documents

STORED = sorted((Path(__file__).parents[1] / "data" / "documents").glob("*.json"))


def result(document, **params):
    return run_context(document, params)["result"]


def tile(document, key):
    return next(t for t in result(document)["tiles"] if t["key"] == key)


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_tiles_show_the_documents_numbers_with_unit_origin_and_definition():
    shown = tile(documents.estimate(), "ttft")
    assert (plain(shown["value"]), shown["raw"], shown["origin"]) == ("12.3 ms", 0.0123, "estimated")
    assert shown["origin_note"] == "datasheet"
    assert "first output token" in shown["definition"]


def test_an_unknown_metric_says_so_and_an_absent_one_has_no_tile():
    document = documents.estimate()
    assert tile(document, "mfu_prefill")["value"] == "unknown"
    assert "encode_time" not in [t["key"] for t in result(document)["tiles"]]


def test_a_measured_tile_shows_its_spread_and_the_error_of_the_estimate():
    shown = tile(documents.measured(), "ttft")
    assert dict(shown["spread"])["n"] == "5"
    assert plain(dict(shown["spread"])["95 % interval"]) == "18.5 ms – 21.9 ms"
    (estimate,) = shown["estimates"]
    assert (plain(estimate["value"]), plain(estimate["error"]), estimate["level"]) == ("12.3 ms", "−38.5 %", "measured")


def test_too_few_samples_give_no_interval():
    document = documents.measured()
    document["metrics"]["ttft"] |= {"n": 3, "ci95": None}
    assert dict(tile(document, "ttft")["spread"])["95 % interval"] == "too few samples"


def test_memory_that_does_not_fit_says_by_how_much():
    document = documents.estimate()
    document["memory"]["estimate"] |= {"fits": False, "shortfall_bytes": 61_400_000_000}
    assert plain(tile(document, "peak_memory")["memory"]["words"]) == "does not fit: 61.4 GB short"
    document["memory"]["estimate"] |= {"fits": None, "capacity_bytes": None, "shortfall_bytes": None}
    document["hardware"]["memory_bytes"] = None
    memory = tile(document, "peak_memory")["memory"]
    assert (memory["capacity"], memory["percent"], memory["words"]) == ("unknown", None, "fit unknown")


def test_random_and_dequantised_weights_are_announced():
    document = documents.measured()
    assert result(document)["notices"][0]["title"] == "Random weights"
    document["model"] |= {"weights": "local", "weights_note": "dequantised from Q4_1"}
    assert [n["text"] for n in result(document)["notices"]] == ["Dequantised from Q4_1"]


def test_points_above_the_roof_are_listed():
    document = documents.estimate()
    document["roofline"]["points"][0]["above_roof"] = True
    label = document["roofline"]["points"][0]["label"]
    assert [p["label"] for p in result(document)["roofline"]["above"]] == [label]
    assert sum(r["above"] for r in result(document)["operators"]["rows"]) == 1


def test_time_by_bound_fills_the_whole_bar():
    for stage in result(documents.estimate())["stage_tiles"]:
        assert sum(float(part["width"]) for part in stage["split"]) == pytest.approx(100, abs=0.05)


def test_the_prompt_and_texts_are_absent_when_not_shared():
    document = documents.measured()
    document["workload"]["prompt"] = "a secret question"
    shown = json.dumps(run_context(document, {}, shared=True, include_text=False)["result"], default=str)
    for secret in ("secret", "Paris", "capital of France", "OMP_NUM_THREADS", "ef" * 32):
        assert secret not in shown
    assert "Paris" in json.dumps(run_context(document, {}, shared=True, include_text=True)["result"], default=str)


def test_parameters_that_make_no_sense_fall_back():
    document = documents.estimate()
    context = run_context(
        document, {"stage": "x", "by": "y", "sort": "z", "roofs": "q", "points": "w", "open": "no.such.module"}
    )
    options = context["options"]
    assert (options.stage, options.by, options.sort, options.roofs, options.points) == (
        "prefill",
        "time",
        "",
        "all",
        "",
    )
    assert context["result"]["network"]["rows"]


def test_links_keep_the_rest_of_the_view():
    document = documents.estimate()
    options = run_context(document, {"stage": "decode", "by": "flops", "open": ".,layers"})["options"]
    assert options.link(sort="bytes") == "?stage=decode&by=flops&open=.,layers&sort=bytes"
    assert options.link(stage="prefill", by="time", open_ids=None) == "?"


def test_a_run_without_document_has_no_result():
    assert run_context({}, {})["result"] is None


@pytest.mark.parametrize(
    "missing", ["operators", "modules", "graph", "memory", "roofline", "stages", "metrics", "hardware"]
)
def test_partial_documents_of_failed_runs_are_shown_as_far_as_they_go(missing):
    document = documents.measured()
    del document[missing]
    assert result(document)["facts"]


@pytest.mark.parametrize("path", STORED, ids=lambda p: p.stem)
def test_real_documents_are_presented_whole(path):
    document = json.loads(path.read_text())
    shown = result(document)
    assert {t["key"] for t in shown["tiles"]} == set(document["metrics"])
    for t in shown["tiles"]:
        assert t["raw"] == document["metrics"][t["key"]]["value"]
        assert not t["definition"].startswith("This version")
    assert len(shown["operators"]["rows"]) == len(document["operators"]["rows"])
    assert len(shown["network"]["rows"]) < 300
    assert len(shown["network"]["graph"]["nodes"]) <= 40


def test_processes_stand_side_by_side_where_there_are_several():
    document = documents.measured()
    assert run_context(document, {})["result"]["processes"] is None
    document["metrics"]["ttft"] |= {"processes": [0.020, 0.022], "ci95": None}
    quiet = {"contended": False, "steady": True}
    document["processes"] = [
        {"process": 0, "iterations": 3, "load_time_s": 1.5, "complete": True, "conditions": quiet},
        {"process": 1, "iterations": 2, "load_time_s": None, "complete": False, "conditions": None},
    ]
    result = run_context(document, {})["result"]
    table = result["processes"]
    assert [title for title, _ in table["columns"]] == ["TTFT"]
    assert [(row["iterations"], row["medians"], row["state"]) for row in table["rows"]] == [
        ("3", ["20\u202fms"], "steady"),
        ("2", ["22\u202fms"], "ended early"),
    ]
