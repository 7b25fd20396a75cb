"""Options of an estimate on the new-run page: folded, offered as the engine has them, kept when the form comes back."""

from __future__ import annotations

import re

import pytest

from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS
from profiling.precision import SCHEMES
from profiling.spec import Workload
from tests import factories
from tests.pages.test_new import engine, filled, hardware, model  # noqa: F401  (fixtures)

WANTED = {
    "weights_dtype": "int4",
    "activation_dtype": "",
    "kv_dtype": "fp8",
    "tensor_parallel": "2",
    "pipeline_parallel": "1",
    "execution": "fused",
    "causal": "halved",
    "draft_tokens": "3",
    "draft_acceptance": "0.75",
    "draft_cost": "",
    "prefix_tokens": "16",
}


def group(page: str, key: str) -> str:
    """The tag that opens a folding group."""
    return re.search(rf'<details class="option-group" id="options-{key}"[^>]*>', page)[0]


@pytest.mark.usefixtures("engine")
def test_a_started_run_has_the_options_that_were_asked(owner_client, filled):  # noqa: F811
    response = owner_client.post("/runs/new/", filled | WANTED)
    assert response.status_code == 302, response.context["form"].errors
    workload = Workload(**Run.objects.get().spec["workload"])
    assert (workload.weights_dtype, workload.kv_dtype, workload.activation_dtype) == ("int4", "fp8", None)
    assert (workload.tensor_parallel, workload.execution, workload.causal) == (2, "fused", "halved")
    assert (workload.draft_tokens, workload.draft_acceptance, workload.draft_cost) == (3, 0.75, None)
    assert workload.prefix_tokens == 16


def test_a_form_without_them_starts_a_run_with_the_engines_defaults(owner_client, filled):  # noqa: F811
    filled.pop("logits")
    owner_client.post("/runs/new/", filled)
    workload = Run.objects.get().spec["workload"]
    assert {o.name: workload[o.name] for o in OPTIONS} == {o.name: o.default for o in OPTIONS}


def test_every_format_of_the_engine_can_be_chosen_and_every_option_has_its_help(owner_client, model):  # noqa: F811
    page = owner_client.get("/runs/new/").content.decode()
    for name in SCHEMES:
        assert f'<option value="{name}">' in page
    for option in OPTIONS:
        assert f'name="{option.name}"' in page
        assert f'id="id_{option.name}_helptext"' in page
        assert f'aria-describedby="id_{option.name}_helptext"' in page


def test_groups_are_folded_until_something_in_them_differs(owner_client, model):  # noqa: F811
    page = owner_client.get("/runs/new/").content.decode()
    assert " open" not in group(page, "precision") + group(page, "devices")
    page = owner_client.get("/runs/new/?weights_dtype=int4").content.decode()
    assert " open" in group(page, "precision")
    assert " open" not in group(page, "devices")


@pytest.mark.parametrize(
    ("field", "value", "key", "message"),
    [
        ("weights_dtype", "int5", "precision", "int5 cannot be chosen"),
        ("activation_dtype", "fp8", "precision", "fp8 activations need fp8 weights"),
        ("tensor_parallel", "0", "devices", "Enter a whole number from 1"),
        ("tensor_parallel", "two", "devices", "Enter a whole number"),
        ("data_parallel", "9", "devices", "A batch of 2 has no work for 9 replicas"),
        ("expert_parallel", "4", "devices", "choose 1"),
        ("draft_tokens", "4", "serving", ""),
        ("draft_acceptance", "nan", "serving", "Enter a number"),
        ("prefix_tokens", "64", "serving", "at most 63"),
        ("decoder_tokens", "5", "serving", "encoder-decoder"),
        ("mla", "absorbing", "conventions", "absorbing cannot be chosen"),
    ],
)
def test_mistakes_are_said_at_the_field_in_an_open_group_and_nothing_is_lost(
    owner_client,
    filled,  # noqa: F811
    field,
    value,
    key,
    message,
):
    sent = filled | {"notes": "A long thought.", "causal": "halved", field: value}
    response = owner_client.post("/runs/new/", sent)
    assert response.status_code == 422
    assert not Run.objects.exists()
    page = response.content.decode()
    assert " open" in group(page, key)
    wrong = "draft_acceptance" if field == "draft_tokens" else field
    error = page[page.index(f'id="id_{wrong}_error"') :]
    assert message in error[: error.index("</div>")]
    form = response.context["form"]
    assert {name: form[name].value() for name in sent} == sent


def test_what_the_engine_refuses_about_a_division_is_said_at_its_field(owner_client, filled, engine):  # noqa: F811
    from profiling.client import EngineError

    engine.error = EngineError(phase="trace", kind="spec", field="tensor_parallel", message="It has 4 heads.")
    page = owner_client.post("/runs/new/", filled | {"tensor_parallel": "8"}).content.decode()
    error = page[page.index('id="id_tensor_parallel_error"') :]
    assert "It has 4 heads." in error[: error.index("</div>")]
    assert " open" in group(page, "devices")
    assert 'name="tensor_parallel" value="8"' in page


def test_hidden_mistakes_do_not_stand_in_the_way_of_a_measurement(owner_client, filled, hardware, engine):  # noqa: F811
    """On the page these fields are hidden once one wants to measure, so nobody could correct them."""
    host = factories.make_host(hardware=hardware, details={"ram_bytes": 64 * 10**9})
    wrong = {"pipeline_parallel": "x", "weights_dtype": "int4", "draft_tokens": "4", "attn_implementation": "eager"}
    response = owner_client.post("/runs/new/", filled | wrong | {"kind": "measure", "host": host.slug})
    assert response.status_code == 302, response.context["form"].errors
    workload = Run.objects.get().spec["workload"]
    assert (workload["pipeline_parallel"], workload["weights_dtype"], workload["draft_tokens"]) == (1, None, 0)
    assert workload["attn_implementation"] == "eager", "a measurement follows this one"


def test_run_again_keeps_every_option(owner_client, owner, model, hardware):  # noqa: F811
    workload = {
        "weights_dtype": "int4-g64",
        "kv_dtype": "int8",
        "tensor_parallel": 2,
        "window": "windowed",
        "draft_tokens": 2,
        "draft_acceptance": 0.5,
        "prefix_tokens": 8,
    }
    run = factories.make_run(owner, model=model, hardware=hardware, workload=workload)
    response = owner_client.get(f"/runs/new/?from={run.public_id}")
    form = response.context["form"]
    assert {name: form[name].value() for name in workload} == workload
    page = response.content.decode()
    for key in ("precision", "devices", "conventions", "serving"):
        assert " open" in group(page, key)
    assert '<option value="int4-g64" selected>' in page


def test_the_preview_asks_for_the_options_and_says_what_one_device_needs(owner_client, filled, engine, monkeypatch):  # noqa: F811
    from tests.pages import test_new

    document = test_new.estimate_document() | {"parallelism": {"devices": 2}}
    monkeypatch.setattr(test_new, "estimate_document", lambda: document)
    for address, extra in (("/runs/new/preview/", {}), ("/runs/new/", {"preview": "1"})):
        response = owner_client.post(address, filled | WANTED | extra)
        assert response.status_code == 200
        assert "on each of 2 devices" in response.content.decode()
    _, payload = engine.requests[0]
    asked = payload["spec"]["workload"]
    assert (asked["weights_dtype"], asked["tensor_parallel"], asked["draft_acceptance"]) == ("int4", 2, 0.75)
    form = response.context["form"]
    assert {name: form[name].value() for name in WANTED} == WANTED
