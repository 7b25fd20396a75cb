"""Whatever is sent to the API, the answer is a result or a message, never a crash."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcompare.api.serializers import WORKLOAD_FIELDS
from llmcompare.runs.models import Run
from tests.api.conftest import ApiClient
from tests.factories import make_hardware, make_model, make_run
from tests.security.strings import HOSTILE, NOT_STORABLE

FIELDS = (
    *WORKLOAD_FIELDS,
    "kind",
    "model",
    "hardware",
    "host",
    "visibility",
    "team",
    "title",
    "notes",
    "idempotency_key",
)
GOOD = {"kind": "estimate", "model": "tiny", "hardware": "gpu", "input_tokens": 16, "output_tokens": 4}

texts = st.one_of(st.text(max_size=30), st.sampled_from([*HOSTILE.values(), *NOT_STORABLE.values()]))
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan")]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    values,
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6).map(lambda changed: GOOD | changed),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=6),
)


@pytest.fixture
def api(owner):
    make_model(slug="tiny")
    make_hardware(slug="gpu")
    return ApiClient(owner)


def is_an_answer(response):
    """A success, or an error in the one shape of all errors."""
    if response.status_code in (200, 201, 202):
        return True
    assert response.status_code in (400, 404, 429), response.content[:500]
    assert set(response.json()) == {"code", "message", "errors"}
    return True


@given(bodies)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_launching_never_crashes(api, body):
    response = api.send("runs/", json.dumps(body))
    assert is_an_answer(response)
    if response.status_code == 201:
        # What was taken can be shown again, in every form, and does not count against the quota of the next example.
        address = f"runs/{response.json()['id']}/"
        for path in ("", "export.csv", "export.json"):
            assert api.read(address + path).status_code == 200
        Run.objects.update(state="cancelled")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_json_never_crash(api, body):
    assert is_an_answer(api.send("runs/", body))


@given(st.dictionaries(st.sampled_from(["name", "config"]), values, max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_uploading_never_crashes(api, body):
    assert is_an_answer(api.send("models/", json.dumps(body)))


@given(st.dictionaries(st.sampled_from(["model", "prompt", "max_output_tokens", "host", "dtype", "wait"]), values))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_inference_never_crashes(api, body):
    assert is_an_answer(api.send("inference/", json.dumps(body)))


@pytest.mark.parametrize("path", ["runs/", "models/", "hardware/", "hosts/", "compare/"])
@pytest.mark.parametrize("text", [*HOSTILE.values(), "a\x00b", "99999999999999999999999", "-1"])
def test_queries_never_crash(api, path, text):
    for name in (
        "q",
        "page",
        "page_size",
        "runs",
        "baseline",
        "export",
        "delimiter",
        "state",
        "kind",
        "model",
        "sort",
        "order",
    ):
        assert is_an_answer(api.read(path, **{name: text[:2000]}))


@pytest.mark.parametrize("text", [*HOSTILE.values(), "%00", "a%00b"])
def test_addresses_never_crash(api, text):
    for path in (f"runs/{text[:500]}/", f"models/{text[:500]}/", f"hardware/{text[:500]}/"):
        assert api.read(path).status_code in (301, 404)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_stored_and_given_back_unchanged_or_refused(api, text):
    response = api.send("runs/", GOOD | {"title": text, "notes": text, "prompt": text})
    if len(text) > 20_000:
        assert set(response.json()["errors"]) >= {"title", "notes"}
        return
    if response.status_code == 201:
        run = Run.objects.get(public_id=response.json()["id"])
        assert run.notes.strip() == text.strip()
        assert run.spec["workload"]["prompt"] == text
    else:
        assert is_an_answer(response)


def test_ids_are_random_and_say_nothing(owner):
    ids = [make_run(owner).public_id for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(len(public_id) == 16 for public_id in ids)
    assert not any(public_id.startswith("-") for public_id in ids)
