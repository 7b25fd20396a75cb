"""Runs of an endpoint: launched from the form, carried out by a real engine process against a real server, and shown. Keys stay secret."""

from __future__ import annotations

import copy
import csv
import io
import json
import threading

import pytest
from django.template.loader import render_to_string

from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints.models import PrivateNetwork
from llmcompare.runs import endpointengine, executor, lifecycle
from llmcompare.runs.compare import columns_of, comparison
from llmcompare.runs.executor import execute
from llmcompare.runs.models import Run, RunDocument
from llmcompare.runs.presentation import run_context
from llmcompare.runs.services import cancel_run, launch_endpoint_run
from llmcompare.sharing.public import shared_document
from profiling.load import Load
from profiling.remote.endpoint import Endpoint, measure_endpoint
from profiling.remote.levels import Sweep
from profiling.spec import Workload
from tests import factories
from tests.conftest import client_for
from tests.profiling.remote.serving import client
from tests.run_page import documents as documents_of_pages
from tests.run_page.test_numbers import Page
from tests.runs.endpoint_server import TOKEN_S, endpoint_server

KEY = "sk-very-secret-0815"


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.queues.send", lambda run: True)


def register(owner, base, key="", **fields):
    PrivateNetwork.objects.get_or_create(name="here", network="127.0.0.0/8")
    return made(owner, url=base, key=key, **({"private": True} | fields))


def made(owner, **fields):
    return factories.make_endpoint(owner, **({"model": "tiny", "api": "chat"} | fields))


def launch(endpoint, load=None, **workload):
    usual = {"input_tokens": 5, "output_tokens": 4, "warmup": 1, "time_limit_s": 60.0}
    return launch_endpoint_run(owner=endpoint.owner, endpoint=endpoint, workload=usual | workload, load=load)


def carry_out(run):
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    return run


FORM = {
    "kind": "endpoint",
    "prompt": "",
    "input_tokens": "5",
    "output_tokens": "4",
    "warmup": "0",
    "visibility": "private",
    "idempotency_key": "key-1",
}


@pytest.fixture
def endpoint(owner):
    return made(owner, name="My server")


# --- launching ---


def test_the_form_starts_a_run_of_the_endpoint(owner_client, endpoint):
    page = owner_client.get(f"/runs/new/?endpoint={endpoint.public_id}").content.decode()
    assert 'value="endpoint" checked' in page
    assert "My server (tiny)" in page
    sent = FORM | {"endpoint": endpoint.public_id, "send": "closed", "load_concurrency": "2", "load_requests": "6"}
    answer = owner_client.post("/runs/new/", sent)
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.public_id}/"
    assert (run.kind, run.endpoint, run.queue) == ("endpoint", endpoint, "estimate")
    assert (run.model_name, run.hardware_name, run.dtype, run.batch_size) == ("tiny", "My server", "", 0)
    assert run.spec["load"]["concurrency"] == 2
    assert owner_client.post("/runs/new/", sent)["Location"] == answer["Location"]
    shown = owner_client.get(answer["Location"]).content.decode()
    assert "My server" in shown
    assert "2 users" in shown


def test_the_frozen_inputs_know_neither_address_nor_key(owner):
    endpoint = register(owner, "http://127.0.0.1:9999/v1", KEY)
    run = launch(endpoint)
    text = json.dumps(run.spec)
    for secret in (KEY, endpoint.sealed_key, "127.0.0.1", "9999"):
        assert secret not in text


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"endpoint": ""}, "endpoint", "Choose the endpoint"),
        ({"endpoint": "x" * 16}, "endpoint", "from the list"),
        ({"send": "poisson"}, "load_rate", "how many requests arrive"),
        ({"send": "sweep", "load_levels": "8, 4"}, "load_levels", "the smaller first"),
        ({"send": "sweep", "load_levels": "many"}, "load_levels", "doublings"),
        ({"send": "sweep", "load_gain": "2"}, "load_gain", "at most 1"),
        ({"send": "closed", "load_requests": "99999"}, "load_requests", "from 1 to"),
        ({"output_tokens": "0"}, "output_tokens", "at least 1"),
        ({"output_tokens": "900000", "send": "closed", "load_requests": "20000"}, "load_requests", "are allowed"),
    ],
)
def test_what_cannot_be_asked_is_said_at_its_field_and_nothing_is_lost(owner_client, endpoint, changes, field, says):
    answer = owner_client.post("/runs/new/", FORM | {"endpoint": endpoint.public_id, "title": "Mine"} | changes)
    assert answer.status_code == 422
    assert says in " ".join(answer.context["form"].errors[field])
    assert 'value="Mine"' in answer.content.decode()
    assert not Run.objects.exists()


def test_an_endpoint_without_a_model_says_what_to_do(owner):
    with pytest.raises(FieldErrors) as refused:
        launch(made(owner, model=""))
    assert "choose one" in refused.value.errors["endpoint"]


def test_only_those_who_see_an_endpoint_send_requests_to_it(endpoint, stranger, teammate, team):
    sent = FORM | {"endpoint": endpoint.public_id}
    answer = client_for(stranger).post("/runs/new/", sent)
    assert "from the list" in " ".join(answer.context["form"].errors["endpoint"])
    with pytest.raises(FieldErrors) as refused:
        launch_endpoint_run(owner=stranger, endpoint=endpoint, workload={})
    assert "endpoint" in refused.value.errors
    endpoint.visibility, endpoint.team = "team", team
    endpoint.save()
    assert client_for(teammate).post("/runs/new/", sent).status_code == 302


def test_the_preview_says_what_is_sent_at_most(owner_client, endpoint):
    sent = FORM | {
        "endpoint": endpoint.public_id,
        "warmup": "1",
        "send": "sweep",
        "load_levels": "1,8",
        "load_requests": "10",
    }
    shown = " ".join(owner_client.post("/runs/new/preview/", sent).content.decode().split())
    # Ten requests with one user, sixteen with eight (two each), and one to warm up; four tokens each.
    assert "At most 27 requests, 108 tokens" in shown


# --- carrying out ---


def everything_that_is_kept(run, client):
    document = json.dumps(RunDocument.objects.filter(run=run).values_list("data", flat=True).first())
    events = " ".join(run.events.values_list("message", flat=True))
    row = json.dumps({name: str(value) for name, value in vars(run).items()})
    pages = [client.get(f"/runs/{run.public_id}{end}") for end in ("/", ".json", ".csv")]
    bodies = [b"".join(page.streaming_content) if page.streaming else page.content for page in pages]
    return " ".join([document, events, row, *(body.decode() for body in bodies)])


def test_a_load_is_sent_and_what_came_back_is_shown_without_the_key(owner, owner_client, caplog):
    with endpoint_server(KEY) as there:
        run = carry_out(
            launch(register(owner, there.base, KEY), {"load_mode": "closed", "load_concurrency": 2, "load_requests": 6})
        )
        requests = there.requests()
    assert run.state == "done", run.error
    assert len(requests) == 7
    assert {one["authorization"] for one in requests} == {f"Bearer {KEY}"}
    document = run.document.data
    assert (document["kind"], document["load"]["served"], document["tokens"]["output_from"]) == (
        "endpoint",
        6,
        "server",
    )
    assert document["output"]["texts"] == ["… word word word "]
    assert TOKEN_S <= run.tpot_s < 5 * TOKEN_S  # later on a busy machine, never earlier
    assert run.ttft_s < run.e2e_s
    assert run.output_tokens_per_s > 0
    assert (run.memory_bytes, run.fits, run.bound, run.input_tokens) == (None, None, "", 5)
    assert run.metrics.get(key="endpoint_ttft").origin == "measured"
    kept = everything_that_is_kept(run, owner_client)
    assert KEY not in kept
    assert KEY not in caplog.text
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    for words in ("Time to first token of an endpoint", "6 of 6 requests were answered", "as the server counts them"):
        assert words in shown


def test_a_refused_key_is_said_and_not_repeated(owner, owner_client):
    with endpoint_server(KEY) as there:
        run = carry_out(
            launch(register(owner, there.base, "sk-another-key"), {"load_mode": "closed", "load_requests": 20})
        )
    assert (run.state, run.error_phase) == ("failed", "requests")
    assert "does not accept the API key" in run.error
    assert run.document.data["metrics"] == {}
    (failure,) = run.document.data["failures"]
    assert "does not accept the API key (status 401)" in failure["message"]
    assert "sk-another-key" not in everything_that_is_kept(run, owner_client)


def test_a_sweep_is_shown_with_its_levels(owner, owner_client):
    with endpoint_server() as there:
        load = {"load_mode": "sweep", "load_levels": "1,2", "load_requests": 6}
        run = carry_out(launch(register(owner, there.base), load))
    levels = run.document.data["sweep"]["levels"]
    assert [row[levels["columns"].index("served")] for row in levels["rows"]] == [6, 6]
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert f"Best level: {run.document.data['sweep']['best']} user" in shown
    (drawn,) = Page(shown).data["sweep-figure"]["data"]
    table = owner_client.get(f"/runs/{run.public_id}.json").json()["sweep"]["levels"]
    told = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert (drawn["x"], drawn["y"]) == (
        [row["interactivity"] for row in told],
        [row["output_throughput"] for row in told],
    )


def test_a_private_address_needs_an_administrators_word(owner):
    with endpoint_server() as there:
        endpoint = register(owner, there.base, private=False)
        run = carry_out(launch(endpoint))
        assert run.state == "failed"
        assert "private or reserved network" in run.error
        assert there.requests() == []
        PrivateNetwork.objects.update(active=False)
        endpoint.private = True
        endpoint.save()
        carry_out(launch(endpoint))
        assert there.requests() == []


def test_an_endpoint_that_is_gone_or_not_shared_any_more_fails_with_a_sentence(owner, stranger, endpoint):
    run = launch(endpoint)
    endpoint.owner = stranger
    endpoint.save()
    carry_out(run)
    assert (run.state, run.error_phase) == ("failed", "connect")
    assert "not shared with you any more" in run.error


def test_a_cancelled_load_ends_at_once_and_keeps_what_it_had(owner, monkeypatch):
    """The answer never ends: without a cancel this would take the whole time limit."""
    with endpoint_server(hold=True) as there:
        run = launch(register(owner, there.base), {"load_mode": "closed", "load_requests": 5}, warmup=0)
        engine = endpointengine.EndpointEngine.request

        def cancelled_once_asked(self, op, payload, *, on_progress, **options):
            def seen(stage, fraction, message):
                on_progress(stage, fraction, message)
                if stage == "requests":
                    cancel_run(run=run)

            return engine(self, op, payload, on_progress=seen, **options)

        monkeypatch.setattr(endpointengine.EndpointEngine, "request", cancelled_once_asked)
        carry_out(run)
    assert run.state == "cancelled"


def test_a_cancelled_load_keeps_every_answer_that_had_come(owner, owner_client, monkeypatch):
    """Also in its first seconds, when the engine has told nothing yet."""
    with endpoint_server() as there:
        run = launch(register(owner, there.base), {"load_mode": "closed", "load_requests": 200}, warmup=0)
        engine = endpointengine.EndpointEngine.request

        def cancelled_after_some(self, op, payload, *, on_progress, **options):
            def seen(stage, fraction, message):
                on_progress(stage, fraction, message)
                if stage == "requests" and not message.startswith("0 "):
                    cancel_run(run=run)

            return engine(self, op, payload, on_progress=seen, **options)

        monkeypatch.setattr(endpointengine.EndpointEngine, "request", cancelled_after_some)
        carry_out(run)
    assert run.state == "cancelled"
    kept = run.document.data
    assert 0 < kept["load"]["served"] == len(kept["requests"]["rows"]) < 200
    assert kept["metrics"]["endpoint_ttft"]["n"] == kept["load"]["served"]
    assert "load_cut" in {warning["code"] for warning in kept["warnings"]}
    assert "What was measured before that is below" in owner_client.get(f"/runs/{run.public_id}/").content.decode()


def test_headers_that_are_renewed_reach_the_requests_of_a_running_load(owner, monkeypatch):
    monkeypatch.setattr(endpointengine, "RENEW_S", 0.1)
    with endpoint_server() as there:
        endpoint = register(owner, there.base)
        resolve = endpointengine.resolve
        numbers = iter(range(1000))

        def renewed(endpoint):
            from dataclasses import replace

            return replace(resolve(endpoint), headers=lambda: {"Authorization": f"Bearer token-{next(numbers)}"})

        monkeypatch.setattr(endpointengine, "resolve", renewed)
        load = {"load_mode": "constant", "load_rate": 10, "load_requests": 20}
        run = carry_out(launch(endpoint, load, warmup=0))
        seen = [one["authorization"] for one in there.requests()]
    assert run.state == "done", run.error
    numbers = [int(one.rpartition("-")[2]) for one in seen]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    assert "token-" not in json.dumps(run.document.data)


def test_only_a_server_on_this_machine_waits_for_measurements(owner, monkeypatch):
    waited = []

    class Quiet:
        def __enter__(self):
            waited.append(True)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(executor, "quiet_machine", lambda run, watch: Quiet())
    with endpoint_server() as there:
        carry_out(launch(register(owner, there.base)))
    assert waited == [True]
    monkeypatch.setattr(executor, "is_here", lambda target: False)
    with endpoint_server() as there:
        carry_out(launch(register(owner, there.base)))
    assert waited == [True]


# --- reading it elsewhere ---


@pytest.fixture(scope="module")
def documents():
    """What two loads and a sweep left behind, made once."""
    found = {}
    for name, options, sweep in (
        ("load", {"requests": 6, "concurrency": 2}, None),
        ("sweep", {"requests": 4}, Sweep((1, 2))),
    ):
        with endpoint_server() as there:
            found[name] = measure_endpoint(
                Endpoint("My server", there.base, "tiny"),
                Workload(input_tokens=5, output_tokens=4, warmup=0, prompt="Why is it so?", time_limit_s=60.0),
                Load(**options),
                client,
                sweep=sweep,
            )
    return found


def finished(owner, document, **fields):
    """A run as the worker leaves it."""
    run = launch(made(owner, **fields), {"load_mode": "closed"})
    claimed = lifecycle.claim(run_id=run.pk, worker="here:1")
    assert lifecycle.finish(run=claimed, document=document)
    run.refresh_from_db()
    return run


def test_lists_exports_and_the_api_have_what_is_known_and_nothing_else(owner, owner_client, documents):
    run = finished(owner, documents["load"])
    line = next(
        csv.DictReader(io.StringIO(b"".join(owner_client.get("/runs.csv").streaming_content).decode("utf-8-sig")))
    )
    assert (line["kind"], line["hardware"], line["batch_size"], line["dtype"]) == (
        "endpoint",
        run.hardware_name,
        "",
        "",
    )
    assert float(line["ttft_s"]) == run.ttft_s
    assert line["input_tokens"] == "9"  # of a prompt: what the server counted
    assert "tiny" in owner_client.get("/runs/?kind=endpoint").content.decode()
    assert owner_client.get("/api/v1/runs/?kind=endpoint").json()["results"][0]["dtype"] is None
    rows = list(
        csv.reader(
            io.StringIO(b"".join(owner_client.get(f"/runs/{run.public_id}.csv").streaming_content).decode("utf-8-sig"))
        )
    )
    sections = {row[0] for row in rows}
    assert {"run", "endpoint", "tokens", "client", "metric", "request", "workload"} <= sections
    exported = owner_client.get(f"/runs/{run.public_id}.json").json()
    assert exported["requests"] == documents["load"]["requests"]


def test_two_endpoints_and_an_estimate_stand_side_by_side(owner, owner_client, documents):
    first, second = finished(owner, documents["load"]), finished(owner, documents["sweep"])
    estimate = factories.make_run(owner, document=documents_of_pages.estimate())
    columns = columns_of([estimate, first, second])
    table = comparison(columns)
    keys = [row["key"] for row in table["metrics"]]
    ttft = next(row for row in table["metrics"] if row["key"] == "ttft")
    assert ttft["cells"][1]["raw"] == first.ttft_s
    assert ttft["cells"][1]["delta"]
    assert ttft["cells"][1]["cautions"] == ("with network and queue",)
    assert {cell["tone"] for row in table["metrics"] for cell in row["cells"]} == {""}
    assert "endpoint_ttft" not in keys
    assert any("seen from outside" in note for note in table["notes"])
    page = owner_client.get(f"/compare/?runs={first.public_id},{second.public_id},{estimate.public_id}")
    assert "batch 0" not in page.content.decode()
    newest = owner_client.get(f"/endpoints/{first.endpoint.public_id}/").content.decode()
    assert '<td class="num">0</td>' not in newest, "a batch that nobody knows is not 0"
    assert page.status_code == 200
    assert owner_client.get(f"/compare.csv?runs={first.public_id},{second.public_id}").status_code == 200


def test_history_has_a_series_of_the_same_requests_to_the_same_endpoint(owner, owner_client, documents):
    endpoint = made(owner)
    keys = set()
    for requests in (5, 5, 9):
        keys.add(launch(endpoint, {"load_mode": "closed", "load_requests": requests}).series)
    keys.add(launch(made(owner), {"load_mode": "closed", "load_requests": 5}).series)
    assert len(keys) == 3
    run = finished(owner, documents["load"])
    listed = owner_client.get("/history/?kind=endpoint").content.decode()
    assert "tiny" in listed
    assert "None" not in listed, "what is not known of a server is left out"
    assert owner_client.get(f"/history/{run.series}/").status_code == 200


def test_shared_pages_have_no_address_no_words_of_the_server_and_texts_only_when_ticked(
    owner, anonymous_client, documents
):
    document = copy.deepcopy(documents["load"])
    document["failures"] = [
        {"kind": "connect", "message": "No connection to llm.corp.example.", "requests": 1, "retry_after_s": None}
    ]
    at = document["requests"]["columns"].index("failure")
    document["requests"]["rows"][0][at] = "No connection to llm.corp.example."
    document["warnings"] = [{"code": "no_profile", "message": "It failed: llm.corp.example."}]
    run = finished(owner, document)
    for ticked in (False, True):
        shown = json.dumps(shared_document(run, include_text=ticked))
        assert "llm.corp.example" not in shown
        assert ("Why is it so?" in shown) is ticked
        assert ("word word" in shown) is ticked
        assert "connect" in shown
    html = render_to_string(
        "runs/_result.html", run_context(shared_document(run, include_text=False), {}, shared=True, include_text=False)
    )
    assert "Why is it so?" not in html
    assert "llm.corp.example" not in html


def test_the_profile_of_the_server_is_drawn_by_the_page_and_a_hostile_one_is_not(owner, owner_client, documents):
    served = documents_of_pages.measured()
    run = finished(owner, documents["load"] | {"served": served})
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    for part in ("endpoint", "roofline", "operators", "network", "memory"):
        assert f'id="{part}"' in shown
    assert "From the server itself" in shown
    assert owner_client.get(f"/runs/{run.public_id}/graph.dot").status_code == 200
    hostile = served | {"stages": {"decode": {"time_by_bound": "x"}}, "roofline": {"points": 5, "roofs": "x"}}
    run = finished(owner, documents["load"] | {"served": hostile})
    answer = owner_client.get(f"/runs/{run.public_id}/")
    assert answer.status_code == 200
    assert 'id="endpoint"' in answer.content.decode()


def test_the_estimate_stands_beside_or_can_be_asked_for(owner, owner_client, documents):
    run = finished(owner, documents["load"])
    assert "Nobody has said which model" in owner_client.get(f"/runs/{run.public_id}/").content.decode()
    model, hardware = factories.make_model(), factories.make_hardware()
    run = finished(owner, documents["load"], language_model=model, hardware=hardware)
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert f"kind=estimate&amp;model={model.slug}&amp;hardware={hardware.slug}&amp;batch_size=2" in shown
    workload = {"batch_size": 2, "input_tokens": run.input_tokens, "output_tokens": run.output_tokens}
    estimate = factories.make_run(
        owner,
        model=model,
        hardware=hardware,
        workload=workload,
        document=documents_of_pages.estimate(),
        ttft_s=run.ttft_s * 1.5,
    )
    shown = owner_client.get(f"/runs/{run.public_id}/").content.decode()
    assert "+50.0\u202f%" in shown or "+50.0 %" in shown
    assert estimate.public_id in shown


def test_the_api_launches_and_answers(owner, owner_client):
    endpoint = made(owner)
    sent = {
        "kind": "endpoint",
        "endpoint": endpoint.public_id,
        "load_mode": "sweep",
        "load_levels": "1..4",
        "output_tokens": 8,
    }

    def post(values, address="runs"):
        return owner_client.post(f"/api/v1/{address}/", values, content_type="application/json")

    answer = post(sent)
    assert answer.status_code == 201, answer.json()
    assert answer.json()["spec"]["sweep"] == {"levels": [1, 2, 4], "gain": 0.1}
    for changes, field in (
        ({"endpoint": "x"}, "endpoint"),
        ({"dtype": "bf16"}, "dtype"),
        ({"processes": 3}, "processes"),
        ({"model": "x"}, "model"),
        ({"load_levels": "4,2"}, "load_levels"),
        ({"time_limit_s": 10**9}, "time_limit_s"),
    ):
        answer = post(sent | changes)
        assert answer.status_code == 400
        assert field in answer.json()["errors"]
    answer = post({"kind": "estimate", "model": "x", "hardware": "y", "endpoint": endpoint.public_id})
    assert "endpoint" in answer.json()["errors"]
    answer = post({"endpoint": endpoint.public_id, "prompt": "Why?", "max_output_tokens": 5, "wait": 0}, "inference")
    assert answer.status_code == 202
    run = Run.objects.get(public_id=answer.json()["run"])
    assert (run.spec["workload"]["prompt"], run.spec["load"]["requests"]) == ("Why?", 1)
