"""Launch, read, cancel, export, delete and compare runs by the API."""

import csv
import io
import json
from pathlib import Path

import pytest

from llmcompare.runs.models import Run, RunMetric
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_run

ESTIMATE = {"kind": "estimate", "model": "tiny", "hardware": "gpu", "input_tokens": 100, "output_tokens": 8}


@pytest.fixture
def _parts(model, gpu):
    """A model and hardware that ``ESTIMATE`` names."""


@pytest.mark.usefixtures("_parts")
def test_launching_an_estimate(owner_api, owner):
    answer = owner_api.send("runs/", ESTIMATE | {"title": "T", "batch_size": 2})
    assert answer.status_code == 201, answer.json()
    made = answer.json()
    run = Run.objects.get(public_id=made["id"])
    assert (run.owner, run.batch_size, run.input_tokens, run.title) == (owner, 2, 100, "T")
    assert run.visibility == "private"
    assert (made["state"], made["model"], made["document"]) == ("queued", "Tiny", None)
    assert answer["Location"].endswith(f"/api/v1/runs/{run.public_id}/")
    assert owner_api.get(answer["Location"]).json()["spec"]["workload"]["batch_size"] == 2


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize("where", ["field", "header"])
def test_the_same_key_returns_the_first_run(owner_api, stranger_api, where):
    def launch(client):
        if where == "field":
            return client.send("runs/", ESTIMATE | {"idempotency_key": "k"})
        return client.send("runs/", ESTIMATE, **{"Idempotency-Key": "k"})

    first, again = launch(owner_api), launch(owner_api)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert launch(stranger_api).status_code == 201
    assert Run.objects.count() == 2


@pytest.mark.usefixtures("_parts")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": -1}, "batch_size"),
        ({"batch_size": "many"}, "batch_size"),
        ({"input_tokens": 300}, "input_tokens"),
        ({"dtype": "fp99"}, "dtype"),
        ({"kind": "guess"}, "kind"),
        ({"model": "nobody"}, "model"),
        ({"hardware": "nothing"}, "hardware"),
        ({"kind": "measure", "host": "nowhere"}, "host"),
        ({"visibility": "all"}, "visibility"),
        ({"visibility": "team", "team": "others"}, "team"),
        ({"batchsize": 3}, "batchsize"),
        ({"title": "x" * 151}, "title"),
        ({"idempotency_key": "x" * 65}, "idempotency_key"),
    ],
)
def test_bad_input_is_named_at_its_field_and_nothing_is_stored(owner_api, change, field):
    answer = owner_api.send("runs/", ESTIMATE | change)
    assert answer.status_code == 400
    body = answer.json()
    assert set(body) == {"code", "message", "errors"}
    assert field in body["errors"]
    assert len(body["errors"][field]) > 10
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "3", '"x"', '{"title": "\\u0000"}', '{"title": "\\ud800"}', "[" * 100_000, '{"a": 1e999}']
)
def test_what_is_not_a_json_object_is_a_400(owner_api, body):
    answer = owner_api.send("runs/", body)
    assert answer.status_code == 400
    assert answer.json()["message"]


@pytest.mark.usefixtures("_parts")
def test_a_quota_is_a_429_that_says_so(owner_api, settings):
    settings.MAX_ACTIVE_RUNS_PER_USER = 1
    assert owner_api.send("runs/", ESTIMATE).status_code == 201
    answer = owner_api.send("runs/", ESTIMATE)
    assert answer.status_code == 429
    assert answer.json()["code"] == "quota"


def test_somebody_elses_upload_cannot_be_run(stranger_api, owner, gpu):
    from tests.factories import make_model

    make_model(slug="tiny", source="upload", owner=owner)
    assert set(stranger_api.send("runs/", ESTIMATE).json()["errors"]) == {"model"}


def test_lists_show_what_one_may_see(owner, owner_api, teammate_api, stranger_api, team):
    make_run(owner)
    make_run(owner, visibility="team", team=team)
    make_run(owner, visibility="public")
    assert [api.read("runs/").json()["count"] for api in (owner_api, teammate_api, stranger_api)] == [3, 2, 1]


def test_lists_are_filtered_and_exported_whole(owner, owner_api):
    for _ in range(3):
        make_run(owner, document=DOCUMENT)
    make_run(owner)
    assert owner_api.read("runs/", state="queued").json()["count"] == 1
    text = owner_api.read("runs/", state="done", page_size=1, export="csv").getvalue().decode("utf-8-sig")
    assert len(list(csv.DictReader(io.StringIO(text)))) == 3
    assert owner_api.read("runs/", export="pdf").status_code == 400


def test_reading_a_list_takes_the_same_queries_however_long(owner, owner_api, django_assert_max_num_queries):
    for _ in range(20):
        make_run(owner)
    with django_assert_max_num_queries(6):
        owner_api.read("runs/")


@pytest.mark.parametrize("path", ["", "document/", "export.csv", "export.json"])
def test_a_private_run_is_a_404_for_others(owner, teammate_api, stranger_api, owner_api, team, path):
    run = make_run(owner, document=DOCUMENT, team=team)
    assert owner_api.read(f"runs/{run.public_id}/{path}").status_code == 200
    for api in (teammate_api, stranger_api):
        answer = api.read(f"runs/{run.public_id}/{path}")
        assert answer.status_code == 404
        assert answer.json() == api.read(f"runs/doesNotExist/{path}").json()


def test_the_document_comes_unchanged(owner, owner_api):
    run = make_run(owner, document=DOCUMENT)
    assert owner_api.read(f"runs/{run.public_id}/document/").json() == DOCUMENT
    waiting = make_run(owner)
    assert owner_api.read(f"runs/{waiting.public_id}/document/").status_code == 409


def test_cancel_and_delete_are_for_editors(owner, owner_api, teammate_api, stranger_api, team):
    run = make_run(owner, visibility="team", team=team)
    address = f"runs/{run.public_id}/"
    assert stranger_api.send(address + "cancel/").status_code == 404
    assert teammate_api.send(address + "cancel/").status_code == 403
    assert teammate_api.delete("/api/v1/" + address).status_code == 403
    assert owner_api.send(address + "cancel/").json()["state"] == "cancelled"
    assert owner_api.delete("/api/v1/" + address).status_code == 204
    assert owner_api.read(address).status_code == 404
    run.refresh_from_db()
    assert run.deleted_at is not None


def test_comparing_goes_down_to_the_layers(owner, owner_api):
    document = json.loads((Path(__file__).parents[1] / "data/documents/estimate_gpt2.json").read_text())
    ids = ",".join(make_run(owner, document=document).public_id for _ in range(2))
    layers = owner_api.read("compare/", runs=ids, stage="prefill", by="flops").json()["layers"]
    assert (layers["stage"], layers["measure"], layers["unit"], layers["aligned_by"]) == (
        "prefill",
        "flops",
        "FLOP",
        "module",
    )
    assert layers["totals"] == pytest.approx([document["stages"]["prefill"]["flops"]] * 2)
    assert sum(line["values"][0] for line in layers["roles"]) == pytest.approx(layers["totals"][0])


def test_comparing_keeps_the_order_and_refuses_what_one_cannot_see(owner, stranger, owner_api):
    a, b, hidden = make_run(owner), make_run(owner), make_run(stranger)
    for run, value in ((a, 2.0), (b, 1.0)):
        RunMetric.objects.create(run=run, key="ttft", origin="estimated", value=value, unit="s", definition="ttft/1")
    answer = owner_api.read("compare/", runs=f"{b.public_id},{a.public_id}").json()
    assert answer["runs"] == [b.public_id, a.public_id]
    (ttft,) = [row for row in answer["rows"] if row["key"] == "ttft"]
    assert (ttft["values"], ttft["delta_pct"]) == ([1.0, 2.0], [0.0, 100.0])
    assert "layers" not in answer
    for ids in ("", a.public_id):
        refused = owner_api.read("compare/", runs=ids)
        assert refused.status_code == 400
        assert set(refused.json()["errors"]) == {"runs"}
    for other in (hidden.public_id, "nobody"):
        assert owner_api.read("compare/", runs=f"{a.public_id},{other}").status_code == 404


def test_a_measurement_under_load(owner_api, model, host):
    asked = {"kind": "measure", "model": model.slug, "host": host.slug, "input_tokens": 8, "output_tokens": 4}
    load = {"load_mode": "poisson", "load_rate": 2.5, "load_output_lengths": "uniform(2, 6)", "load_ttft_s": 0.2}
    refused = owner_api.send("runs/", asked | load | {"load_output_lengths": "zipf(2)"})
    assert refused.status_code == 400
    assert set(refused.json()["errors"]) == {"load_output_lengths"}
    made = owner_api.send("runs/", asked | load)
    assert made.status_code == 201, made.json()
    kept = made.json()["spec"]["load"]
    assert (kept["mode"], kept["rate"], kept["output_lengths"], kept["ttft_s"]) == (
        "poisson",
        2.5,
        "uniform(2, 6)",
        0.2,
    )


def test_an_estimate_with_replay_waits_for_its_host(owner_api, stranger_api, model, host):
    asked = {"kind": "estimate", "model": "tiny", "host": "here", "input_tokens": 8, "output_tokens": 4, "replay": True}
    answer = owner_api.send("runs/", asked)
    assert answer.status_code == 201, answer.json()
    run = Run.objects.get(public_id=answer.json()["id"])
    assert (run.queue, answer.json()["spec"]["replay"], answer.json()["host"]) == ("hw.here", "cpu", host.name)
    assert stranger_api.read(f"runs/{run.public_id}/").status_code == 404
    plain = owner_api.send("runs/", asked | {"replay": False}).json()
    assert plain["spec"]["replay"] is None
    assert Run.objects.get(public_id=plain["id"]).queue == "estimate"


@pytest.mark.usefixtures("model", "gpu", "host")
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"host": None, "hardware": "gpu"}, "replay"),
        ({"kind": "measure"}, "replay"),
        ({"replay": "perhaps"}, "replay"),
        ({"weights_dtype": "int4"}, "weights_dtype"),
    ],
)
def test_what_cannot_be_replayed_is_refused_at_its_field(owner_api, change, field):
    asked = {"kind": "estimate", "model": "tiny", "host": "here", "output_tokens": 4, "replay": True} | change
    answer = owner_api.send("runs/", {name: value for name, value in asked.items() if value is not None})
    assert answer.status_code == 400
    assert field in answer.json()["errors"]
    assert not Run.objects.exists()
