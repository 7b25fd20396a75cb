"""What users do to runs: launching with its checks, cancelling, deleting, restoring."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from hardware.models import Ceiling
from llmcompare.common.errors import FieldErrors, QuotaExceeded
from llmcompare.runs import preview, services
from llmcompare.runs.exports import shown_spec
from llmcompare.runs.models import Run
from llmcompare.runs.services import cancel_run, delete_run, launch_run, restore_run
from profiling.client import EngineError
from profiling.spec import RunSpec, digest
from tests.factories import make_hardware, make_host, make_model, make_run


@pytest.fixture
def bells(monkeypatch):
    """Ids of the runs that were rung for."""
    rung = []
    monkeypatch.setattr(services, "ring", lambda run: rung.append(run.pk))
    return rung


@pytest.fixture
def no_engine(monkeypatch):
    """The web process has no engine that answers."""

    class Silent:
        def request(self, *args, **kwargs):
            raise EngineError(phase="start", kind="missing", message="There is no engine here.")

    monkeypatch.setattr(preview, "warm_child", Silent)
    preview.answers.clear()


@pytest.fixture
def launch(owner, no_engine, bells, django_capture_on_commit_callbacks):
    def launch(**values):
        values = {"owner": owner, "kind": "estimate", "workload": {}} | values
        if "model" not in values:
            values["model"] = make_model()
        if values["kind"] == "estimate" and "hardware" not in values and "host" not in values:
            values["hardware"] = make_hardware()
        with django_capture_on_commit_callbacks(execute=True):
            return launch_run(**values)

    return launch


def host_with_hardware(**fields):
    details = {"ram_bytes": 16 * 10**9} | fields.pop("details", {})
    hardware = fields.pop("hardware", None) or make_hardware(kind="cpu", peak_flops={})
    return make_host(hardware=hardware, details=details, **fields)


def errors_of(launch, **values) -> dict[str, str]:
    with pytest.raises(FieldErrors) as caught:
        launch(**values)
    assert not Run.objects.exists(), "nothing may be stored of a run that is refused"
    return caught.value.errors


def test_an_estimate_is_stored_and_rung_for_once(launch, owner, bells):
    run = launch(workload={"batch_size": 2, "input_tokens": 16, "output_tokens": 8, "dtype": "bf16"}, title=" Mine ")
    assert (run.state, run.queue, run.attempt, run.title) == ("queued", "estimate", 0, "Mine")
    assert (run.batch_size, run.input_tokens, run.output_tokens, run.dtype) == (2, 16, 8, "bf16")
    assert bells == [run.pk]
    assert [event.message for event in run.events.all()] == ["Queued."]


def test_inputs_are_frozen_with_their_digest(launch):
    model, hardware = make_model(), make_hardware()
    run = launch(model=model, hardware=hardware)
    hardware.memory_bandwidth = 1.0
    hardware.save()
    model.delete()
    run.refresh_from_db()
    assert run.spec["hardware"]["memory_bandwidth"] == 2e12
    assert run.spec["model"]["config"]["hidden_size"] == 64
    assert run.spec_digest == digest(run.spec) == RunSpec.from_json(run.spec).digest()
    assert run.model is None
    assert run.model_name


def test_a_measurement_waits_at_its_host_with_the_host_s_ceilings(launch):
    host = host_with_hardware()
    Ceiling.objects.create(
        host=host, op_class="gemm", dtype="fp32", value=1e11, unit="FLOP/s", measured_at=timezone.now()
    )
    run = launch(kind="measure", host=host, workload={"dtype": "fp32"})
    assert (run.queue, run.host, run.hardware) == (host.queue, host, host.hardware)
    assert run.spec["hardware"]["ceilings"][0]["value"] == 1e11
    assert run.spec["hardware"]["memory_bytes"] == 16 * 10**9
    assert run.spec["protocol"]["processes"] == 3


def test_two_measurements_of_one_host_take_turns(launch, stranger):
    host, elsewhere = host_with_hardware(), host_with_hardware(slug="elsewhere")
    base = launch(kind="measure", host=host, workload={"dtype": "fp32"})
    run = launch(kind="measure", host=host, workload={"dtype": "bf16"}, against=base)
    assert run.spec["against"]["workload"]["dtype"] == "fp32"
    assert run.spec["against"]["model"] == base.spec["model"]
    for refused in (
        {"kind": "measure", "host": elsewhere},
        {"kind": "estimate"},
        {"kind": "measure", "host": host, "owner": stranger},
    ):
        with pytest.raises(FieldErrors) as caught:
            launch(**refused, against=base)
        assert set(caught.value.errors) >= {"against"}


def test_what_a_run_takes_turns_with_shows_no_folder_of_the_server(launch):
    host, model = host_with_hardware(), make_model(weights="local", weights_path="/srv/private/weights")
    run = launch(kind="measure", host=host, against=launch(kind="measure", host=host, model=model))
    assert run.spec["against"]["model"]["weights_path"] == "/srv/private/weights", "the worker needs it"
    shown = shown_spec(run)
    assert shown["against"]["model"]["name"] == model.name
    assert "/srv/private" not in json.dumps(shown)


def test_a_measurement_is_repeated_as_asked_and_an_estimate_is_not(launch):
    host = host_with_hardware()
    wrong = [("processes", 0), ("processes", 21), ("processes", "3"), ("min_seconds", -1), ("min_seconds", 1e9)]
    for name, value in wrong:
        assert set(errors_of(launch, kind="measure", host=host, protocol={name: value})) == {name}
    assert set(errors_of(launch, protocol={"processes": 2})) == {"processes"}
    run = launch(kind="measure", host=host, protocol={"processes": 5, "min_seconds": 2.5})
    assert (run.spec["protocol"]["processes"], run.spec["protocol"]["min_seconds"]) == (5, 2.5)
    assert launch().spec["protocol"] is None


def test_a_measurement_may_be_put_under_load(launch):
    host = host_with_hardware()
    asked = {"load_mode": "poisson", "load_rate": 4.0, "load_output_lengths": "uniform(2, 8)", "load_ttft_s": 0.5}
    wrong = [
        ({"load_rate": 4.0}, "load_rate"),
        ({"load_mode": "gamma"}, "load_mode"),
        ({"load_mode": "poisson"}, "load_rate"),
        ({"load_mode": "closed", "load_concurrency": 0}, "load_concurrency"),
        ({"load_mode": "closed", "load_input_lengths": "zipf(3)"}, "load_input_lengths"),
        ({"load_mode": "closed", "load_input_lengths": "uniform(1, 9000000)"}, "load_input_lengths"),
    ]
    for load, field in wrong:
        assert set(errors_of(launch, kind="measure", host=host, load=load)) == {field}
    assert set(errors_of(launch, load=asked)) == set(asked), "an estimate has none"
    run = launch(kind="measure", host=host, load=asked)
    assert (run.spec["load"]["mode"], run.spec["load"]["rate"], run.spec["load"]["ttft_s"]) == ("poisson", 4.0, 0.5)
    assert launch(kind="measure", host=host).spec["load"] is None


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("batch_size", 0, "from 1"),
        ("batch_size", -3, "from 1"),
        ("batch_size", 2.5, "whole number"),
        ("batch_size", "2", "whole number"),
        ("input_tokens", 0, "from 1"),
        ("output_tokens", -1, "from 0"),
        ("iterations", 0, "from 1"),
        ("dtype", "fp13", "fp32"),
        ("logits", "some", "last or all"),
        ("attn_implementation", "magic", "sdpa or eager"),
        ("prompt", 5, "text"),
        ("seed", -1, "whole number"),
        ("threads", 0, "whole number"),
        ("time_limit_s", float("nan"), "seconds"),
        ("wings", 2, "no field"),
    ],
)
def test_a_wrong_value_gets_its_message_at_its_field(launch, field, value, part):
    errors = errors_of(launch, workload={field: value})
    assert list(errors) == [field]
    assert part in errors[field]


def test_all_wrong_fields_are_said_at_once(launch):
    errors = errors_of(launch, workload={"batch_size": 0, "output_tokens": -1, "dtype": "x"}, title="x" * 151)
    assert set(errors) == {"batch_size", "output_tokens", "dtype", "title"}


def test_more_tokens_than_the_context_are_refused_with_both_numbers(launch):
    model = make_model(max_context=256)
    errors = errors_of(launch, model=model, workload={"input_tokens": 250, "output_tokens": 10})
    assert set(errors) == {"input_tokens"}
    assert "260" in errors["input_tokens"]
    assert "256" in errors["input_tokens"]
    assert launch(model=model, workload={"input_tokens": 246, "output_tokens": 10})


def test_a_model_without_a_known_context_takes_any_length(launch):
    assert launch(model=make_model(max_context=None), workload={"input_tokens": 10**6})


def test_a_format_without_a_known_rate_is_refused_and_the_known_ones_are_named(launch):
    hardware = make_hardware(peak_flops={"fp32": 1e13, "fp16": 2e13, "bf16": None})
    errors = errors_of(launch, hardware=hardware, workload={"dtype": "bf16"})
    assert "fp32 or fp16" in errors["dtype"]


def test_hardware_of_which_no_rate_is_known_still_gets_a_memory_estimate(launch):
    assert launch(hardware=make_hardware(peak_flops={"bf16": None}), workload={"dtype": "bf16"})


def test_an_encoder_generates_nothing_and_the_log_says_so(launch):
    run = launch(model=make_model(kind="encoder", name="BERT"), workload={"output_tokens": 32})
    assert run.output_tokens == 0
    assert run.spec["workload"]["output_tokens"] == 0
    assert any("BERT is an encoder" in event.message for event in run.events.all())


def test_an_estimate_needs_hardware_and_a_measurement_a_host(launch):
    assert set(errors_of(launch, hardware=None)) == {"hardware"}
    assert set(errors_of(launch, kind="measure")) == {"host"}
    assert set(errors_of(launch, kind="guess", hardware=make_hardware())) == {"kind"}


def test_an_offline_host_is_refused(launch):
    host = host_with_hardware(seen=timezone.now() - timedelta(minutes=5))
    assert "offline" in errors_of(launch, kind="measure", host=host)["host"]


def test_a_host_without_engine_is_refused_with_its_reason(launch):
    host = host_with_hardware(has_engine=False, engine_note="Not installed here: torch.")
    assert "Not installed here: torch." in errors_of(launch, kind="measure", host=host)["host"]


def test_a_host_that_is_another_hardware_is_refused(launch):
    errors = errors_of(launch, kind="measure", host=host_with_hardware(), hardware=make_hardware())
    assert set(errors) == {"hardware"}


def test_weights_that_do_not_fit_are_refused_with_the_numbers_without_an_engine(launch):
    model = make_model(parameters=70 * 10**9)
    errors = errors_of(launch, kind="measure", host=host_with_hardware(), model=model, workload={"dtype": "bf16"})
    assert "140 GB" in errors["model"]
    assert "16 GB" in errors["model"]
    assert launch(model=model, workload={"dtype": "bf16"}), "the estimate still works"


def test_a_cache_that_does_not_fit_is_refused(launch):
    facts = {"weight_bytes": {"bf16": 10**9}, "kv_cache_bytes_per_token": {"bf16": 10**6}}
    model = make_model(facts=facts, max_context=None)
    workload = {"batch_size": 8, "input_tokens": 4000, "output_tokens": 1}
    errors = errors_of(launch, kind="measure", host=host_with_hardware(), model=model, workload=workload)
    assert "33 GB" in errors["model"]


def test_weights_that_are_being_prepared_cannot_be_measured_yet(launch):
    model = make_model(weights="preparing")
    assert "prepared" in errors_of(launch, kind="measure", host=host_with_hardware(), model=model)["model"]
    assert launch(model=model)


def test_a_prompt_needs_a_tokenizer(launch):
    errors = errors_of(launch, kind="measure", host=host_with_hardware(), workload={"prompt": "Hello"})
    assert "no tokenizer" in errors["prompt"]
    model = make_model(weights="local", weights_path="/somewhere")
    run = launch(kind="measure", host=host_with_hardware(), model=model, workload={"prompt": "Hello"})
    assert run.spec["workload"]["prompt"] == "Hello"
    assert run.spec["model"]["weights"] == "local"


def test_a_measurement_of_a_generating_model_generates(launch):
    host = host_with_hardware()
    assert set(errors_of(launch, kind="measure", host=host, workload={"output_tokens": 0})) == {"output_tokens"}
    assert launch(workload={"output_tokens": 0})


def test_models_that_take_no_text_cannot_be_measured(launch):
    model = make_model(kind="audio")
    assert set(errors_of(launch, kind="measure", host=host_with_hardware(), model=model)) == {"model"}


def test_an_encoder_decoder_reads_and_writes_apart(launch):
    model = make_model(kind="encdec", max_context=256)
    assert launch(model=model, workload={"input_tokens": 256, "output_tokens": 256})


def test_what_one_may_not_see_cannot_be_used(launch, stranger):
    model = make_model(source="upload", owner=stranger)
    hardware = make_hardware(source="private", owner=stranger)
    assert set(errors_of(launch, model=model, hardware=hardware)) == {"model", "hardware"}


def test_runs_are_shared_with_teams_one_is_in(launch, team, stranger):
    assert launch(visibility="team", team=team).team == team
    assert launch(visibility="private", team=team).team is None
    Run.objects.all().delete()
    assert set(errors_of(launch, visibility="team")) == {"team"}
    assert set(errors_of(launch, visibility="team", team=team, owner=stranger)) == {"team"}
    assert set(errors_of(launch, visibility="world")) == {"visibility"}


def test_the_same_key_gives_the_same_run_and_no_second_bell(launch, owner, stranger, bells):
    first = launch(idempotency_key="abc")
    assert launch(idempotency_key="abc", workload={"batch_size": 0}) == first
    assert launch(idempotency_key="abc", owner=stranger) != first
    assert launch() != launch()
    assert bells.count(first.pk) == 1


def test_too_many_active_runs_are_refused(launch, owner, stranger, settings):
    settings.MAX_ACTIVE_RUNS_PER_USER = 2
    launch()
    make_run(owner, state="done")
    launch()
    with pytest.raises(QuotaExceeded, match="2 are allowed"):
        launch()
    assert launch(owner=stranger)


def test_a_broker_that_is_down_does_not_fail_the_launch(owner, no_engine, settings, django_capture_on_commit_callbacks):
    class DeadBroker:
        def send_task(self, *args, **kwargs):
            raise OSError("connection refused")

    with pytest.MonkeyPatch.context() as patch, django_capture_on_commit_callbacks(execute=True):
        patch.setattr("llmcompare.runs.queues.app", DeadBroker())
        run = launch_run(owner=owner, kind="estimate", model=make_model(), hardware=make_hardware(), workload={})
    run.refresh_from_db()
    assert run.state == "queued"


def test_a_waiting_run_is_cancelled_at_once(owner):
    run = cancel_run(run=make_run(owner))
    assert run.state == "cancelled"
    assert run.finished is not None


def test_a_running_run_is_asked_to_stop(owner):
    later = timezone.now() + timedelta(minutes=1)
    run = cancel_run(run=make_run(owner, state="running", claim="a", lease_until=later))
    assert (run.state, run.cancel_requested) == ("running", True)


def test_a_run_that_has_ended_stays_as_it_is(owner):
    run = cancel_run(run=make_run(owner, document={}))
    assert (run.state, run.cancel_requested) == ("done", False)


def test_a_deleted_run_is_in_the_bin_and_comes_back(launch, owner, stranger):
    run = delete_run(run=launch(idempotency_key="abc"))
    assert run.state == "cancelled"
    assert not Run.objects.visible_to(owner).exists()
    assert not Run.objects.binned_by(stranger).exists()
    assert launch(idempotency_key="abc") != run, "the form that made a deleted run makes a new one"
    restore_run(run=Run.objects.binned_by(owner).get())
    assert run in Run.objects.visible_to(owner)


@pytest.mark.parametrize("state", [{}, {"state": "running", "claim": "a", "lease_until": timezone.now()}])
def test_what_comes_out_of_the_bin_does_not_pass_the_quota(owner, settings, launch, state):
    """A deleted run is cancelled, one under way counts until it has ended, and neither starts again when it comes back."""
    settings.MAX_ACTIVE_RUNS_PER_USER = 1
    run = make_run(owner, **state)
    delete_run(run=run)
    if state:
        with pytest.raises(QuotaExceeded):
            launch()
        Run.objects.filter(pk=run.pk).update(state="cancelled", claim=None, lease_until=None)
    launch()
    assert restore_run(run=run).state == "cancelled"
    assert Run.objects.filter(owner=owner).active().count() == 1
