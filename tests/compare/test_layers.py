"""Layer by layer: parts of models aligned by what they are for, every figure the same on the page, in its JSON and in the documents."""

from __future__ import annotations

import copy
import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse

from llmcompare.runs import areas, extract, layertable, lifecycle
from llmcompare.runs.compare import columns_of
from llmcompare.runs.extract import VERSION, extract_of, pattern_of
from llmcompare.runs.models import Run, RunDocument, RunExtract
from llmcompare.runs.rolediff import diff, measures_of, stages_of
from tests.factories import make_run

DATA = Path(__file__).parents[1] / "data/documents"
GPT2 = json.loads((DATA / "estimate_gpt2.json").read_text())
LLAMA = json.loads((DATA / "estimate_llama3_70b_h100.json").read_text())
SMOL = json.loads((DATA / "measure_smollm2.json").read_text())


def slower(document: dict, path_end: str, factor: float) -> dict:
    """The document with ``factor`` times the estimated time in every module whose path ends so, and in all above them."""
    changed = copy.deepcopy(document)
    table = changed["modules"]
    at = {name: table["columns"].index(name) for name in ("stage", "path", "parent", "estimate_s")}
    rows = {(row[at["stage"]], row[at["path"]]): row for row in table["rows"]}
    for (stage, path), row in list(rows.items()):
        if path.endswith(path_end) and row[at["estimate_s"]]:
            more = row[at["estimate_s"]] * (factor - 1)
            current = row
            while current is not None:
                current[at["estimate_s"]] += more
                parent = current[at["parent"]]
                current = rows.get((stage, parent)) if parent is not None else None
    return changed


def difference(owner, *documents, measure="time", stage="decode", baseline=0):
    runs = [make_run(owner, document=copy.deepcopy(d), kind=d["kind"]) for d in documents]
    return diff(columns_of(runs), stage, measure, baseline)


def test_roles_and_parts_add_up_to_the_whole(owner):
    found = difference(owner, GPT2, LLAMA)
    for at, document in enumerate((GPT2, LLAMA)):
        whole = document["stages"]["decode"]["latency_s"]
        assert found.totals[at] == pytest.approx(whole, rel=1e-9)
        assert sum(row.values[at] or 0 for row in found.roles) == pytest.approx(whole, rel=1e-9)
        assert sum(row.values[at] or 0 for row in found.parts) == pytest.approx(whole, rel=1e-9)
        assert sum(row.shares[at] or 0 for row in found.roles) == pytest.approx(1)
    assert sum(row.changes[1] for row in found.roles) == pytest.approx(found.totals[1] - found.totals[0])
    assert sum(found.explained(row, 1) for row in found.roles) == pytest.approx(1)


def test_models_of_other_architectures_are_aligned_by_role_and_name(owner):
    found = difference(owner, GPT2, LLAMA)
    assert not found.by_module
    parts = {row.title: row for row in found.parts}
    assert (parts["c_attn"].role, parts["c_attn"].values[1]) == ("attention", None)
    assert (parts["q_proj"].role, parts["q_proj"].values[0]) == ("attention", None)
    assert parts["q_proj"].modules == (0, 80)
    assert parts["lm_head"].values[0] > 0
    assert parts["lm_head"].values[1] > 0


def test_the_module_that_moved_is_first_and_explains_the_difference(owner):
    found = difference(owner, GPT2, slower(GPT2, ".mlp.c_fc", 1.5))
    assert found.by_module
    assert found.parts[0].title == "transformer.h.*.mlp.c_fc"
    assert found.explained(found.parts[0], 1) == pytest.approx(1)
    assert [row.role for row in found.roles if abs(row.changes[1]) > 1e-9 * found.totals[0]] == ["mlp"]


def test_measured_models_are_compared_by_their_own_times(owner):
    columns = columns_of(
        [make_run(owner, document=SMOL, kind="measure"), make_run(owner, document=SMOL, kind="measure")]
    )
    assert measures_of(columns, "decode")[0] == "measured"
    found = diff(columns, "decode", "measured", 0)
    rows = layertable.fold(SMOL["modules"], "decode")
    assert found.totals[0] == pytest.approx(areas.whole(SMOL, rows, "measured", "decode").root.total)
    assert all(change == 0 for row in found.parts for change in row.changes)


def test_what_a_run_lacks_is_unknown_not_nothing(owner):
    found = difference(owner, SMOL, SMOL, GPT2, measure="measured")
    assert found.totals[2] is None
    assert all(row.values[2] is None and row.changes[2] is None for row in found.parts)
    assert difference(owner, GPT2, LLAMA, measure="measured") is None
    without = {key: value for key, value in GPT2.items() if key not in ("modules", "stages")}
    assert stages_of(columns_of([make_run(owner, document=without), make_run(owner, document=GPT2)])) == []


def test_numbers_of_blocks_are_told_from_numbers_in_names():
    assert pattern_of("model.layers.12.mlp") == "model.layers.*.mlp"
    assert pattern_of("blocks.3.experts.7") == "blocks.*.experts.*"
    assert pattern_of("encoder.conv1.ln_2") == "encoder.conv1.ln_2"


def address(runs, name="runs:compare", **query):
    return (
        reverse(name) + "?runs=" + ",".join(r.public_id for r in runs) + "".join(f"&{k}={v}" for k, v in query.items())
    )


@pytest.fixture
def runs(owner):
    return [make_run(owner, document=GPT2, title="Small"), make_run(owner, document=LLAMA, title="Large")]


def test_the_page_shows_what_its_json_says(owner_client, runs):
    query = {"stage": "prefill", "by": "flops"}
    page = owner_client.get(address(runs, **query))
    found = owner_client.get(address(runs, "runs:compare-json", **query)).json()["layers"]
    assert (found["stage"], found["measure"], found["unit"]) == ("prefill", "flops", "FLOP")
    shown = page.context["layers"]
    assert [line["title"] for line in shown["roles"]] == [line["title"] for line in found["roles"]]
    whole = max(found["totals"])
    assert page.content.decode().count('class="layer-bar"') == len(shown["bars"]) == len(runs)
    for at, bar in enumerate(shown["bars"]):
        values = [line["values"][at] for line in found["roles"] if line["values"][at]]
        assert [float(piece["width"]) for piece in bar["pieces"]] == pytest.approx(
            [100 * v / whole for v in values], abs=1e-3
        )
    assert found["totals"][0] == pytest.approx(GPT2["stages"]["prefill"]["flops"])
    text = page.content.decode()
    assert "Layer by layer" in text
    assert "aligned by role and name" in text


def test_every_figure_is_in_the_csv(owner_client, runs):
    text = b"".join(owner_client.get(address(runs, "runs:compare-csv", by="time")).streaming_content).decode()
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff"))) if row["section"] == "role"}
    found = owner_client.get(address(runs, "runs:compare-json", by="time")).json()["layers"]
    for line in found["roles"]:
        row = rows[f"decode time {line['key']}"]
        assert [float(row[run.public_id]) for run in runs] == pytest.approx(line["values"])


@pytest.mark.parametrize("query", [{"stage": "<script>"}, {"by": "no-such"}, {"stage": "encode", "by": "measured"}])
def test_what_there_is_not_is_the_first_that_there_is(owner_client, runs, query):
    shown = owner_client.get(address(runs, **query)).context["layers"]
    assert (shown["stage"], shown["measure"]) == ("decode", "time")


def test_runs_without_layers_have_no_section(owner_client, owner):
    bare = {key: value for key, value in GPT2.items() if key not in ("modules", "graph", "operators")}
    columns = columns_of([make_run(owner, document=bare), make_run(owner, document=bare)])
    assert measures_of(columns, "decode") == ["memory"]  # what is in memory is known without modules
    bare |= {"memory": {}}
    pair = [make_run(owner, document=bare), make_run(owner, document=bare)]
    page = owner_client.get(address(pair))
    assert page.context["layers"] is None
    assert "layers" not in owner_client.get(address(pair, "runs:compare-json")).json()


def test_an_extract_is_made_once_and_again_for_a_new_version(owner_client, runs):
    owner_client.get(address(runs))
    assert RunExtract.objects.count() == 2
    # What is stored is used: the documents are not read again.
    RunDocument.objects.update(data={})
    assert owner_client.get(address(runs)).context["layers"] is not None
    RunDocument.objects.filter(run=runs[0]).update(data=LLAMA)
    RunExtract.objects.filter(run=runs[0]).update(version=VERSION - 1)
    assert (
        owner_client.get(address(runs, by="flops", stage="prefill")).context["layers"]["roles"][0]["cells"][0]["text"]
        != "none"
    )
    assert RunExtract.objects.get(run=runs[0]).version == VERSION


def test_extracts_of_a_request_that_was_cut_stay_made(runs, monkeypatch):
    made = []

    def cut(document):
        if made:
            raise TimeoutError("the request was cut")
        made.append(extract_of(document))
        return made[0]

    monkeypatch.setattr(extract, "KEEP_AFTER_S", -1.0)
    monkeypatch.setattr(extract, "extract_of", cut)
    with pytest.raises(TimeoutError):
        columns_of([Run.objects.get(pk=run.pk) for run in runs])
    assert list(RunExtract.objects.values_list("run", flat=True)) == [runs[0].pk]


def test_a_page_that_cannot_make_all_extracts_in_its_time_says_which_runs_are_being_prepared(
    owner_client, runs, monkeypatch
):
    """What is left is made by the next opening; an export waits for all. An old extract is not shown as if it were of today."""
    monkeypatch.setattr(extract, "PAGE_S", -1.0)
    RunExtract.objects.create(run=runs[1], version=VERSION - 1, data={**extract_of(GPT2), "roles": {}})
    page = owner_client.get(address(runs))
    assert "Being prepared: Large." in page.content.decode()
    cells = [row["cells"] for row in page.context["table"]["metrics"]]
    assert any(mine["raw"] is not None for mine, _ in cells)
    assert all(other["raw"] is None for _, other in cells)
    assert page.context["layers"] is None
    again = owner_client.get(address(runs))
    assert "Being prepared" not in again.content.decode()
    assert again.context["layers"] is not None
    RunExtract.objects.all().delete()
    told = owner_client.get(address(runs, "runs:compare-json")).json()
    assert None not in told["layers"]["totals"]


def test_the_json_is_in_english_whatever_the_language_of_the_page(owner_client, runs):
    asked = [address(runs), address(runs, "runs:compare-json")]
    english, chinese = (
        [owner_client.get(a, headers={"accept-language": language}) for a in asked] for language in ("en", "zh-hans")
    )
    assert 'lang="zh' in chinese[0].content.decode()
    assert chinese[1].json() == english[1].json()


def test_an_extract_has_all_but_the_long_tables():
    found = extract_of(GPT2)
    assert found["metrics"] == GPT2["metrics"]
    assert found["roofline"] == GPT2["roofline"]
    assert {"modules", "graph", "operators"}.isdisjoint(found)
    assert len(json.dumps(found)) < len(json.dumps(GPT2)) / 3


def test_a_finished_run_has_its_extract_and_a_broken_table_costs_it_nothing_else(owner):
    for document, kept in ((GPT2, True), ({**copy.deepcopy(GPT2), "modules": "broken"}, None)):
        run = make_run(owner)
        Run.objects.filter(pk=run.pk).update(state="queued")
        claimed = lifecycle.claim(run_id=run.pk, worker="w")
        assert lifecycle.finish(run=claimed, document=document)
        assert Run.objects.get(pk=run.pk).state == "done"
        if kept:
            assert RunExtract.objects.filter(run=run).exists()


def test_graphs_are_drawn_when_asked_for_on_one_scale_and_open_apart(owner_client, runs):
    page = owner_client.get(address(runs))
    assert page.context["graphs"]["shown"] is False
    assert "cytoscape" not in page.content.decode()
    page = owner_client.get(address(runs, graphs=1, stage="prefill"))
    one, other = page.context["graphs"]["sides"]
    assert (one["label"], other["label"]) == ("1. Small", "2. Large")
    assert one["json"]["scale"] == other["json"]["scale"]
    assert one["json"]["scale"]["bytes"] == max(one["widest"], other["widest"])
    text = page.content.decode()
    assert text.count("data-graph=") == 2
    toggle = next(node["toggle"] for node in other["json"]["nodes"] if node["expandable"])
    assert "open1=" in toggle
    assert "open0=" not in toggle
    assert all(run.public_id in toggle for run in runs)
    again = owner_client.get(reverse("runs:compare") + toggle).context["graphs"]["sides"]
    assert [node["id"] for node in again[0]["json"]["nodes"]] == [node["id"] for node in one["json"]["nodes"]]
    assert [node["id"] for node in again[1]["json"]["nodes"]] != [node["id"] for node in other["json"]["nodes"]]


def test_which_run_stands_beside_the_baseline_is_chosen(owner_client, owner, runs):
    third = make_run(owner, document=GPT2, title="Third")
    sides = owner_client.get(address([*runs, third], graphs=1, pair=third.public_id)).context["graphs"]["sides"]
    assert [side["label"] for side in sides] == ["1. Small", "3. Third"]
    sides = owner_client.get(address([*runs, third], graphs=1, pair="nobody", baseline=third.public_id)).context[
        "graphs"
    ]["sides"]
    assert [side["label"] for side in sides] == ["3. Third", "1. Small"]


def test_workers_make_the_extracts_that_older_runs_lack_the_newest_first(owner, runs):
    unfinished = make_run(owner, state="failed")
    RunExtract.objects.create(run=runs[0], version=VERSION - 1, data={})
    Run.objects.filter(pk=runs[1].pk).update(finished=runs[0].finished + timedelta(minutes=1))
    assert extract.make_missing() == 1
    assert RunExtract.objects.get(run=runs[1]).version == VERSION
    assert extract.make_missing() == 1
    assert RunExtract.objects.get(run=runs[0]).data["roles"]
    assert extract.make_missing() == 0
    assert not RunExtract.objects.filter(run=unfinished).exists()
