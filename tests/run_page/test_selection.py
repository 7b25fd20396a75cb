"""What belongs together on the page: groups of operators and modules, points above a roof, pairs, and the next run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from llmcompare.runs import layertable
from llmcompare.runs.again import again_with
from llmcompare.runs.charts import points
from llmcompare.runs.pairs import pairs
from llmcompare.runs.presentation import run_context
from llmcompare.runs.selection import links
from llmcompare.runs.viewoptions import read_options
from tests import factories
from tests.run_page import documents

ROOT = Path(__file__).resolve().parents[2]


def stored(name):
    return json.loads((ROOT / "tests" / "data" / "documents" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["estimate_gpt2", "estimate_llama3_70b_h100", "measure_smollm2"])
def test_every_point_of_a_real_run_leads_to_modules(name):
    document = stored(name)
    rows = layertable.fold(document["modules"], "prefill")
    groups = {str(p["label"]) for p in document["roofline"]["points"]}
    found = links(groups, rows)
    assert [group for group in groups if not found[group]] == []
    assert all(path in rows for paths in found.values() for path in paths)


def test_groups_lead_to_their_own_modules():
    rows = layertable.fold(stored("measure_smollm2")["modules"], "prefill")
    found = links(
        ["mlp down_proj", "attention sdpa", "norm", "final norm", "layers.self_attn (own work)", "gone"], rows
    )
    assert found["mlp down_proj"] == ["model.layers.0.mlp.down_proj"]
    assert found["attention sdpa"] == found["layers.self_attn (own work)"] == ["model.layers.0.self_attn"]
    assert found["norm"] == ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"]
    assert found["final norm"] == ["model.norm"]
    assert found["gone"] == []


def test_the_margin_above_a_roof_is_the_engines():
    """Read, not imported: the portal does not load what measures."""
    tree = ast.parse((ROOT / "profiling" / "merge.py").read_text())
    values = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert values["ROOF_MARGIN"] == points.ROOF_MARGIN


@pytest.mark.parametrize("per", ["operator", "module", "stage"])
def test_a_point_above_its_roof_is_suspicious_and_never_called_bound_by_anything(per):
    document = documents.estimate()
    document["roofline"]["roofs"][0] |= {"peak_flops": 1e9, "bandwidth": 1e6}
    for point in document["roofline"]["points"]:
        point["above_roof"] = True
    shown = run_context(document, {"per": per})["result"]["roofline"]
    assert shown["above"]
    for trace in shown["figure"]["data"]:
        if (trace.get("meta") or {}).get("select"):
            assert trace["name"] == "above the roof"
            assert trace["meta"]["tone"] == "other"
            assert all("suspicious" in text for text in trace["hovertext"])
    if per != "operator":
        assert all(row["above"] and not row["bound"] for row in shown["table"]["rows"])


def test_the_table_of_operators_does_not_colour_it_by_what_would_bind_it(owner, owner_client):
    document = documents.estimate()
    document["roofline"]["points"][0]["above_roof"] = True
    run = factories.make_run(owner, document=document)
    table = owner_client.get(f"/runs/{run.public_id}/").content.decode().partition('<section id="operators"')[2]
    rows = table.partition("</section>")[0].split("<tr")[2:]
    colours = [(re.findall(r'<rect class="fill-(\w+)"', row), "suspicious" in row) for row in rows]
    assert {said for _, said in colours} == {True, False}
    assert all((colour == ["other"]) is said for colour, said in colours)


def test_data_types_are_added_and_taken_away_one_by_one():
    document = documents.estimate()
    for name in ("fp16", "fp8"):
        document["roofline"]["roofs"].append(
            {"level": "datasheet", "dtype": name, "peak_flops": 2e15, "bandwidth": 1e12}
        )
    all_types = run_context(document, {})["result"]["roofline"]["format_links"]
    assert [link["href"] for link in all_types] == ["?", "?formats=bf16", "?formats=fp16", "?formats=fp8"]
    two = run_context(document, {"formats": "bf16,fp8,nonsense"})["result"]["roofline"]
    assert [link["title"] for link in two["format_links"] if link["current"]] == ["bf16", "fp8"]
    assert {link["title"]: link["href"] for link in two["format_links"]}["fp8"] == "?formats=bf16"
    lines = [trace for trace in two["figure"]["data"] if trace["mode"] == "lines"]
    assert len(lines) == 2


def test_pairs_have_both_sides_or_no_error():
    document = documents.measured()
    rows = layertable.fold(document["modules"], "prefill")
    found = pairs(document, rows, read_options({}, document))
    assert {row["name"]: row["error"] for row in found["rows"]}["lm_head"] == "−50.0\u202f%"
    assert found["total"]["measured_raw"] == pytest.approx(2 * found["total"]["estimated_raw"])
    assert (
        pairs(
            documents.estimate(),
            layertable.fold(documents.estimate()["modules"], "prefill"),
            read_options({}, document),
        )
        is None
    )


def test_findings_are_shown_with_their_gain_and_nothing_is_shown_without():
    document = documents.estimate()
    assert run_context(document, {})["result"]["findings"] == []
    document["findings"] = [
        {"title": "Use int4", "gain": "−45 % TPOT", "at": "layers.0.mlp"},
        {"text": "no title"},
        "text",
    ]
    (finding,) = run_context(document, {})["result"]["findings"]
    assert (finding["title"], finding["gain"], finding["href"]) == ("Use int4", "−45 % TPOT", "?at=layers.0.mlp")


def test_run_again_with_one_thing_changed_fills_the_form(owner, owner_client):
    run = factories.make_run(owner, document=documents.estimate())
    changes = {change["title"]: change["href"] for change in again_with(run)}
    doubled = changes[f"batch {2 * run.batch_size}"]
    form = owner_client.get(doubled).context["form"]
    assert int(form["batch_size"].value()) == 2 * run.batch_size
    assert form["dtype"].value() == run.dtype
    html = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert doubled.replace("&", "&amp;") in html


@pytest.mark.parametrize(
    "query",
    [
        "?at=" + "x" * 5000,
        "?at=%00",
        "?parts=%00,<script>",
        "?formats=,,",
        "?per=nothing&view=&area=x",
        "?open=*,*",
        "?beside=9",
    ],
)
def test_nonsense_in_the_address_is_ignored(owner, owner_client, query):
    run = factories.make_run(owner, document=documents.measured(), kind="measure")
    html = owner_client.get(f"/runs/{run.public_id}/{query}").content.decode()
    assert 'id="areas"' in html
    assert "<script>&" not in html
