"""What tests of endpoints have in common: field keys of their own, a name server, no broker."""

from __future__ import annotations

import pytest

NAMES = {
    "api.example.com": ["93.184.215.14"],
    "other.example.com": ["93.184.215.15"],
    "inner.example.com": ["10.1.2.3"],
    "lab.example.com": ["127.0.0.1"],
}


def resolve(host: str, port: int) -> list[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


@pytest.fixture(autouse=True)
def _own_field_keys(settings, tmp_path):
    settings.DATA_DIR, settings.FIELD_KEYS = tmp_path, []


@pytest.fixture(autouse=True)
def _own_name_server(monkeypatch):
    monkeypatch.setattr("profiling.remote.addresses.system_resolve", resolve)


@pytest.fixture(autouse=True)
def bells(monkeypatch) -> list[int]:
    """How often a worker was rung for."""
    rung: list[int] = []
    monkeypatch.setattr("llmcompare.endpoints.probing.ring", lambda: rung.append(1))
    return rung
