"""Options of an estimate by the API: taken, refused at their field, described in the OpenAPI document."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command

from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS
from profiling.precision import ACTIVATION_FORMATS, KV_FORMATS, SCHEMES
from tests.api.test_documentation import GUIDE
from tests.api.test_runs import ESTIMATE
from tests.factories import make_run

GIVEN = {
    "weights_dtype": "int4",
    "kv_dtype": "fp8",
    "causal": "halved",
    "window": None,
    "experts": "topk",
    "execution": "fused",
    "prefix_tokens": 10,
    "draft_tokens": 4,
    "draft_acceptance": 0.7,
    "draft_cost": 0.1,
}


@pytest.fixture(autouse=True)
def _parts(model, gpu):
    """A model and hardware that ``ESTIMATE`` names."""


def test_options_are_taken_and_shown(owner_api):
    answer = owner_api.send("runs/", ESTIMATE | GIVEN)
    assert answer.status_code == 201, answer.json()
    made = answer.json()
    stored = Run.objects.get().spec["workload"]
    assert {name: stored[name] for name in GIVEN} == GIVEN
    assert made["options"] == {name: value for name, value in GIVEN.items() if value is not None}
    assert owner_api.read("runs/").json()["results"][0]["options"] == made["options"]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"weights_dtype": "int5"}, "weights_dtype", "int4"),
        ({"activation_dtype": "int8"}, "activation_dtype", "int8 weights"),
        ({"kv_dtype": 8}, "kv_dtype", "int8"),
        ({"execution": None}, "execution", ""),
        ({"tensor_parallel": "many"}, "tensor_parallel", "integer"),
        ({"tensor_parallel": 2000}, "tensor_parallel", "from 1 to 1024"),
        ({"data_parallel": 4}, "data_parallel", "batch of 1"),
        ({"draft_tokens": 3}, "draft_acceptance", "0 to 1"),
        ({"draft_tokens": 3, "draft_acceptance": 2}, "draft_acceptance", "0 to 1"),
        ({"prefix_tokens": 100}, "prefix_tokens", "at most 99"),
        ({"tensor_paralel": 2}, "tensor_paralel", "no such field"),
    ],
)
def test_bad_options_are_named_at_their_field_and_nothing_is_stored(owner_api, change, field, reason):
    answer = owner_api.send("runs/", ESTIMATE | change)
    assert answer.status_code == 400
    assert set(answer.json()["errors"]) == {field}
    assert reason in answer.json()["errors"][field]
    assert not Run.objects.exists()


def test_a_measurement_is_told_that_it_has_no_such_option(owner_api, host):
    asked = {"kind": "measure", "model": "tiny", "host": "here", "weights_dtype": "int4"}
    assert "run an estimate" in owner_api.send("runs/", asked).json()["errors"]["weights_dtype"]


def test_the_document_describes_every_option_with_the_engines_values(tmp_path):
    target = tmp_path / "schema.json"
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(target))
    schemas = json.loads(target.read_text())["components"]["schemas"]
    described = schemas["Launch"]["properties"]

    def values(name):
        """Choices of a field, wherever the document has them: beside it or in schemas that it refers to."""
        text = json.dumps(described[name])
        named = [schema.get("enum", []) for key, schema in schemas.items() if f'schemas/{key}"' in text]
        return {value for found in [described[name].get("enum", []), *named] for value in found} - {None}

    for option in OPTIONS:
        assert str(option.help) in described[option.name]["description"]
        assert ("estimates only" in described[option.name]["description"]) == (
            not option.measured and not option.beside
        )
    assert set(SCHEMES) <= values("weights_dtype")
    assert values("kv_dtype") == set(KV_FORMATS)
    assert values("activation_dtype") == set(ACTIVATION_FORMATS)


def test_the_guide_names_every_option():
    for option in OPTIONS:
        assert f"`{option.name}`" in GUIDE.read_text()


def test_comparing_shows_the_options_that_some_run_sets(owner, owner_api):
    a = make_run(owner, workload={"weights_dtype": "int4"})
    b = make_run(owner, workload={"tensor_parallel": 4})
    rows = owner_api.read("compare/", runs=f"{a.public_id},{b.public_id}").json()["rows"]
    options = {row["key"]: row["values"] for row in rows if row["section"] == "option"}
    assert options == {"weights_dtype": ["int4", None], "tensor_parallel": [1, 4]}


def test_turns_are_not_taken_with_a_run_of_somebody_else(owner_api, stranger):
    hidden = make_run(stranger, kind="measure")
    answer = owner_api.send("runs/", ESTIMATE | {"kind": "measure", "against": hidden.public_id})
    assert answer.status_code == 400
    assert "There is no such run" in answer.json()["errors"]["against"]
    assert Run.objects.count() == 1
