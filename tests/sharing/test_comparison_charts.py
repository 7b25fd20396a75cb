"""Charts of a shared comparison: the numbers of its JSON, and nothing of what is kept back."""

from __future__ import annotations

import json

import pytest

from llmcompare.runs.models import RunExtract
from llmcompare.sharing import public, services
from tests.compare.test_charts import drawn
from tests.compare.test_layers import GPT2, SMOL
from tests.factories import make_host, make_run
from tests.sharing.test_pages import ANSWER, PROMPT
from tests.sharing.test_public import SECRETS


def full_of_secrets() -> dict:
    made = json.loads(json.dumps(SMOL))
    made["workload"]["prompt"] = PROMPT
    made["output"] |= {"prompt": PROMPT, "texts": [ANSWER]}
    made["environment"] |= {"env_vars": {"K": SECRETS["environment"]}, "hostname": SECRETS["host"]}
    made["model"]["weights_path"] = SECRETS["path"]
    made["hardware"] |= {"host": SECRETS["host"]}
    made["warnings"] = [{"code": "x", "message": f"read {SECRETS['path']}/a"}]
    made["something_new"] = {"x": SECRETS["new part"]}
    # What names a part of the model comes from its configuration: whoever wrote that may have put a path there.
    made["roofline"]["points"][0]["label"] = f"from {SECRETS['path']}/w"
    for node in made["graph"]["decode"]["nodes"][:3]:
        node["class"] = f"{SECRETS['path']}/Net"
    return made


@pytest.fixture
def shared(owner, anonymous_client):
    host = make_host(name=SECRETS["host"])
    runs = [
        make_run(owner, document=full_of_secrets(), kind="measure", title="Measured", notes=SECRETS["notes"],
                 worker=SECRETS["worker"], host=host),
        make_run(owner, document=GPT2, title="Estimated"),
    ]  # fmt: skip
    _, token = services.create_link(owner=owner, runs=runs)

    def fetch(query: str = "", *, what: str = ""):
        answer = anonymous_client.get(f"/s/{token}/{what}{query}")
        assert answer.status_code == 200
        return answer

    return fetch, runs


@pytest.mark.parametrize("query", ["", "?metric=tpot&x=ttft&y=peak_memory&by=flops", "?graphs=1&stage=prefill"])
def test_every_chart_has_the_numbers_of_the_json_of_the_address(shared, query):
    fetch, runs = shared
    page = fetch(query).content.decode()
    told = json.loads(fetch(query, what="export.json").content)["charts"]
    assert [trace["x"][0] for trace in drawn(page, "bar-data")["data"]] == [v or 0 for v in told["bars"]["values"]]
    points = [(trace["x"][0], trace["y"][0]) for trace in drawn(page, "scatter-data")["data"]]
    assert points == [(p["x"], p["y"]) for p in told["scatter"]["points"] if None not in (p["x"], p["y"])]
    markers = [t for t in drawn(page, "roofline-data")["data"] if "markers" in t["mode"]]
    assert sorted(pair for t in markers for pair in zip(t["x"], t["y"], strict=True)) == sorted(
        (p["intensity"], p["flops_per_s"]) for line in told["rooflines"] for p in line["points"]
    )
    assert [line["run"] for line in told["rooflines"]] == [run.public_id for run in runs]
    if "graphs=1" not in query:
        assert "graphs" not in told
        return
    for at, side in enumerate(told["graphs"]):
        nodes = drawn(page, f"compare-graph-{at}")["nodes"]
        assert [(n["path"], n["value"]) for n in nodes] == [(n["path"], n["value"]) for n in side["nodes"]]


@pytest.mark.parametrize("query", ["", "?graphs=1&open0=*", "?by=measured&at=role:mlp"])
def test_nothing_that_is_kept_back_is_in_them(shared, query):
    fetch, _ = shared
    for what in ("", "export.json", "export.csv"):
        text = fetch(query, what=what).getvalue().decode()
        for secret in (PROMPT, ANSWER, *(SECRETS[n] for n in SECRETS if n not in ("username", "prompt", "text"))):
            assert json.dumps(secret).strip('"') not in text, (what, secret)
        assert "owner@" not in text
    page = fetch(query).content.decode()
    assert "/runs/" not in page, "a visitor has no page of a run to go to"


def test_what_comparisons_read_of_a_document_is_cut_like_the_document(shared):
    _, runs = shared
    columns = public.shared_columns(runs)
    kept = RunExtract.objects.get(run=runs[0]).data
    assert "something_new" in kept, "the extract itself is whole"
    cut = columns[0].document
    assert set(cut) <= set(public.DOCUMENT_FIELDS) | {"roles"}
    assert "prompt" not in cut["workload"]
    assert cut["metrics"] == kept["metrics"]
    assert cut["roles"].keys() == kept["roles"].keys()


def test_the_page_loads_graph_scripts_only_for_graphs(shared):
    fetch, _ = shared
    assert "cytoscape" not in fetch().content.decode()
    assert "cytoscape.min.js" in fetch("?graphs=1").content.decode()
