"""Files of runs: complete, faithful, with columns that scripts can rely on."""

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.utils import timezone

from llmcompare.runs import exports
from llmcompare.runs.models import Run, RunMetric
from profiling.graph_exports import EXPORTERS
from tests.factories import make_run
from tests.run_page.documents import measured

DOCUMENT = {
    "schema": "llmcompare-run",
    "schema_version": "1.0",
    "kind": "estimate",
    "producer": {"name": "llmcompare", "version": "0.1.0"},
    "model": {"name": "=cmd()", "parameters": 123, "weight_bytes": 246},
    "hardware": {"name": "Device", "peak_flops": {"bf16": 4e14, "fp8": None}},
    "workload": {"batch_size": 1, "prompt": None},
    "metrics": {
        "ttft": {"value": 0.0125, "unit": "s", "origin": "estimated", "definition": "ttft/1"},
        "mfu_prefill": {"value": None, "unit": "1", "origin": "estimated", "definition": "mfu/1"},
    },
    "stages": {"prefill": {"flops": 10**15, "latency_s": 0.0125, "time_by_bound": {"compute": 0.01}}},
    "operators": {
        "columns": ["stage", "group", "operator", "flops", "time_s", "bound"],
        "rows": [["prefill", "attention q_proj", "aten.mm", 7, 0.5, "compute"]],
    },
    "modules": {
        "columns": ["stage", "path", "name", "flops", "inclusive_s"],
        "rows": [["prefill", "", "root", 7, None], ["prefill", "layers.0", "layers.0", 5, 0.25]],
    },
    "graph": {
        stage: {
            "nodes": [
                {"id": "layers.0", "parent": None, "label": "0", "class": "=cmd()", "kind": "module", "repeat": 4}
            ],
            "edges": [],
        }
        for stage in ("prefill", "decode")
    },
    "memory": {
        "kv_cache_bytes_per_token": 1024,
        "estimate": {"weights_bytes": 246, "fits": True, "shortfall_bytes": 0},
        "phases": [{"phase": "load", "rss_bytes": 1, "rss_delta_bytes": -5}],
    },
    "unknown_operators": [],
    "warnings": [{"code": "note", "message": "+ a remark"}],
}


def get(**query):
    return RequestFactory().get("/", query)


def read_csv(response, delimiter=","):
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def figure(rows, section, metric, **where):
    found = [
        r
        for r in rows
        if r["section"] == section and r["metric"] == metric and all(r[k] == v for k, v in where.items())
    ]
    assert len(found) == 1, (section, metric, found)
    return found[0]


@pytest.fixture
def run(owner):
    started = timezone.now()
    return make_run(owner, document=DOCUMENT, started=started, finished=started + timedelta(seconds=3), notes="why")


def test_run_csv_has_every_part_with_units_and_definitions(run):
    rows = read_csv(exports.run_csv(get(), run))
    assert figure(rows, "run", "id")["value"] == run.public_id
    assert figure(rows, "run", "owner")["value"] == "owner"
    ttft = figure(rows, "metric", "ttft")
    assert (ttft["value"], ttft["unit"], ttft["origin"], ttft["definition"]) == ("0.0125", "s", "estimated", "ttft/1")
    assert figure(rows, "metric", "mfu_prefill")["value"] == ""
    assert figure(rows, "stage", "latency_s", stage="prefill")["unit"] == "s"
    assert figure(rows, "stage", "compute", path="time_by_bound")["value"] == "0.01"
    operator = figure(rows, "operator", "flops", path="attention q_proj / aten.mm", stage="prefill")
    assert (operator["value"], operator["unit"], operator["origin"]) == ("7", "FLOP", "estimated")
    module = figure(rows, "module", "inclusive_s", path="layers.0")
    assert (module["value"], module["origin"]) == ("0.25", "measured")
    assert figure(rows, "memory", "weights_bytes")["value"] == "246"
    assert figure(rows, "memory", "kv_cache_bytes_per_token")["unit"] == "B/token"


def test_every_cell_of_the_documents_tables_is_in_the_csv(run):
    rows = read_csv(exports.run_csv(get(), run))
    assert len([r for r in rows if r["section"] == "operator"]) == 3
    assert len([r for r in rows if r["section"] == "module"]) == 2 * 3


def test_run_csv_has_the_points_and_roofs_of_the_roofline(owner):
    document = json.loads((Path(__file__).parents[1] / "data" / "documents" / "measure_smollm2.json").read_text())
    rows = read_csv(exports.run_csv(get(), make_run(owner, document=document, kind="measure")))
    points = document["roofline"]["points"]
    told = [r for r in rows if r["section"] == "point" and r["metric"] == "flops_per_s"]
    assert [(r["stage"], r["path"], r["origin"], float(r["value"]), r["unit"]) for r in told] == [
        (p["stage"], p["label"], p["origin"], p["flops_per_s"], "FLOP/s") for p in points
    ]
    assert {r["origin"] for r in told} == {"estimated", "measured"}
    roof = document["roofline"]["roofs"][0]
    path = f"{roof['name']} / {roof['level']} / {roof['dtype']}"
    assert float(figure(rows, "roof", "peak_flops", path=path)["value"]) == roof["peak_flops"]
    assert figure(rows, "roof", "bandwidth", path=path)["unit"] == "B/s"


def test_run_csv_defuses_text_and_keeps_negative_numbers(run):
    rows = read_csv(exports.run_csv(get(delimiter=";"), run), delimiter=";")
    assert figure(rows, "model", "name")["value"] == "'=cmd()"
    assert figure(rows, "warning", "message")["value"] == "'+ a remark"
    assert figure(rows, "memory", "rss_delta_bytes", stage="load")["value"] == "-5"


def test_run_json_is_the_document_unchanged_plus_the_runs_identity(run):
    exported = json.loads(exports.run_json(get(), run).content)
    identity = exported.pop("run")
    assert exported == DOCUMENT
    assert identity["id"] == run.public_id
    assert identity["spec_digest"] == run.spec_digest
    assert identity["spec"]["workload"] == run.spec["workload"]
    assert identity["duration_s"] == 3
    assert identity["notes"] == "why"


def test_a_run_without_a_result_exports_what_is_known(owner):
    run = make_run(owner, state="failed", error="It did not fit.", error_phase="load")
    assert set(json.loads(exports.run_json(get(), run).content)) == {"run"}
    rows = read_csv(exports.run_csv(get(), run))
    assert figure(rows, "run", "error")["value"] == "It did not fit."


def test_files_are_downloads_with_harmless_names(owner):
    run = make_run(owner, model_name='evil"\r\nSet-Cookie: x=1 ../../é', hardware_name="/etc/passwd")
    for response in (exports.run_csv(get(), run), exports.run_json(get(), run)):
        disposition = response["Content-Disposition"]
        assert disposition.startswith('attachment; filename="')
        name = disposition.removeprefix('attachment; filename="').removesuffix('"')
        assert name.isascii()
        assert not set(name) & set('"/\\\r\n:;= ')


#: The contract. Change it only by adding names at the end of the test's list as well as in the code.
LIST_COLUMNS = [
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
]


def test_list_columns_are_a_contract(owner, team):
    run = make_run(owner, ttft_s=0.5, memory_bytes=10, fits=False, team=team, visibility="team", title="T", error="why")
    (row,) = read_csv(exports.runs_csv(get(), Run.objects.all()))
    assert list(row) == LIST_COLUMNS
    assert row["id"] == run.public_id
    assert row["name"] == row["title"] == "T"
    assert (row["ttft_s"], row["tpot_s"], row["memory_bytes"], row["fits"]) == ("0.5", "", "10", "false")
    assert (row["owner"], row["team"], row["error"]) == ("owner", "Team", "why")
    assert row["url"].endswith(f"/runs/{run.public_id}/")


def test_list_json_has_the_same_lines_as_the_csv(owner):
    for _ in range(3):
        make_run(owner)
    exported = json.loads(b"".join(exports.runs_json(get(), Run.objects.all()).streaming_content))
    assert [list(line) for line in exported["runs"]] == [LIST_COLUMNS] * 3
    assert [line["id"] for line in exported["runs"]] == [
        r["id"] for r in read_csv(exports.runs_csv(get(), Run.objects.all()))
    ]


def test_list_export_needs_two_queries_however_long(owner, django_assert_num_queries):
    """One for the runs, one for their tags (of every 500 runs)."""
    for _ in range(5):
        make_run(owner)
    with django_assert_num_queries(2):
        read_csv(exports.runs_csv(get(), Run.objects.all()))


def test_comparison_keeps_order_and_computes_differences_against_the_baseline(owner):
    fast, slow = make_run(owner, title="fast"), make_run(owner, title="slow")
    for run, value in ((fast, 1.0), (slow, 1.5)):
        RunMetric.objects.create(run=run, key="ttft", origin="estimated", value=value, unit="s", definition="ttft/1")
    RunMetric.objects.create(run=fast, key="ttft", origin="measured", value=3.0, unit="s", definition="ttft/1")
    compared = json.loads(exports.comparison_json(get(), [slow, fast], baseline=fast.public_id).content)
    assert compared["runs"] == [slow.public_id, fast.public_id]
    estimated = next(r for r in compared["rows"] if (r["key"], r["origin"]) == ("ttft", "estimated"))
    assert estimated["values"] == [1.5, 1.0]
    assert estimated["delta_pct"] == [pytest.approx(50.0), 0.0]
    # An estimate is never set against a measurement, and a missing figure has no difference.
    measured = next(r for r in compared["rows"] if (r["key"], r["origin"]) == ("ttft", "measured"))
    assert measured["values"] == [None, 3.0]
    assert measured["delta_pct"] == [None, 0.0]

    rows = read_csv(exports.comparison_csv(get(), [slow, fast]))
    ttft = next(r for r in rows if (r["key"], r["origin"]) == ("ttft", "estimated"))
    assert float(ttft[f"{fast.public_id} vs {slow.public_id} [%]"]) == pytest.approx(-100 / 3)


def test_json_is_strict_even_when_a_figure_is_not_finite():
    assert json.loads(exports.to_json({"a": [float("inf"), 1.5]})) == {"a": [None, 1.5]}


# --- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(EXPORTERS.values(), key=lambda form: form.name), ids=lambda form: form.name)
def test_a_graph_is_a_download_in_every_format(owner_client, run, form):
    both = owner_client.get(f"/runs/{run.public_id}/graph.{form.suffix}")
    assert both.status_code == 200
    assert both["Content-Type"] == form.media_type
    assert both["Content-Disposition"].endswith(f'-{run.public_id}.graph.{form.suffix}"')
    text = both.content.decode()
    assert "prefill" in text
    assert "decode" in text
    one = owner_client.get(f"/runs/{run.public_id}/graph.{form.suffix}?stage=decode")
    assert one["Content-Disposition"].endswith(f'-{run.public_id}.decode.{form.suffix}"')
    assert "prefill" not in one.content.decode()
    assert "layers.0" in one.content.decode()


def test_graphs_that_there_are_not(owner, owner_client, run):
    address = f"/runs/{run.public_id}/graph"
    for wrong in (".exe", ".dot?stage=encode", ".dot?stage=%22", "."):
        assert owner_client.get(address + wrong).status_code == 404, wrong
    for document in (None, {"graph": None}, {"graph": {}}, {"graph": []}):
        empty = make_run(owner, document=document)
        assert owner_client.get(f"/runs/{empty.public_id}/graph.dot").status_code == 404
    broken = make_run(owner, document={"graph": {"prefill": None, "decode": {"nodes": [1, {}], "edges": [None, 2]}}})
    for form in EXPORTERS.values():
        assert owner_client.get(f"/runs/{broken.public_id}/graph.{form.suffix}").status_code == 200


def test_graphs_are_for_those_who_see_the_run(run, stranger_client, teammate_client, staff_client, anonymous_client):
    address = f"/runs/{run.public_id}/graph.dot"
    assert {c.get(address).status_code for c in (stranger_client, teammate_client, staff_client)} == {404}
    assert anonymous_client.get(address).status_code == 302


def test_the_run_page_links_to_its_graphs(owner_client, owner):
    run = make_run(owner, document=measured(), kind="measure")
    html = owner_client.get(f"/runs/{run.public_id}/?stage=decode").content.decode()
    for form in EXPORTERS.values():
        href = f"graph.{form.suffix}?stage=decode"
        assert f'href="{href}"' in html
        assert owner_client.get(f"/runs/{run.public_id}/{href}").status_code == 200
