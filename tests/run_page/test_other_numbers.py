"""Charts of the run page that only some runs have: the numbers of the JSON at the same address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import factories
from tests.run_page.documents import breakdown
from tests.run_page.test_numbers import Page, rows_of
from tests.run_page.test_resources import COLUMNS, ROWS
from tests.runs.test_load import document as under_load

STORED = json.loads((Path(__file__).parents[1] / "data" / "documents" / "measure_smollm2.json").read_text())


def page_and_json(owner, client, **parts):
    run = factories.make_run(owner, document=STORED | parts, kind="measure")
    answer = client.get(f"/runs/{run.public_id}/")
    assert answer.status_code == 200
    return Page(answer.content.decode()), json.loads(client.get(f"/runs/{run.public_id}.json").content)


def test_timeline_figure_of_memory(owner, owner_client):
    page, document = page_and_json(owner, owner_client)
    table = document["memory"]["timeline"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    start = min(row["t_ns"] for row in rows)
    drawn = {t["name"]: (t["x"], t["y"]) for t in page.data["timeline-figure"]["data"]}
    assert set(drawn) == {row["kind"] for row in rows}
    for kind, (x, y) in drawn.items():
        own = [row for row in rows if row["kind"] == kind]
        assert x == pytest.approx([(row["t_ns"] - start) / 1e9 for row in own])
        assert y == [row["bytes"] for row in own]


def test_resources_of_every_quantity(owner, owner_client):
    section = {
        "interval_s": 0.25, "timeline": {"columns": COLUMNS, "rows": ROWS}, "energy": [],
        "cost": {"samples": 3, "cpu_s": 0.002, "cores": 0.0004}, "unavailable": [],
    }  # fmt: skip
    page, document = page_and_json(owner, owner_client, resources=section)
    table = document["resources"]["timeline"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    expected = {
        "resources-cores": {"this run": "process_cores", "everything else": "other_cores"},
        "resources-memory": {"this run (RSS)": "process_rss_bytes"},
    }
    assert {name for name in page.data if name.startswith("resources-")} == set(expected)
    for name, columns in expected.items():
        for trace in page.data[name]["data"]:
            values = [row[columns[trace["name"]]] for row in rows]
            assert trace["y"] == [value for value in values for _ in (0, 1)]
            assert trace["x"] == [at for row in rows for at in (row["t_s"], row["t_s"] + row["seconds"])]


def test_load_figure_has_every_request_that_was_served(owner, owner_client):
    sent = under_load()
    page, document = page_and_json(owner, owner_client, load=sent["load"], requests=sent["requests"])
    served = [row for row in rows_of(document, "requests") if row["end_ns"] is not None]
    names = ("end_ns", "first_token_ns", "started_ns")
    for trace, column in zip(page.data["load-figure"]["data"], names, strict=True):
        assert trace["x"] == pytest.approx([row["scheduled_ns"] / 1e9 for row in served])
        assert trace["y"] == pytest.approx([(row[column] - row["scheduled_ns"]) / 1e6 for row in served])


def test_the_measured_peak_of_memory_figure_is_the_metric(owner, owner_client):
    page, document = page_and_json(owner, owner_client)
    (peak,) = [t for t in page.data["memory-figure"]["data"] if t["name"] == "Measured peak"]
    assert peak["x"] == [document["metrics"]["peak_memory"]["value"]]


def test_the_measured_stacks_of_memory_figure_are_the_breakdown(owner, owner_client):
    memory = STORED["memory"] | {"breakdown": breakdown(STORED["memory"]["estimate"])}
    page, document = page_and_json(owner, owner_client, memory=memory)
    table, traces = document["memory"]["breakdown"], page.data["memory-figure"]["data"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    tones = {"weights": "part-0", "cache": "part-1", "activations": "part-3", "other": "part-5"}
    drawn = {
        (bar, trace["meta"]["tone"]): size
        for trace in traces
        for bar, size in zip(trace["y"], trace["x"], strict=True)
        if bar.startswith("Measured (")
    }
    assert drawn == {
        (f"Measured ({row['phase']})", tones[row["part"]]): row["measured_bytes"]
        for row in rows
        if row["phase"] in ("prefill", "decode") and row["measured_bytes"]
    }
    estimate = document["memory"]["estimate"]
    stated = {trace["meta"]["tone"]: trace["x"][0] for trace in traces if trace["y"][0] == "Estimate"}
    assert stated["part-0"] == estimate["weights_bytes"]
    assert stated["part-3"] == estimate["activation_peak_bytes"]
    without, _ = page_and_json(owner, owner_client)
    assert {bar for t in without.data["memory-figure"]["data"] for bar in t["y"]} == {"Estimate", "Measured peak"}
