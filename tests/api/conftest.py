"""Clients of the REST API: with a token, as scripts use it."""

from __future__ import annotations

import json

import pytest
from django.core.cache import cache
from django.test import Client
from knox.models import AuthToken

from tests.factories import make_hardware, make_host, make_model


class ApiClient(Client):
    """JSON in, JSON out, a token in the header."""

    def __init__(self, user=None):
        super().__init__(enforce_csrf_checks=True, raise_request_exception=True)
        if user is not None:
            _, token = AuthToken.objects.create(user)
            self.defaults["HTTP_AUTHORIZATION"] = f"Token {token}"

    def send(self, path, data=None, **headers):
        body = data if isinstance(data, (str, bytes)) else json.dumps(data or {})
        return self.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)

    def read(self, path, **query):
        return self.get(f"/api/v1/{path}", query)


@pytest.fixture(autouse=True)
def _fresh_throttles():
    cache.clear()


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch):
    """No broker in these tests: the row is the truth, ringing only wakes a worker."""
    monkeypatch.setattr("llmcompare.runs.services.ring", lambda run: None)


@pytest.fixture
def owner_api(owner):
    return ApiClient(owner)


@pytest.fixture
def teammate_api(teammate):
    return ApiClient(teammate)


@pytest.fixture
def stranger_api(stranger):
    return ApiClient(stranger)


@pytest.fixture
def anonymous_api(db):
    return ApiClient()


@pytest.fixture
def model(db):
    return make_model(slug="tiny", name="Tiny")


@pytest.fixture
def gpu(db):
    return make_hardware(slug="gpu", name="Gpu")


@pytest.fixture
def host(db):
    cpu = make_hardware(slug="cpu", name="Cpu", kind="cpu")
    return make_host(slug="here", hardware=cpu, details={"queues": ["estimate", "hw.here"]}, queue="hw.here")
