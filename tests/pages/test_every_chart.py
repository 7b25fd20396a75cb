"""Every chart of the portal is held against the JSON of its address by a test that names it."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

#: Chart (``data-chart``, ``data-graph``, or the class of what the server draws as SVG) → where a test holds its numbers against the JSON.
HELD_BY = {
    "roofline-figure": "tests/run_page/test_numbers.py",
    "network-graph": "tests/run_page/test_numbers.py",
    "memory-figure": "tests/run_page/test_numbers.py",
    "timeline-figure": "tests/run_page/test_other_numbers.py",
    "resources-": "tests/run_page/test_other_numbers.py",
    "samples-": "tests/run_page/test_numbers.py",
    "distribution-": "tests/run_page/test_numbers.py",
    "load-figure": "tests/run_page/test_other_numbers.py",
    "sweep-figure": "tests/runs/test_endpoint_runs.py",
    "monitoring-": "tests/runs/test_monitoring.py",
    "test_areas": "tests/run_page/test_numbers.py",
    "test_pairs": "tests/run_page/test_numbers.py",
    "bar-data": "tests/compare/test_charts.py",
    "scatter-data": "tests/compare/test_charts.py",
    "roofline-data": "tests/compare/test_charts.py",
    "compare-graph-": "tests/compare/test_counterparts.py",
    "layer-bar": "tests/compare/test_layers.py",
    "history-chart": "tests/history/test_pages.py",
    "spark": "tests/history/test_pages.py",
    "curve-data": "tests/explore/test_answers.py",
    "frontier-data": "tests/explore/test_answers.py",
    "heat": "tests/explore/test_answers.py",
    "roofs-figure": "tests/hardware/test_host_charts.py",
    "sizes-figure": "tests/hardware/test_host_charts.py",
}  # fmt: skip


def test_every_chart_of_a_template_is_named_here():
    drawn = set()
    for path in (settings.BASE_DIR / "templates").rglob("*.html"):
        drawn |= set(re.findall(r'data-chart="([\w-]+)', path.read_text()))
    assert drawn, "the templates have charts"
    unknown = {name for name in drawn if not any(name.startswith(known) for known in HELD_BY)}
    assert not unknown, f"Hold their numbers against the JSON of their address, and name the test here: {unknown}"


def test_every_chart_has_a_skeleton_of_its_own_size_until_it_is_drawn():
    for path in (settings.BASE_DIR / "templates").rglob("*.html"):
        text = path.read_text()
        drawn = re.findall(r'data-chart="([\w-]+)', text)
        held = re.findall(r'data-chart="([\w-]+)(?:(?!<div).)*?>\{% chart_skeleton [\w.]+ %\}</div>', text)
        assert drawn == held, path.name


@pytest.mark.parametrize(("chart", "place"), HELD_BY.items())
def test_its_test_is_there(chart, place):
    assert re.search(rf"\b{re.escape(chart)}", (settings.BASE_DIR / place).read_text()), (
        f"{place} does not name {chart}"
    )
