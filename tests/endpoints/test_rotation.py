"""Field keys that are replaced: what was encrypted with the old one is readable, and the old one can go."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from llmcompare.endpoints import crypto
from llmcompare.endpoints.targets import Unavailable, resolve
from tests.factories import make_endpoint

KEY = "sk-not-to-be-seen"
pytestmark = pytest.mark.django_db


def run(capsys, *args) -> str:
    call_command("rotate_field_keys", *args)
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    return said.out + said.err


def test_the_file_s_key_is_replaced_and_the_old_one_is_gone(owner, capsys):
    endpoint, binned = make_endpoint(owner, key=KEY), make_endpoint(owner, key=KEY)
    old, sealed = crypto.field_keys(), endpoint.sealed_key
    assert "2 keys" in run(capsys)
    assert len(crypto.field_keys()) == 1
    assert not set(crypto.field_keys()) & set(old)
    endpoint.refresh_from_db()
    assert endpoint.sealed_key != sealed
    assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}
    with pytest.raises(crypto.Unreadable):
        crypto.reseal(sealed)
    assert binned.pk


def test_the_environment_s_keys_stay_the_operator_s(owner, capsys, settings, tmp_path):
    old, new = crypto.new_field_key(), crypto.new_field_key()
    settings.FIELD_KEYS = [old]
    endpoint = make_endpoint(owner, key=KEY)
    settings.FIELD_KEYS = [new, old]
    said = run(capsys)
    assert "can be taken out" in said
    assert new not in said
    settings.FIELD_KEYS = [new]
    endpoint.refresh_from_db()
    assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}
    assert not (tmp_path / "field_keys").exists()


def test_a_key_that_nobody_can_read_is_named_and_left_alone(owner, capsys, settings):
    settings.FIELD_KEYS = [crypto.new_field_key()]
    lost = make_endpoint(owner, key=KEY)
    settings.FIELD_KEYS = [crypto.new_field_key()]
    make_endpoint(owner, key=KEY)
    said = run(capsys)
    assert "1 keys" in said
    assert lost.public_id in said
    with pytest.raises(Unavailable, match="Enter the key again"):
        resolve(lost)


def test_a_new_field_key_is_printed_for_the_operator(capsys, settings):
    key = run(capsys, "--new").strip()
    settings.FIELD_KEYS = [key]
    assert crypto.unseal(crypto.seal(KEY, "https://x:443"), "https://x:443") == KEY


def test_two_rotations_at_once_lose_no_key(owner, capsys, monkeypatch):
    endpoints = [make_endpoint(owner, key=KEY) for _ in range(3)]
    reseal, begun = crypto.reseal, []

    def another_begins_and_ends(sealed: str) -> str:
        found = reseal(sealed)
        if not begun:
            begun.append(True)
            call_command("rotate_field_keys")
        return found

    monkeypatch.setattr(crypto, "reseal", another_begins_and_ends)
    run(capsys)
    assert len(crypto.field_keys()) == 1
    for endpoint in endpoints:
        endpoint.refresh_from_db()
        assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}


def test_a_rotation_that_was_cut_off_loses_no_key_and_is_made_again(owner, capsys, monkeypatch):
    endpoints = [make_endpoint(owner, key=KEY) for _ in range(3)]
    reseal, left = crypto.reseal, [1]

    def until_the_machine_stops(sealed: str) -> str:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return reseal(sealed)

    monkeypatch.setattr(crypto, "reseal", until_the_machine_stops)
    with pytest.raises(KeyboardInterrupt):
        call_command("rotate_field_keys")
    monkeypatch.setattr(crypto, "reseal", reseal)
    for _ in range(2):
        for endpoint in endpoints:
            endpoint.refresh_from_db()
            assert resolve(endpoint).headers() == {"Authorization": f"Bearer {KEY}"}
        assert "3 keys" in run(capsys)
    assert len(crypto.field_keys()) == 1
