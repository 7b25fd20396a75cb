"""An estimate whose operators are timed alone on a host: asking for it, carrying it out, the host's table, and who may see what."""

from __future__ import annotations

import json
import threading

import pytest

from llmcompare.common.errors import FieldErrors
from llmcompare.runs import ceilings, executor, lifecycle, replayengine, services, watch
from llmcompare.runs.executor import execute
from llmcompare.runs.forms import NewRunForm
from llmcompare.runs.models import Run
from llmcompare.runs.replayengine import ReplayEngine
from llmcompare.runs.services import cancel_run
from profiling.client import EngineChild, EngineError
from profiling.replay import table as tables
from profiling.spec import RunSpec
from tests.factories import make_hardware, make_model, make_run
from tests.profiling import tiny
from tests.runs.replays import BUSY, WORKLOAD, Child, host_here, launched

SPEC = RunSpec("estimate", tiny.MODEL.to_json(), tiny.HOST.to_json(), tiny.WORKLOAD.to_json(), replay="cpu").to_json()


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


@pytest.fixture(autouse=True)
def _no_bells(monkeypatch):
    monkeypatch.setattr(services, "ring", lambda run: None)


@pytest.fixture
def host(db):
    return host_here()


def asked(engine, **options):
    quiet = {
        "on_progress": lambda *_: None,
        "on_log": lambda *_: None,
        "should_stop": lambda: False,
        "timeout_s": 300.0,
    }
    return engine.request("estimate", {"spec": SPEC}, **(quiet | options))


def stored() -> list:
    return sorted(replayengine.folder().glob("*.json"))


# --- asking for it ---


def test_it_waits_for_the_host_and_a_plain_estimate_does_not(owner, host):
    run = launched(owner, host)
    assert (run.kind, run.queue, run.host, run.spec["replay"]) == ("estimate", "hw.here", host, "cpu")
    assert run.replays
    plain = launched(owner, host, replay=False)
    assert (plain.queue, plain.spec["replay"], plain.replays) == ("estimate", None, False)
    assert run.series == plain.series, "the roofline estimate of both is the same"


def test_it_may_be_of_a_model_that_does_not_fit_into_the_host(owner, host):
    host.details = host.details | {"ram_bytes": 1}
    host.save()
    assert launched(owner, host).state == "queued"


@pytest.mark.parametrize(
    ("change", "field", "part"),
    [
        ({"host": None, "hardware": True}, "replay", "real machine"),
        ({"kind": "measure"}, "replay", "Only an estimate"),
        ({"workload": WORKLOAD | {"weights_dtype": "int4"}}, "weights_dtype", "transformers calls them"),
        ({"workload": WORKLOAD | {"tensor_parallel": 2}}, "tensor_parallel", "transformers calls them"),
        ({"workload": WORKLOAD | {"prefix_tokens": 4}}, "prefix_tokens", "transformers calls them"),
        ({"workload": WORKLOAD | {"output_tokens": 0}}, "output_tokens", "at least 1"),
    ],
)
def test_what_cannot_be_replayed_is_refused_at_its_field(owner, host, change, field, part):
    if change.get("hardware"):
        change = change | {"hardware": make_hardware()}
    with pytest.raises(FieldErrors) as caught:
        launched(owner, host, **change)
    assert part in caught.value.errors[field]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("fields", "part"),
    [({"has_engine": False}, "cannot measure"), ({"seen": None}, "offline"), ({"kind": "tpu"}, "neither")],
)
def test_a_host_that_cannot_time_operators_is_refused(owner, host, fields, part):
    host.hardware.kind = fields.pop("kind", "cpu")
    host.hardware.save()
    for name, value in fields.items():
        setattr(host, name, value)
    host.save()
    with pytest.raises(FieldErrors) as caught:
        launched(owner, host)
    assert part in caught.value.errors["replay"]


def filled(**changes):
    values = {
        "kind": "estimate",
        "hardware": "host:here",
        "batch_size": 1,
        "iterations": 5,
        "warmup": 2,
        "visibility": "private",
    }
    return values | WORKLOAD | {"model": make_model().slug, "replay": "on"} | changes


def test_the_form_offers_it_for_hosts_and_keeps_it_for_the_next_run(owner_client, owner, host):
    page = owner_client.get("/runs/new/").content.decode()
    assert 'name="replay"' in page
    answer = owner_client.post("/runs/new/", filled())
    run = Run.objects.get()
    assert answer.status_code == 302
    assert (run.queue, run.spec["replay"]) == ("hw.here", "cpu")
    assert owner_client.get(f"/runs/new/?from={run.public_id}").context["form"]["replay"].value() is True

    refused = owner_client.post("/runs/new/", filled(hardware=make_hardware().slug))
    assert refused.status_code == 422
    assert "real machine" in refused.context["form"].errors["replay"][0]
    assert 'id="id_replay_error"' in refused.content.decode()


def test_the_form_of_a_portal_without_measured_hosts_does_not_offer_it(owner_client, owner):
    assert 'name="replay"' not in owner_client.get("/runs/new/").content.decode()


def test_a_measurement_ignores_the_hidden_tick(owner, host):
    form = NewRunForm(filled(kind="measure", host="here"), user=owner)
    assert form.is_valid(), form.errors
    assert form.what()["replay"] is False


# --- carrying it out, with a real engine ---


def test_the_document_has_both_predictions_and_the_second_run_uses_the_table():
    progress = []
    first = asked(ReplayEngine("cpu"), on_progress=lambda stage, fraction, _: progress.append((stage, fraction)))
    metrics, replay = first["metrics"], first["replay"]
    assert metrics["ttft"]["value"] > 0, "the roofline estimate is there as ever"
    for key in ("replay_ttft", "replay_tpot"):
        assert metrics[key]["value"] > 0
        assert (metrics[key]["origin"], metrics[key]["method"]) == ("estimated", "operator replay")
    steps = tiny.WORKLOAD.output_tokens - 1
    end = metrics["replay_ttft"]["value"] + steps * metrics["replay_tpot"]["value"]
    assert metrics["replay_e2e_latency"]["value"] == pytest.approx(end)
    assert replay["shapes"]["timed_now"] > 20
    assert replay["shapes"]["from_table"] == 0
    assert (replay["device"], replay["threads"], replay["not_replayed"]) == ("cpu", 1, [])
    assert {"glue_s", "glue_from", "own_s"} <= set(replay["stages"]["decode"])
    assert "contended" in replay["conditions"]
    assert [fraction for _, fraction in progress] == sorted(fraction for _, fraction in progress), "never back"
    assert "replay" in {stage for stage, _ in progress}
    assert ("done", 1.0) not in progress[:-1]

    # Other tests may disturb this one: then nothing is kept, and the document says so.
    codes = {warning["code"] for warning in first["warnings"]}
    assert replay["table"]["kept"] is bool(stored()) is ("replay_contended" not in codes)
    if not stored():
        return
    kept = json.loads(stored()[0].read_text())
    assert all(row["quality"] == "ok" for row in kept["rows"])
    again = asked(ReplayEngine("cpu"))["replay"]["shapes"]
    assert again["from_table"] > again["timed_now"], "an engine of another process has the times of the first"
    assert again["from_table"] + again["timed_now"] == replay["shapes"]["timed_now"]


def test_cancelling_ends_the_engine_and_keeps_the_estimate(owner, host, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_S", 0)
    run = launched(owner, host, model=make_model(config=tiny.LLAMA))
    children = []

    def opened():
        children.append(EngineChild())
        return children[-1]

    class Cancelling(ReplayEngine):
        def request(self, op, payload, *, on_progress, **options):
            def report(stage, fraction, message):
                if stage == "replay":
                    cancel_run(run=Run.objects.get(pk=run.pk))
                on_progress(stage, fraction, message)

            return super().request(op, payload, on_progress=report, **options)

    monkeypatch.setattr(executor, "ReplayEngine", lambda device: Cancelling(device, opened))
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert not children[0].alive
    assert run.document.data["metrics"]["peak_memory"]["value"] > 0
    assert "replay" not in run.document.data
    assert stored() == []
    assert executor.MACHINE.acquire(blocking=False), "the machine is free again"
    executor.MACHINE.release()


def test_the_time_limit_holds_for_both_together():
    with pytest.raises(EngineError) as caught:
        asked(ReplayEngine("cpu"), timeout_s=0.0)
    assert caught.value.kind == "timeout"


# --- the table, with an engine that answers at once ---


def test_the_table_grows_and_survives_a_restart():
    child = Child()
    document = asked(ReplayEngine("cpu", child))
    assert document["replay"]["table"] == {"operators": 0, "kept": True}
    assert child.tables[0]["rows"] == []
    later = Child()
    assert asked(ReplayEngine("cpu", later))["replay"]["table"]["operators"] == 1
    assert [row["key"] for row in later.tables[0]["rows"]] == ["key"]


def test_times_of_a_busy_machine_are_shown_with_a_warning_and_not_kept():
    asked(ReplayEngine("cpu", Child()))
    before = stored()[0].read_bytes()
    log = []
    document = asked(ReplayEngine("cpu", Child(BUSY)), on_log=lambda level, text: log.append((level, text)))
    assert document["replay"]["table"]["kept"] is False
    assert [warning["code"] for warning in document["warnings"]] == ["replay_contended"]
    assert [level for level, _ in log] == ["warning"]
    assert stored()[0].read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_text(path.read_text().replace("2e-05", "9e-05")),
        lambda path: path.write_text(path.read_text().replace('"threads":1', '"threads":2')),
        lambda path: path.write_bytes(b"\x00" * 50),
    ],
    ids=["cut short", "another number", "another host", "no text"],
)
def test_a_damaged_table_is_said_put_aside_and_begun_anew(damage):
    asked(ReplayEngine("cpu", Child()))
    damage(stored()[0])
    damaged = stored()[0].read_bytes()
    child, log = Child(), []
    document = asked(ReplayEngine("cpu", child), on_log=lambda level, text: log.append((level, text)))
    assert child.tables[0]["rows"] == [], "not one number of it is used"
    (warning,) = document["warnings"]
    assert warning["code"] == "replay_table_damaged"
    assert "put aside" in warning["message"]
    assert str(replayengine.folder()) not in json.dumps(document) + json.dumps(log), "no path of the server"
    assert [level for level, _ in log] == ["warning"]
    (aside,) = replayengine.folder().glob("*.damaged")
    assert aside.read_bytes() == damaged
    assert len(json.loads(stored()[0].read_text())["rows"]) == 1, "a fresh table has what was timed now"


def test_a_full_disk_costs_the_table_and_not_the_run(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write", full)
    document = asked(ReplayEngine("cpu", Child()))
    assert document["metrics"]["replay_ttft"]["value"] == 0.6
    assert document["replay"]["table"]["kept"] is False
    assert [warning["code"] for warning in document["warnings"]] == ["replay_not_kept"]


def test_a_replay_that_fails_keeps_the_estimate(owner, host, monkeypatch):
    class Failing(Child):
        def request(self, op, payload, **options):
            if op == "replay":
                raise EngineError(phase="replay", kind="memory", message="Too much.")
            return super().request(op, payload, **options)

    monkeypatch.setattr(executor, "ReplayEngine", lambda device: ReplayEngine(device, Failing()))
    run = launched(owner, host)
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert (run.state, run.error_phase, run.error) == ("failed", "replay", "Too much.")
    assert run.document.data["metrics"]["ttft"]["value"] == 0.5


# --- the machine ---


def test_it_takes_the_machine_as_a_measurement_does(owner, host, monkeypatch):
    """Neither this worker's preparation, nor another worker's measurement, nor its ceilings go on meanwhile."""
    seen = []

    class Looking(Child):
        def request(self, op, payload, **options):
            other = make_run(owner, kind="measure", queue="hw.here")
            other = lifecycle.claim(run_id=other.pk, worker="here:2")
            seen.append(
                (
                    executor.MACHINE.locked(),
                    executor._measured_earlier(other),
                    ceilings._run_elsewhere(host, "here:2"),
                )
            )
            lifecycle.put_back(run=other)
            return super().request(op, payload, **options)

    monkeypatch.setattr(executor, "ReplayEngine", lambda device: ReplayEngine(device, Looking()))
    run = launched(owner, host)
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert seen == [(True, True, True)] * 3
    assert not executor.MACHINE.locked()


def test_it_waits_for_a_measurement_that_began_earlier(owner, host, monkeypatch):
    earlier = lifecycle.claim(run_id=make_run(owner, kind="measure", queue="hw.here").pk, worker="here:2")
    order = []

    class Noting(Child):
        def request(self, op, payload, **options):
            order.append(op)
            return super().request(op, payload, **options)

    def waiting(self, stage, fraction, message):
        if stage == "waiting":
            order.append("waiting")
            lifecycle.end_cancelled(run=earlier)

    monkeypatch.setattr(executor.Watch, "progress", waiting)
    monkeypatch.setattr(executor, "ReplayEngine", lambda device: ReplayEngine(device, Noting()))
    run = launched(owner, host)
    execute(run_id=run.pk, worker="here:1", shutdown=threading.Event())
    assert order == ["waiting", "estimate", "replay_device", "replay"]


def test_it_has_the_time_of_a_measurement(owner, host, settings):
    settings.MAX_RUN_SECONDS = 4000
    long = WORKLOAD | {"time_limit_s": 3000.0}
    assert executor._time_limit(launched(owner, host, workload=long)) == 3000.0
    assert executor._time_limit(launched(owner, host, workload=long, replay=False)) == executor.MAX_ESTIMATE_S


def test_a_table_that_all_share_names_nobody_elses_model():
    """Times of an operator serve everybody; the names of the models that it was timed for stay in the worker's file."""
    asked(ReplayEngine("cpu", Child()))
    document = asked(ReplayEngine("cpu", Child()))
    assert "private name" in stored()[0].read_text()
    assert "private name" not in json.dumps(document)
