"""Models, hardware and hosts by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.factories import TINY_LLAMA, make_hardware, make_host, make_model


def test_models_come_in_pages_with_what_a_launch_needs(owner_api):
    for _ in range(3):
        make_model(parameters=100)
    answer = owner_api.read("models/", page_size=2).json()
    assert answer["count"] == 3
    assert len(answer["results"]) == 2
    assert answer["next"]
    assert {"slug", "name", "kind", "parameters", "weights"} <= set(answer["results"][0])


def test_models_are_found_by_name(owner_api):
    make_model(name="Llama 3")
    make_model(name="Mixtral")
    assert [m["name"] for m in owner_api.read("models/", q="mixt").json()["results"]] == ["Mixtral"]


def test_an_upload_is_its_owners_alone(owner, owner_api, stranger_api):
    mine = make_model(source="upload", owner=owner, slug="mine")
    assert owner_api.read("models/mine/").json()["config"] == TINY_LLAMA
    assert owner_api.read("models/").json()["results"][0]["private"] is True
    assert stranger_api.read(f"models/{mine.slug}/").status_code == 404
    assert stranger_api.read("models/").json()["count"] == 0


def test_an_uploaded_configuration_becomes_a_model(owner_api, monkeypatch):
    monkeypatch.setattr("llmcompare.catalog.services.facts_or_refusal", lambda spec: None)
    answer = owner_api.send("models/", {"name": "My model", "config": TINY_LLAMA})
    assert answer.status_code == 201, answer.json()
    assert answer.json()["architecture"] == "LlamaForCausalLM"
    assert owner_api.read(f"models/{answer.json()['slug']}/").status_code == 200


def test_a_hostile_configuration_is_refused_at_its_field(owner_api):
    config = TINY_LLAMA | {"auto_map": {"AutoModel": "evil.py"}}
    answer = owner_api.send("models/", {"name": "Evil", "config": config})
    assert answer.status_code == 400
    assert set(answer.json()["errors"]) == {"config"}


def test_hardware_keeps_unknown_figures_unknown(owner_api):
    make_hardware(slug="new", memory_bandwidth=None, peak_flops={"bf16": None})
    answer = owner_api.read("hardware/new/").json()
    assert answer["memory_bandwidth"] is None
    assert answer["peak_flops"] == {"bf16": None}
    assert owner_api.read("hardware/").json()["results"][0]["name"] == "Maker Device " + answer["name"].split()[-1]


def test_private_hardware_is_its_owners_alone(owner, owner_api, stranger_api):
    make_hardware(slug="mine", source="private", owner=owner)
    assert owner_api.read("hardware/mine/").status_code == 200
    assert stranger_api.read("hardware/mine/").status_code == 404


def test_hosts_say_whether_they_are_online(owner_api):
    make_host(slug="on", hardware=make_hardware(slug="cpu"))
    make_host(slug="off", seen=timezone.now() - timedelta(hours=1))
    hosts = {host["slug"]: host for host in owner_api.read("hosts/").json()["results"]}
    assert (hosts["on"]["online"], hosts["off"]["online"]) == (True, False)
    assert (hosts["on"]["hardware"], hosts["off"]["hardware"]) == ("cpu", None)


def test_a_page_that_does_not_exist_is_a_404_in_our_shape(owner_api):
    answer = owner_api.read("models/", page=99)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize("odd", ["\ud800", "a\x00b", [[[[[]]]]] * 2, {"a" * 3: "\udfff"}])
def test_texts_that_no_database_can_hold_are_refused_however_deep(owner_api, odd):
    """Whatever key they are at: the configuration is free-form, so no field's own check reaches them."""
    deep = odd
    for _ in range(50 if isinstance(odd, list) else 3):
        deep = [deep]
    answer = owner_api.send("models/", {"name": "x", "config": TINY_LLAMA | {"id2label": deep}})
    assert answer.status_code == 400
    assert answer.json()["code"] == "parse_error"
