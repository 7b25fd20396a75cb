"""The page of a kept sweep shows the numbers of its JSON: its charts point by point, its tables with all digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmcompare.explore.models import SavedSweep
from tests.run_page.test_numbers import Page

KEPT = Path(__file__).resolve().parents[1] / "data" / "answers" / "explore_tiny.json"


@pytest.fixture
def shown(owner, owner_client):
    """(the page, the JSON beside it)."""
    sweep = SavedSweep.objects.create(owner=owner, name="Kept", query="", document=json.loads(KEPT.read_text()))
    page = owner_client.get(f"/explore/sweeps/{sweep.public_id}/")
    assert page.status_code == 200
    return Page(page.content.decode()), owner_client.get(f"/explore/sweeps/{sweep.public_id}.json").json()


def in_cells(page: Page) -> list[float]:
    return [float(a["value"]) for tag, a in page.elements if tag == "data" and a.get("value")]


def drawn(page: Page, name: str) -> list[tuple[float, float]]:
    """Points of a chart, of all lines, those that do not fit too."""
    found = []
    for trace in page.data[name]["data"]:
        found += [(x, y) for x, y in zip(trace.get("x") or (), trace.get("y") or (), strict=True) if y is not None]
    return sorted(found)


def test_figures_of_every_device_are_in_the_table_with_all_digits(shown):
    page, document = shown
    cells = in_cells(page)
    wanted = [m["value"] for item in document["series"] for m in item["metrics"].values() if m["value"] is not None]
    assert len(wanted) > 12
    assert set(wanted) <= set(cells)


def test_the_curve_is_drawn_and_written_point_by_point(shown):
    page, document = shown
    lines = document["curves"]["lines"]
    points = sorted((x, y) for line in lines for x, y in zip(line["x"], line["y"], strict=True) if y is not None)
    assert len(points) > 4
    assert sorted(set(drawn(page, "curve-data"))) == pytest.approx(points)
    cells = in_cells(page)
    assert {y for _x, y in points} <= set(cells)


def test_the_frontier_is_drawn_point_by_point(shown):
    page, document = shown
    points = sorted(
        {(p["interactivity"], p["device_throughput"]) for line in document["frontier"]["lines"] for p in line["points"]}
    )
    assert len(points) > 4
    assert sorted(set(drawn(page, "frontier-data"))) == pytest.approx(points)


def test_every_square_of_the_heat_map_is_in_its_table(shown):
    page, document = shown
    heat = document["heat_map"]
    wanted = [value for row in heat["values"] for value in row if value is not None]
    assert len(wanted) == len(heat["batch_size"]) * len(heat["lengths"])
    cells = in_cells(page)
    assert all(cells.count(value) >= wanted.count(value) for value in wanted)


def test_csv_has_the_rows_of_the_json(shown, owner_client):
    _, document = shown
    sweep = SavedSweep.objects.get()
    lines = owner_client.get(f"/explore/sweeps/{sweep.public_id}.csv").getvalue().decode("utf-8-sig").splitlines()
    assert lines[0].split(",") == document["header"]
    assert len(lines) == len(document["rows"]) + 1
    at = document["header"].index("ttft_s")
    written = [float(line.split(",")[at]) for line in lines[1:] if line.split(",")[at]]
    assert written == [row[at] for row in document["rows"] if row[at] is not None]
