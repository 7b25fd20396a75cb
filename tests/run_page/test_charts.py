"""Figures: the document's numbers in the document's units, names without markup, points above the roof in the open."""

from __future__ import annotations

import json
import re

import pytest

from llmcompare.runs import charts
from tests.run_page import documents

HOSTILE = "<img src=x onerror=alert(1)>%{x}&lt;script&gt;"


def traces(figure, **meta):
    return [t for t in figure["data"] if all((t.get("meta") or {}).get(k) == v for k, v in meta.items())]


def test_every_operator_group_with_flops_is_a_point_with_the_documents_numbers():
    document = documents.estimate()
    figure = charts.roofline_figure([document])
    drawn = {
        key[0]: (x, y)
        for trace in traces(figure, select=True)
        for key, x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
    }
    assert drawn == {
        f"{p['stage']}|{p['label']}": (p["intensity"], p["flops_per_s"]) for p in document["roofline"]["points"]
    }
    assert figure["layout"]["xaxis"]["type"] == figure["layout"]["yaxis"]["type"] == "log"


def test_a_roof_rises_with_the_bandwidth_and_is_flat_from_its_ridge():
    (roof,) = traces(charts.roofline_figure([documents.estimate()]), tone="roof")
    assert 1000.0 in roof["x"]
    for x, y in zip(roof["x"], roof["y"], strict=True):
        assert y == min(1e15, 1e12 * x)


def test_points_above_their_roof_are_drawn_open_and_stay():
    document = documents.estimate()
    document["roofline"]["points"][0] |= {"above_roof": True, "flops_per_s": 9e15}
    figure = charts.roofline_figure([document])
    symbols = [s for t in traces(figure, select=True) for s in t["marker"]["symbol"]]
    assert sum(s.endswith("-open") for s in symbols) == 1
    assert len(symbols) == len(document["roofline"]["points"])
    assert any("above its roof" in text for t in traces(figure, select=True) for text in t["hovertext"])
    assert 10 ** figure["layout"]["yaxis"]["range"][1] > 9e15


def test_stages_levels_and_dtypes_can_be_chosen():
    document = documents.estimate()
    document["roofline"]["roofs"].append(
        {"name": "fp32", "level": "measured", "dtype": "fp32", "peak_flops": 1e14, "bandwidth": 8e11}
    )
    only = charts.roofline_figure([document], stages=["decode"], levels=["measured"])
    assert {key[0].split("|")[0] for t in traces(only, select=True) for key in t["customdata"]} == {"decode"}
    assert len(traces(only, tone="roof-other")) == 1
    assert traces(only, tone="roof") == []


def test_several_documents_have_a_symbol_and_a_colour_each_and_a_shared_roof_once():
    figure = charts.roofline_figure([documents.estimate(), documents.estimate()], ["one", "two"])
    runs = [t for t in figure["data"] if (t.get("meta") or {}).get("select")]
    assert [t["name"] for t in runs] == ["1. one, estimated", "2. two, estimated"]
    assert len({(t["marker"]["symbol"][0], t["meta"]["tone"]) for t in runs}) == 2
    assert len([t for t in figure["data"] if t["mode"] == "lines"]) == 1


def test_a_measured_run_among_others_shows_what_was_measured_and_its_estimate_paler():
    here = documents.measured()
    points = here["roofline"]["points"]
    points.append(points[0] | {"origin": "measured", "flops_per_s": points[0]["flops_per_s"] / 2})
    figure = charts.roofline_figure([here, documents.estimate()], ["here", "there"])
    runs = {t["name"]: t for t in figure["data"] if (t.get("meta") or {}).get("select")}
    assert set(runs) == {"1. here, estimated", "1. here, measured", "2. there, estimated"}
    assert runs["1. here, estimated"]["opacity"] < 1
    assert runs["1. here, measured"].get("opacity") is None
    assert {t["meta"]["tone"] for name, t in runs.items() if name.startswith("1.")} == {"series-0"}


def test_the_ridge_is_written_at_the_one_main_roof():
    document = documents.estimate()
    roof = document["roofline"]["roofs"][0]
    (note,) = charts.roofline_figure([document])["layout"]["annotations"]
    assert 10 ** note["x"] == pytest.approx(roof["peak_flops"] / roof["bandwidth"])
    assert 10 ** note["y"] == pytest.approx(roof["peak_flops"])
    document["workload"]["dtype"] = "fp8"  # no roof for it: nothing to name
    assert charts.roofline_figure([document])["layout"].get("annotations", []) in ([], ())


def test_roofs_with_unknown_figures_are_left_out():
    document = documents.estimate()
    document["roofline"]["roofs"].append(
        {"name": "fp8", "level": "datasheet", "dtype": "fp8", "peak_flops": None, "bandwidth": 1e12}
    )
    assert len(charts.roofs_of(document)) == 1


def every_figure(document):
    yield charts.roofline_figure([document])
    yield charts.memory_figure(document)
    yield charts.samples_figure(document, "prefill")
    yield charts.samples_figure(document, "decode")
    document["memory"]["timeline"] = {"columns": ["t_ns", "phase", "kind", "bytes"], "rows": [[0, HOSTILE, HOSTILE, 1]]}
    yield charts.memory_timeline_figure(document)


def strings(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_hostile_names_reach_no_figure_as_markup_or_template():
    document = documents.measured()
    document["model"]["name"] = document["hardware"]["name"] = HOSTILE
    for point in document["roofline"]["points"]:
        point["label"] = point["bound"] = point["origin"] = HOSTILE
    document["roofline"]["roofs"][0]["name"] = HOSTILE
    for figure in every_figure(document):
        for trace in figure["data"]:
            trace.pop("customdata", None)  # a key, never drawn
        for text in strings(figure):
            assert not re.search(r"<(?!br>|extra></extra>|/extra>)", text), text
            assert "%{x}&" not in text


def test_figures_use_only_what_the_basic_bundle_draws_and_no_styled_markup():
    """plotly's basic bundle has scatter and bar; bold and superscript would become inline styles."""
    for figure in every_figure(documents.measured()):
        assert {t["type"] for t in figure["data"]} <= {"scatter", "bar"}
        assert not re.search(r"<(b|i|sup|sub|span|a)[ >]", json.dumps(figure))
        for name, axis in figure["layout"].items():
            if re.match("[xy]axis", name) and axis.get("type") == "log":
                assert axis["ticktext"], "plotly would write powers with superscripts"


def test_memory_bars_are_the_documents_parts_and_the_capacity_is_drawn():
    figure = charts.memory_figure(documents.estimate())
    assert {t["name"]: t["x"] for t in figure["data"]} == {
        "Weights": [12e9], "KV cache": [3e9], "Activations (peak)": [1e9],
    }  # fmt: skip
    assert figure["layout"]["shapes"][0]["x0"] == 80e9


def test_samples_are_raw_and_warm_up_is_apart():
    figure = charts.samples_figure(documents.measured(iterations=3, steps=4), "decode")
    timed, warm = figure["data"]
    assert (timed["name"], len(timed["x"])) == ("timed", 8)
    assert (warm["name"], len(warm["x"]), warm["marker"]["symbol"]) == ("warm-up", 4, "circle-open")
    assert timed["y"][:2] == [pytest.approx(5.0), pytest.approx(5.000001)]
    assert timed["x"] == [1, 2, 3, 4] * 2


def test_too_many_samples_are_thinned_and_the_chart_says_so():
    figure = charts.samples_figure(documents.measured(iterations=101, steps=100), "decode")
    assert sum(len(t["x"]) for t in figure["data"]) <= charts.MAX_SAMPLE_POINTS
    assert "every 3th" in figure["layout"]["xaxis"]["title"]["text"]


def test_no_samples_no_figure():
    assert charts.samples_figure(documents.estimate(), "prefill") is None
    assert charts.memory_timeline_figure(documents.estimate()) is None
