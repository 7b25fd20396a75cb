"""The new-run page: prefilled by the address, nothing typed is lost, one run per form, and what it will need."""

from __future__ import annotations

import pytest

from llmcompare.catalog.models import LanguageModel
from llmcompare.runs import preview as previews
from llmcompare.runs.models import Run
from profiling.client import EngineError
from tests import factories
from tests.pages.conftest import estimate_document


@pytest.fixture
def model(db):
    return factories.make_model(name="Small one")


@pytest.fixture
def hardware(db):
    return factories.make_hardware(name="Board", vendor="Maker")


@pytest.fixture
def filled(model, hardware):
    """What a browser sends."""
    return {
        "kind": "estimate",
        "model": model.slug,
        "hardware": hardware.slug,
        "host": "",
        "prompt": "",
        "batch_size": "2",
        "input_tokens": "64",
        "output_tokens": "16",
        "dtype": "bf16",
        "iterations": "3",
        "warmup": "1",
        "logits": "last",
        "visibility": "private",
        "team": "",
        "title": "My title",
        "notes": "",
        "idempotency_key": "key-1",
    }


class Engine:
    """Stands in for the engine child, which other tests start for real: answers with a stored estimate."""

    def __init__(self, error: EngineError | None = None) -> None:
        self.error, self.requests = error, []

    def request(self, op, payload, **options):
        self.requests.append((op, payload))
        if self.error:
            raise self.error
        return estimate_document()


@pytest.fixture
def engine(monkeypatch):
    child = Engine()
    monkeypatch.setattr(previews, "warm_child", lambda: child)
    previews.answers.clear()
    return child


def test_started_run_has_what_was_asked(owner_client, owner, filled, model, hardware):
    response = owner_client.post("/runs/new/", filled)
    run = Run.objects.get()
    assert response["Location"] == f"/runs/{run.public_id}/"
    assert (run.owner, run.model, run.hardware, run.title) == (owner, model, hardware, "My title")
    assert (run.batch_size, run.input_tokens, run.output_tokens, run.dtype) == (2, 64, 16, "bf16")
    assert run.spec["workload"]["iterations"] == 3


def test_sent_twice_it_is_one_run(owner_client, filled):
    first = owner_client.post("/runs/new/", filled)
    second = owner_client.post("/runs/new/", filled)
    assert Run.objects.count() == 1
    assert first["Location"] == second["Location"]


def test_each_form_has_a_key_of_its_own(owner_client, model):
    keys = {owner_client.get("/runs/new/").context["form"]["idempotency_key"].value() for _ in range(2)}
    assert len(keys) == 2
    assert all(keys)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", "0", "Enter a whole number from 1"),
        ("input_tokens", "-5", "Enter a whole number from 1"),
        ("output_tokens", "many", "Enter a whole number"),
        ("input_tokens", "250", "more than the 256 of context"),
        ("model", "nonsense", "Choose a model from the list"),
        ("hardware", "", "Choose the hardware to estimate for"),
        ("dtype", "fp128", "fp128"),
        ("title", "x" * 200, "150"),
    ],
)
def test_mistakes_are_said_at_the_field_and_nothing_typed_is_lost(owner_client, filled, field, value, message):
    sent = filled | {"notes": "A long thought.", field: value}
    response = owner_client.post("/runs/new/", sent)
    assert response.status_code == 422
    assert Run.objects.count() == 0
    page = response.content.decode()
    error = page[page.index(f'id="id_{field}_error"') :]
    assert message in error[: error.index("</div>")]
    assert "A long thought." in page
    assert 'value="key-1"' in page
    form = response.context["form"]
    assert {name: form[name].value() for name in sent} == sent


def test_format_without_a_known_rate_is_refused_with_those_that_have_one(owner_client, filled):
    board = factories.make_hardware(peak_flops={"fp16": 1e12, "bf16": None})
    page = owner_client.post("/runs/new/", filled | {"hardware": board.slug}).content.decode()
    assert "No bf16 rate is known" in page
    assert "Choose fp16." in page


def test_other_peoples_models_cannot_be_chosen(owner_client, stranger, filled):
    private = factories.make_model(source="upload", owner=stranger, name="Hidden one")
    assert "Hidden one" not in owner_client.get("/runs/new/").content.decode()
    response = owner_client.post("/runs/new/", filled | {"model": private.slug})
    assert response.status_code == 422
    assert Run.objects.count() == 0


def test_measuring_needs_a_host_that_is_online(owner_client, filled, hardware):
    host = factories.make_host(hardware=hardware, seen=None)
    measure = filled | {"kind": "measure", "hardware": ""}
    assert "Choose the host to measure on" in owner_client.post("/runs/new/", measure).content.decode()
    page = owner_client.post("/runs/new/", measure | {"host": host.slug}).content.decode()
    assert "is offline" in page


def test_the_only_machine_that_can_measure_is_chosen_already(owner_client, model):
    host = factories.make_host()
    factories.make_host(seen=None)
    page = owner_client.get("/runs/new/", {"kind": "measure"})
    assert page.context["form"]["host"].value() == host.slug
    factories.make_host()
    assert not owner_client.get("/runs/new/", {"kind": "measure"}).context["form"]["host"].value()


def test_measurement_keeps_its_prompt(owner_client, filled, model, hardware, engine):
    # Only real weights come with a tokenizer.
    LanguageModel.objects.filter(pk=model.pk).update(weights="local", weights_path="/weights")
    host = factories.make_host(hardware=hardware, details={"ram_bytes": 64 * 10**9})
    sent = filled | {"kind": "measure", "hardware": "", "host": host.slug, "prompt": " What?\n"}
    response = owner_client.post("/runs/new/", sent)
    assert response.status_code == 302, response.context["form"].errors
    run = Run.objects.get()
    assert run.kind == "measure"
    assert run.host == host
    assert run.spec["workload"]["prompt"].strip() == "What?"


def test_address_fills_the_form(owner_client, model, hardware):
    form = owner_client.get(f"/runs/new/?model={model.slug}&hardware={hardware.slug}&batch_size=7").context["form"]
    assert (form["model"].value(), form["hardware"].value(), str(form["batch_size"].value())) == (
        model.slug,
        hardware.slug,
        "7",
    )


def test_run_again_takes_the_settings(owner_client, owner, model, hardware):
    run = factories.make_run(owner, model=model, hardware=hardware, workload={"batch_size": 9, "dtype": "fp16"})
    target = owner_client.get(f"/runs/{run.public_id}/rerun/")["Location"]
    form = owner_client.get(target).context["form"]
    assert (form["model"].value(), form["batch_size"].value(), form["dtype"].value()) == (model.slug, 9, "fp16")


def test_settings_of_a_hidden_run_stay_hidden(stranger_client, owner, model):
    run = factories.make_run(owner, model=model, workload={"batch_size": 9})
    form = stranger_client.get(f"/runs/new/?from={run.public_id}").context["form"]
    assert form["batch_size"].value() == 1
    assert stranger_client.get(f"/runs/{run.public_id}/rerun/").status_code == 404


def test_team_runs_need_the_team(owner_client, filled, team):
    page = owner_client.post("/runs/new/", filled | {"visibility": "team"})
    assert page.status_code == 422
    owner_client.post("/runs/new/", filled | {"visibility": "team", "team": team.slug})
    assert Run.objects.get().team == team


def test_preview_says_memory_and_time(owner_client, filled, engine):
    response = owner_client.post("/runs/new/preview/", filled)
    document = estimate_document()
    shown = response.context["panel"]["result"]
    assert shown["total_bytes"] == document["memory"]["estimate"]["total_bytes"]
    assert shown["e2e_s"] == document["metrics"]["e2e_latency"]["value"]
    assert "of memory" in response.content.decode()
    assert Run.objects.count() == 0


def test_preview_of_unusable_input_says_why_and_asks_no_engine(owner_client, filled, engine):
    page = owner_client.post("/runs/new/preview/", filled | {"batch_size": "0"}).content.decode()
    assert "Batch size:" in page
    assert "Enter a whole number from 1" in page
    assert engine.requests == []


def test_preview_shows_what_the_engine_refuses(owner_client, filled, engine):
    engine.error = EngineError(phase="trace", kind="refused", field="config", message="This architecture is not known.")
    assert "This architecture is not known." in owner_client.post("/runs/new/preview/", filled).content.decode()


def test_what_the_engine_says_in_the_preview_is_in_the_readers_language(
    owner, owner_client, filled, engine, monkeypatch
):
    found = estimate_document()
    found["conventions"]["ceilings"] = (
        "datasheet: the vendor's dense rates and bandwidth: an optimistic bound, real runs are slower (bf16 rate)"
    )
    found["warnings"] = [{"code": "x", "message": "Other processes used 1.5 of 2 cores."}]
    monkeypatch.setattr(engine, "request", lambda op, payload, **options: found)
    owner.language = "zh-hans"
    owner.save()
    page = owner_client.post("/runs/new/preview/", filled).content.decode()
    assert "规格书：厂商的稠密速率和带宽" in page
    assert "其他进程使用了 2 个核心中的 1.5 个。" in page
    assert "Other processes" not in page


def test_preview_works_without_javascript_and_keeps_the_form(owner_client, filled, engine):
    response = owner_client.post("/runs/new/", filled | {"preview": "1"})
    assert response.status_code == 200
    page = response.content.decode()
    assert "of memory" in page
    assert 'value="My title"' in page
    assert Run.objects.count() == 0


def test_random_weights_are_said(owner_client, filled, hardware, engine):
    host = factories.make_host(hardware=hardware, details={"ram_bytes": 64 * 10**9})
    measured = filled | {"kind": "measure", "host": host.slug}
    assert "Random weights." in owner_client.post("/runs/new/preview/", measured).content.decode()
    assert "Random weights." not in owner_client.post("/runs/new/preview/", filled).content.decode()


def test_queries_do_not_grow_with_the_catalogue(owner_client, django_assert_max_num_queries):
    for _ in range(20):
        factories.make_model()
        factories.make_host(hardware=factories.make_hardware())
    with django_assert_max_num_queries(10):
        owner_client.get("/runs/new/")
