"""Every chart of the run page shows the numbers of the JSON at the same address: read from the page as a browser gets it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import factories
from tests.run_page import documents

STORED = Path(__file__).parents[1] / "data" / "documents"


class Page(HTMLParser):
    """The page's data: JSON of its charts by id, and every element as (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.data: dict[str, object] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._id: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        self._id = found.get("id") if tag == "script" and found.get("type") == "application/json" else None

    def handle_data(self, data):
        if self._id:
            self.data[self._id] = json.loads(data)
            self._id = None

    def having(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if name in attrs]


@pytest.fixture(params=["made by hand", "measure_smollm2", "measure_h100", "estimate_llama3_70b_h100", "estimate_gpt2"])
def shown(request, owner, owner_client):
    """(fetch a view of a run, the JSON of the same address)."""
    name = request.param
    document = documents.measured() if name == "made by hand" else json.loads((STORED / f"{name}.json").read_text())
    run = factories.make_run(owner, document=document, kind=document["kind"])

    def view(query: str = "") -> Page:
        answer = owner_client.get(f"/runs/{run.public_id}/{query}")
        assert answer.status_code == 200
        return Page(answer.content.decode())

    return view, json.loads(owner_client.get(f"/runs/{run.public_id}.json").content)


def rows_of(document, table, stage=None):
    columns = document[table]["columns"]
    found = [dict(zip(columns, row, strict=True)) for row in document[table]["rows"]]
    return [row for row in found if stage in (None, row.get("stage"))]


def children_of(rows):
    inside: dict[str, list[dict]] = {}
    for row in rows:
        if row["parent"] is not None:
            inside.setdefault(row["parent"], []).append(row)
    return inside


def folded(rows):
    """Path → the module that stands for it: its own fold, inside of what its parent's fold is."""
    known: dict[str, str] = {}
    for row in rows:
        path, parent = row["path"], row["parent"]
        moved = known.get(parent, "") + path.removeprefix(parent) if parent else path
        first = row["fold"] if row["fold"] != path else moved
        known[path] = known.get(first, first)
    return known


def own_sums(document, stage, key):
    """Folded path → own figure, by plain arithmetic over the JSON's rows: a module less those directly inside it."""
    rows = rows_of(document, "modules", stage)
    inside, places = children_of(rows), folded(rows)
    sums: dict[str, float] = {}
    for row in rows:
        own = (row[key] or 0) - sum(child[key] or 0 for child in inside.get(row["path"], []))
        place = places[row["path"]]
        sums[place] = sums.get(place, 0) + own
    return sums


def marked(figure):
    for trace in figure["data"]:
        if (trace.get("meta") or {}).get("select"):
            yield from zip(trace["customdata"], trace["x"], trace["y"], strict=True)


def test_roofline_points_and_roofs(shown):
    view, document = shown
    figure = view().data["roofline-figure"]
    expected = sorted(
        (f"{p['stage']}|{p['label']}", p["intensity"], p["flops_per_s"]) for p in document["roofline"]["points"]
    )
    assert sorted((key[0], x, y) for key, x, y in marked(figure)) == expected
    lines = [t for t in figure["data"] if t["mode"] == "lines"]
    peaks = sorted(r["peak_flops"] for r in document["roofline"]["roofs"] if r["peak_flops"] and r["bandwidth"])
    drawn = sorted(max(line["y"]) for line in lines)
    assert drawn == pytest.approx(peaks)


def test_roofline_of_modules_holds_every_flop_once(shown):
    view, document = shown
    page = view("?per=module")
    found = list(marked(page.data["roofline-figure"]))
    for stage in document["stages"]:
        flops, moved, time = (own_sums(document, stage, key) for key in ("flops", "bytes", "estimate_s"))
        doing = {path for path, value in flops.items() if value > 1e-9 * max(flops.values())}
        drawn = {key[2]: (x, y) for key, x, y in found if key[0].startswith(f"{stage}|")}
        assert set(drawn) >= {path for path in doing if moved[path] > 0 and time[path] > 0}
        assert set(drawn) <= set(flops)
        measured = document["kind"] == "measure"
        for path, (x, y) in drawn.items():
            assert x == pytest.approx(flops[path] / moved[path], rel=1e-9)
            if not measured:  # with both, a path has two points; the last one drawn is the measured one
                assert y == pytest.approx(flops[path] / time[path], rel=1e-6)


def test_measured_points_of_modules_are_their_own_flops_over_their_own_time(shown):
    """Beside the estimated point of a module stands the one that was measured: the same work, over the time of its own without its parts."""
    view, document = shown
    drawn: dict[tuple[str, str], tuple[float, float]] = {}
    for trace in view("?per=module").data["roofline-figure"]["data"]:
        if not (trace.get("meta") or {}).get("select"):
            continue
        for key, x, y, card in zip(trace["customdata"], trace["x"], trace["y"], trace["hovertext"], strict=True):
            if "measured" in card.split("<br>")[4].rsplit("·", 1)[-1]:
                drawn[key[0].partition("|")[0], key[2]] = (x, y)
    expected: dict[tuple[str, str], tuple[float, float]] = {}
    for stage in document["stages"]:
        rows = rows_of(document, "modules", stage)
        flops, moved, places = (own_sums(document, stage, "flops"), own_sums(document, stage, "bytes"), folded(rows))
        times: dict[str, float] = {}
        for row in rows:
            times[places[row["path"]]] = times.get(places[row["path"]], 0) + (row["exclusive_s"] or 0)
        for path, time in times.items():
            if time and moved[path] > 0 and flops[path] > 1e-9 * max(flops.values()):
                expected[stage, path] = (flops[path] / moved[path], flops[path] / time)
    assert set(drawn) == set(expected)
    assert bool(drawn) == (document["kind"] == "measure")
    for key, point in drawn.items():
        assert point == pytest.approx(expected[key], rel=1e-6), key


def test_roofline_of_stages(shown):
    view, document = shown
    found = [(key[0], x, y) for key, x, y in marked(view("?per=stage").data["roofline-figure"])]
    for name, stage in document["stages"].items():
        expected = (f"{name}|{name}", stage["flops"] / stage["bytes"], stage["flops"] / stage["latency_s"])
        assert any(key == expected[0] and (x, y) == pytest.approx(expected[1:]) for key, x, y in found)
    measured = {"prefill": "prefill_time", "decode": "decode_time_per_step"}
    times = {s: document["metrics"].get(k, {}) for s, k in measured.items() if s in document["stages"]}
    known = [s for s, metric in times.items() if metric.get("origin") == "measured"]
    assert len(found) == len(document["stages"]) + len(known)


@pytest.mark.parametrize("drawn_as", ["treemap", "icicle"])
@pytest.mark.parametrize("measure", ["time", "measured", "flops", "bytes"])
def test_areas(shown, measure, drawn_as):
    view, document = shown
    key = {"time": "estimate_s", "measured": "inclusive_s", "flops": "flops", "bytes": "bytes"}[measure]
    for stage in document["stages"]:
        if not any(row[key] for row in rows_of(document, "modules", stage)):
            continue
        page = view(f"?stage={stage}&area={measure}&view={drawn_as}")
        rows = [a for tag, a in page.elements if tag == "tr" and "data-value" in a]
        found = {a["data-path"]: float(a["data-value"]) for a in rows}
        if measure == "measured":
            expected: dict[str, float] = {}
            places = folded(rows_of(document, "modules", stage))
            for row in rows_of(document, "modules", stage):
                place = places[row["path"]]
                expected[place] = expected.get(place, 0) + (row["exclusive_s"] or 0)
        else:
            expected = own_sums(document, stage, key)
        top = max(expected.values())
        assert found == pytest.approx({p: v for p, v in expected.items() if v > 1e-9 * top}, rel=1e-6)
        cells = [a for a in page.having("data-value") if a.get("class", "").startswith("cell")]
        assert cells
        for cell in cells:  # a cell is a module with what is inside, or its own work alone
            whole = sum(found[p] for p in found if p == cell["data-path"] or inside_of(p, cell["data-path"]))
            own = found.get(cell["data-path"], 0)
            value = float(cell["data-value"])
            assert value == pytest.approx(whole, rel=1e-6) or value == pytest.approx(own, rel=1e-6)


def inside_of(path: str, above: str) -> bool:
    return path.startswith(f"{above}.") if above else True


def test_areas_of_memory_are_the_documents_parts(shown):
    view, document = shown
    page = view("?area=memory")
    rows = [a for tag, a in page.elements if tag == "tr" and "data-value" in a]
    weights = sum(float(a["data-value"]) for a in rows if "data-path" in a)
    others = sorted(float(a["data-value"]) for a in rows if "data-path" not in a)
    estimate = document["memory"]["estimate"]
    beside = ("kv_cache_bytes", "state_bytes", "activation_peak_bytes", "widened_bytes")
    stated = sorted(estimate[key] for key in beside if estimate.get(key))
    if len(others) > len(stated):  # weights that modules do not add up to are one part
        assert sorted([*stated, estimate["weights_bytes"]]) == others
    else:
        assert others == stated
        assert weights == pytest.approx(estimate["weights_bytes"], rel=1e-3)


def test_the_layer_graph(shown):
    view, document = shown
    for stage, graph in document["graph"].items():
        drawn = view(f"?stage={stage}").data["network-graph"]
        nodes = {node["id"]: node for node in graph["nodes"]}
        for node in drawn["nodes"]:
            if node["path"] in nodes and not any(n["parent"] == node["path"] for n in graph["nodes"]):
                raw = nodes[node["path"]]
                times = repetitions(raw, nodes)
                known = raw["time_s"] is not None  # the tokens that come in and go out take no time that anybody knows
                assert node["value"] == (pytest.approx(raw["time_s"] * times) if known else None)
        assert {e["bytes"] for e in drawn["edges"]} <= sums_of_edges(graph)


def repetitions(node, nodes) -> int:
    times = 1
    while node is not None:
        times = max(times, node["repeat"])
        node = nodes.get(node["parent"])
    return times


def sums_of_edges(graph):
    """Bytes of single edges, and of all edges between the same two ends lifted to any modules that hold them."""
    parents = {node["id"]: node["parent"] for node in graph["nodes"]}

    def lifted(node):
        while node is not None:
            yield node
            node = parents.get(node)

    sums: dict[tuple, float] = {}
    for edge in graph["edges"]:
        for source in lifted(edge["source"]):
            for target in lifted(edge["target"]):
                sums[source, target, edge["kind"]] = sums.get((source, target, edge["kind"]), 0) + (edge["bytes"] or 0)
    return set(sums.values())


def test_graphs_side_by_side_have_one_scale(shown):
    view, _ = shown
    page = view("?beside=1")
    first, second = page.data["network-graph"], page.data["network-graph-1"]
    assert first["scale"] == second["scale"]
    widest = max(e["bytes"] or 0 for graph in (first, second) for e in graph["edges"] if e["kind"] != "repeat")
    assert first["scale"]["bytes"] == widest


def test_pairs_of_estimate_and_measurement(shown):
    view, document = shown
    for stage in document["stages"]:
        page = view(f"?stage={stage}")
        measured = [float(a["data-measured"]) for a in page.having("data-measured")]
        estimated = [float(a["data-estimated"]) for a in page.having("data-estimated")]
        if document["kind"] != "measure":
            assert measured == estimated == []
            continue
        rows = [r for r in rows_of(document, "modules", stage) if r["exclusive_s"] is not None]
        assert measured[-1] == pytest.approx(sum(r["exclusive_s"] for r in rows))
        assert sum(measured[:-1]) == pytest.approx(measured[-1])
        assert sum(estimated[:-1]) == pytest.approx(estimated[-1])
        places = folded(rows_of(document, "modules", stage))
        known = {places[r["path"]] for r in rows}
        expected = {p: max(v, 0) for p, v in own_sums(document, stage, "estimate_s").items() if p in known}
        assert estimated[-1] == pytest.approx(sum(expected.values()), rel=1e-6)


def test_samples_and_their_distribution(shown):
    view, document = shown
    page = view()
    if "samples" not in document:
        assert not [name for name in page.data if name.startswith(("samples-", "distribution-"))]
        return
    for phase in ("prefill", "decode"):
        mine = [r for r in rows_of(document, "samples") if r["phase"] == phase]
        drawn = sorted(y for t in page.data[f"samples-{phase}"]["data"] for y in t["y"])
        assert drawn == pytest.approx(sorted(r["wall_ns"] / 1e6 for r in mine))
        lines = page.data[f"distribution-{phase}"]["data"]
        processes = sorted({r.get("process") or 0 for r in mine})
        assert len(lines) == len(processes)
        for process, line in zip(processes, lines, strict=True):
            timed = sorted(r["wall_ns"] / 1e6 for r in mine if not r["warmup"] and (r.get("process") or 0) == process)
            assert line["x"] == pytest.approx(timed)
            assert line["y"] == pytest.approx([100 * (i + 1) / len(timed) for i in range(len(timed))])


def test_memory_bars(shown):
    view, document = shown
    figure = view().data["memory-figure"]
    drawn = {value for trace in figure["data"] for value in trace["x"]}
    estimate = document["memory"]["estimate"]
    for key in ("weights_bytes", "kv_cache_bytes", "activation_peak_bytes"):
        if estimate.get(key):
            assert estimate[key] in drawn


def test_tiles_and_stages(shown):
    view, document = shown
    page = view()
    raw = {float(a["value"]) for tag, a in page.elements if tag == "data" and a.get("value")}
    assert {m["value"] for m in document["metrics"].values() if m["value"] is not None} <= raw


def test_every_chart_on_the_page_is_covered_here(shown):
    """A chart that is added has to be held against the JSON as well."""
    view, _ = shown
    known = r"roofline-figure|network-graph(-\d)?|samples-\w+|distribution-\w+|memory-figure|timeline-figure|resources-\w+|run-links"
    elsewhere = (
        r"load-figure|memory-\w+-figure|trace-\w+|texts"  # held against their documents by the tests of their own parts
    )
    for name in view().data:
        assert re.fullmatch(f"{known}|{elsewhere}", name), name
