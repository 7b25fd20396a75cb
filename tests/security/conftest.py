"""What the security tests have in common: no broker, no engine, no throttles."""

from __future__ import annotations

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _no_throttles(monkeypatch):
    """A throttled request would never reach what is tested here."""
    cache.clear()
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch):
    monkeypatch.setattr("llmcompare.runs.services.ring", lambda run: None)
    monkeypatch.setattr("llmcompare.endpoints.probing.ring", lambda: None)
