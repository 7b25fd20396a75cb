"""The question over the REST API: the page's own answer, and asking for forms."""

from __future__ import annotations

import pytest
from django.test import Client
from knox.models import AuthToken

from llmcompare.explore.models import StoredForm

QUERY = "model=tiny&hardware=small-device&hardware=large-device&batch_size=4&input_tokens=64&output_tokens=16&batches=1,4&lengths=16,64"


@pytest.fixture
def script(owner):
    return Client(headers={"authorization": "Token " + AuthToken.objects.create(owner)[1]})


def test_the_answer_is_the_pages(script, owner_client, form, device, other_device):
    told = script.get(f"/api/v1/explore/?{QUERY}")
    assert told.status_code == 200
    assert told.json() == owner_client.get(f"/explore.json?{QUERY}").json()


def test_a_form_is_asked_for_once(script, model, device, other_device):
    body = {"model": "tiny", "hardware": ["small-device", "large-device"], "input_tokens": 64, "output_tokens": 16}
    for _ in range(2):
        told = script.post("/api/v1/explore/", body, content_type="application/json")
        assert told.status_code == 202
        assert [item["state"] for item in told.json()["series"]] == ["making", "making"]
    assert StoredForm.objects.count() == 1


def test_with_everything_there_nothing_is_made(script, form, device, other_device):
    body = {"model": ["tiny"], "hardware": "small-device", "input_tokens": 64, "output_tokens": 16}
    told = script.post("/api/v1/explore/", body, content_type="application/json")
    assert told.status_code == 200
    assert told.json()["series"][0]["state"] == "ready"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": "tiny"}, "hardware"),
        ({"model": "tiny", "hardware": "small-device", "bach_size": 4}, "bach_size"),
        ({"model": "tiny", "hardware": "small-device", "batch_size": {"a": 1}}, "batch_size"),
        ({"model": "tiny", "hardware": "small-device", "batch_size": True}, "batch_size"),
        ({"model": "tiny", "hardware": "small-device", "batch_size": 1.5}, "batch_size"),
        ({"model": "tiny", "hardware": "small-device", "price.small-device": -1}, "price.small-device"),
    ],
)
def test_bad_input_is_said_at_its_field(script, form, device, body, field):
    told = script.post("/api/v1/explore/", body, content_type="application/json")
    assert told.status_code == 400
    assert field in told.json()["errors"]


@pytest.mark.parametrize("body", ["[]", "3", '"x"', "null"])
def test_what_is_no_object_is_refused(script, body):
    assert script.post("/api/v1/explore/", body, content_type="application/json").status_code == 400


def test_what_one_may_not_see_is_not_there(script, form):
    body = {"model": "tiny", "hardware": "nobodys"}
    assert script.post("/api/v1/explore/", body, content_type="application/json").status_code == 404
