"""The options of the engine as the portal knows them: none forgotten, none typed twice, refused with the reason."""

from __future__ import annotations

from dataclasses import fields

import pytest

from llmcompare.common.errors import FieldErrors
from llmcompare.runs import preview as previews
from llmcompare.runs.models import Run
from llmcompare.runs.options import ATTENTION, OPTIONS, chosen, devices_of, tags
from llmcompare.runs.services import launch_run
from llmcompare.runs.validation import check_inputs
from profiling.client import EngineError
from profiling.precision import ACTIVATION_FORMATS, KV_FORMATS, SCHEMES, scheme
from profiling.spec import CHOICES, Workload
from tests.factories import make_hardware, make_host, make_model

#: Fields of a workload that the portal asks for by themselves.
PLAIN = {
    *("batch_size", "input_tokens", "output_tokens", "dtype", "prompt", "prompts", "iterations", "warmup"),
    *("seed", "threads", "time_limit_s"),
}
BY_NAME = {option.name: option for option in OPTIONS}


def errors_of(kind="estimate", model=None, host=None, **workload):
    hardware = None if host else make_hardware()
    with pytest.raises(FieldErrors) as caught:
        check_inputs(kind=kind, model=model or make_model(), hardware=hardware, host=host, workload=workload)
    return caught.value.errors


def test_every_field_of_the_engines_workload_is_offered():
    """A new option of the engine fails this test until somebody has described it."""
    assert {field.name for field in fields(Workload)} == PLAIN | set(BY_NAME)


def test_every_choice_is_one_that_the_engine_knows_and_none_is_missing():
    assert set(SCHEMES) <= set(BY_NAME["weights_dtype"].values)
    for name in BY_NAME["weights_dtype"].values:
        assert scheme(name)
    assert BY_NAME["activation_dtype"].values == ACTIVATION_FORMATS
    assert BY_NAME["kv_dtype"].values == KV_FORMATS
    for name, choices in CHOICES.items():
        assert BY_NAME[name].values == tuple(choice for choice in choices if choice is not None)
        assert set(BY_NAME[name].words) == set(BY_NAME[name].values), f"{name}: a value without its meaning"
    assert BY_NAME["attn_implementation"].values == ATTENTION


def test_only_what_differs_is_said():
    assert chosen(Workload().to_json()) == {}
    workload = Workload(dtype="fp16", kv_dtype="fp16", weights_dtype="int4", tensor_parallel=4, draft_acceptance=0.5)
    assert chosen(workload.to_json()) == {"weights_dtype": "int4", "tensor_parallel": 4}
    assert [tag.replace("\xa0", " ") for tag in tags(workload.to_json())] == ["int4 weights", "tensor parallel 4"]
    # Runs of a time before the option have no such key.
    assert chosen({"batch_size": 1}) == {}


def test_values_are_said_with_their_meaning():
    assert "4.156" in BY_NAME["weights_dtype"].says("int4")
    assert BY_NAME["tensor_parallel"].says(4) == "4 devices share every layer"
    assert BY_NAME["causal"].says("halved").startswith("halved: ")
    assert BY_NAME["weights_dtype"].says("fp5-of-another-version") == "fp5-of-another-version"


def test_experts_take_no_devices_of_their_own():
    workload = {"tensor_parallel": 4, "pipeline_parallel": 2, "data_parallel": 3, "expert_parallel": 12}
    assert devices_of(workload) == 24
    assert devices_of({}) == 1


@pytest.mark.parametrize(
    ("workload", "field", "reason"),
    [
        ({"weights_dtype": "int5"}, "weights_dtype", "int4"),
        ({"activation_dtype": "fp8"}, "activation_dtype", "fp8 weights"),
        ({"kv_dtype": "nf4"}, "kv_dtype", "int8"),
        ({"causal": "half"}, "causal", "halved"),
        ({"tensor_parallel": 0}, "tensor_parallel", "from 1"),
        ({"data_parallel": 2}, "data_parallel", "batch of 1"),
        ({"expert_parallel": 3, "tensor_parallel": 2}, "expert_parallel", "choose 1 or 2"),
        ({"tensor_parallel": 1024, "pipeline_parallel": 128}, "tensor_parallel", "131,072 devices"),
        ({"draft_tokens": 4}, "draft_acceptance", "how likely"),
        ({"draft_tokens": 4, "draft_acceptance": 1.5}, "draft_acceptance", "0 to 1"),
        ({"draft_acceptance": 0.5}, "draft_acceptance", "draft tokens"),
        ({"draft_cost": 0.1}, "draft_cost", "draft tokens"),
        ({"prefix_tokens": 128}, "prefix_tokens", "at most 127"),
        ({"decoder_tokens": 2}, "decoder_tokens", "encoder-decoder"),
        ({"attn_implementation": "flash"}, "attn_implementation", "sdpa"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field_with_the_reason(db, workload, field, reason):
    errors = errors_of(**workload)
    assert set(errors) == {field}
    assert reason in errors[field]


def test_one_missing_value_does_not_hide_the_other_mistakes(db):
    errors = errors_of(draft_tokens=4, batch_size=0, kv_dtype="nf4")
    assert set(errors) == {"draft_acceptance", "batch_size", "kv_dtype"}


def test_what_this_kind_of_model_has_no_use_for_is_refused(db):
    errors = errors_of(model=make_model(kind="encoder"), draft_tokens=2, draft_acceptance=0.5)
    assert set(errors) == {"draft_tokens"}


def test_a_mistake_in_a_huge_deployment_is_found_at_once(db):
    """The engine lists every degree that is possible: with millions of devices that would take seconds of the web process."""
    errors = errors_of(tensor_parallel=1024, data_parallel=65536, batch_size=65536, expert_parallel=1023)
    assert "devices together" in errors["data_parallel"]


@pytest.mark.parametrize(
    "workload",
    [
        {"weights_dtype": "int4"},
        {"pipeline_parallel": 2},
        {"prefix_tokens": 8},
        {"draft_tokens": 2, "draft_acceptance": 1},
    ],
)
def test_a_measurement_refuses_what_it_would_not_follow(db, workload):
    host = make_host(hardware=make_hardware(kind="cpu"))
    errors = errors_of("measure", host=host, **workload)
    assert next(iter(workload)) in errors
    assert "run an estimate" in errors[next(iter(workload))]


def test_a_measurement_takes_what_it_follows(db):
    host = make_host(hardware=make_hardware(kind="cpu"))
    asked = {"logits": "all", "attn_implementation": "eager", "execution": "fused", "weights_dtype": "bf16"}
    asked |= {"tensor_parallel": 2}
    inputs = check_inputs(kind="measure", model=make_model(), hardware=None, host=host, workload=asked)
    assert inputs.workload.logits == "all"


class Refusing:
    """An engine that knows the model's heads."""

    def __init__(self, field="tensor_parallel"):
        self.field, self.asked = field, 0

    def request(self, op, payload, **options):
        self.asked += 1
        raise EngineError(phase="trace", kind="spec", field=self.field, message="This model has 4 attention heads.")


def test_a_division_that_the_model_does_not_have_is_refused_before_the_run_is_stored(owner, monkeypatch):
    engine = Refusing()
    monkeypatch.setattr(previews, "warm_child", lambda: engine)
    previews.answers.clear()
    launch = {"owner": owner, "kind": "estimate", "model": make_model(), "hardware": make_hardware()}
    with pytest.raises(FieldErrors) as caught:
        launch_run(**launch, workload={"tensor_parallel": 8})
    assert caught.value.errors == {"tensor_parallel": "This model has 4 attention heads."}
    assert not Run.objects.exists()
    launch_run(**launch, workload={"weights_dtype": "int4"})
    assert engine.asked == 1, "other options need no engine before the launch"


def test_an_engine_that_does_not_answer_stops_no_launch(owner, monkeypatch):
    monkeypatch.setattr(previews, "warm_child", lambda: Refusing(field=None))
    previews.answers.clear()
    launch_run(
        owner=owner, kind="estimate", model=make_model(), hardware=make_hardware(), workload={"tensor_parallel": 8}
    )
    assert Run.objects.get().spec["workload"]["tensor_parallel"] == 8
