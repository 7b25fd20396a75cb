"""Where requests of an endpoint go: the address it was registered with, with its key, or nowhere and a sentence."""

from __future__ import annotations

import pytest
from django.utils import timezone

from llmcompare.endpoints import crypto, targets
from llmcompare.endpoints.models import Endpoint, PrivateNetwork
from llmcompare.endpoints.targets import Target, Unavailable, resolve, without
from profiling.remote.addresses import parse_networks
from tests.factories import make_endpoint

URL = "https://api.example.com/v1"
SECRET = "sk-not-to-be-seen"

pytestmark = pytest.mark.django_db


def test_the_key_goes_into_the_headers_and_nowhere_else(owner):
    target = resolve(make_endpoint(owner, key=SECRET))
    assert (target.url_base, target.model, target.api, target.exact_url) == (URL, "m", "chat", None)
    assert target.headers() == {"Authorization": f"Bearer {SECRET}"}
    assert SECRET not in repr(target)
    assert target.hide(f"no such key: {SECRET}") == "no such key: …"


def test_without_a_key_there_is_no_header(owner):
    assert resolve(make_endpoint(owner)).headers() == {}


def test_what_the_last_look_found_decides_whether_usage_is_asked_for(owner):
    assert resolve(make_endpoint(owner)).usage is True
    strict = {"routes": {"chat": {"usage_asked": False}, "completions": {"usage_asked": True}}}
    assert resolve(make_endpoint(owner, probe=strict)).usage is False
    assert resolve(make_endpoint(owner, probe=strict, api="completions")).usage is True
    assert resolve(make_endpoint(owner, probe={"routes": {"chat": {"usage_asked": None}}})).usage is True


def test_the_route_is_the_chosen_one_else_the_one_that_was_seen_to_work(owner):
    seen = {"abilities": {"api": "completions"}}
    assert resolve(make_endpoint(owner)).api == "chat"
    assert resolve(make_endpoint(owner, probe=seen)).api == "completions"
    assert resolve(make_endpoint(owner, probe=seen, api="chat")).api == "chat"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no sk-secret-1 here", "no … here"),
        ("an excerpt that ends in sk-sec…", "an excerpt that ends in …"),
        ("an excerpt that ends in sk-secre", "an excerpt that ends in …"),
        ("sk-", "sk-"),
        ("", ""),
    ],
)
def test_a_key_is_taken_out_of_what_a_server_says(text, shown):
    assert without("sk-secret-1", text) == shown
    assert without("", text) == text


def test_networks_are_open_for_private_endpoints_alone(owner):
    PrivateNetwork.objects.create(name="lab", network="10.1.2.0/24")
    PrivateNetwork.objects.create(name="closed", network="10.9.0.0/16", active=False)
    assert resolve(make_endpoint(owner)).allowed == ()
    target = resolve(make_endpoint(owner, private=True))
    assert target.allowed == ("10.1.2.0/24",)
    assert target.networks == parse_networks("10.1.2.0/24")


def test_a_key_is_not_sent_to_an_address_that_was_put_in_its_place(owner):
    """Even by somebody who writes to the database past every form."""
    endpoint = make_endpoint(owner, key=SECRET)
    for url in ("http://api.example.com/v1", "https://evil.example/v1", "https://api.example.com:8443/v1"):
        Endpoint.objects.filter(pk=endpoint.pk).update(url=url)
        endpoint.refresh_from_db()
        with pytest.raises(Unavailable, match="Enter the key again"):
            resolve(endpoint)


def test_lost_field_keys_are_a_sentence(owner, settings):
    endpoint = make_endpoint(owner, key=SECRET)
    settings.FIELD_KEYS = [crypto.new_field_key()]
    with pytest.raises(Unavailable, match="Enter the key again"):
        resolve(endpoint)


def test_an_endpoint_in_the_bin_or_of_an_unknown_kind_is_not_used(owner):
    with pytest.raises(Unavailable, match="bin"):
        resolve(make_endpoint(owner, deleted_at=timezone.now()))
    with pytest.raises(Unavailable, match="cannot be used here"):
        resolve(make_endpoint(owner, kind="other"))


def test_another_kind_has_its_own_resolver(owner, monkeypatch):
    monkeypatch.setattr(targets, "_resolvers", dict(targets._resolvers))
    targets.register(
        "vertex", lambda endpoint: Target("", endpoint.model, "chat", exact_url="https://there/rawPredict")
    )
    assert resolve(make_endpoint(owner, kind="vertex")).exact_url == "https://there/rawPredict"
