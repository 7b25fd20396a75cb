"""Keys of endpoints: encrypted where they are stored, bound to the address that they are for, readable after the field keys changed."""

from __future__ import annotations

import base64
import os
import stat

import pytest
from cryptography.fernet import Fernet

from llmcompare.endpoints import crypto
from llmcompare.env import ConfigurationError, env_field_keys

ORIGIN = "https://api.example.com:443"
SECRET = "sk-not-to-be-seen"


def test_a_key_comes_back_for_its_own_address_alone():
    sealed = crypto.seal(SECRET, ORIGIN)
    assert SECRET not in sealed
    assert crypto.unseal(sealed, ORIGIN) == SECRET
    for other in ("http://api.example.com:443", "https://api.example.com:8443", "https://evil.example:443"):
        with pytest.raises(crypto.Unreadable, match="another address"):
            crypto.unseal(sealed, other)


def test_the_file_of_field_keys_is_made_once_and_is_its_owner_s(tmp_path):
    first = crypto.field_keys()
    assert crypto.field_keys() == first
    path = tmp_path / "field_keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["field_keys"], "nothing half-made stays"


def test_two_processes_that_make_the_file_at_once_have_the_same_keys(tmp_path):
    """The slower one finds the file there."""
    crypto._write_once(tmp_path / "field_keys", first := crypto.new_field_key())
    crypto._write_once(tmp_path / "field_keys", crypto.new_field_key())
    assert crypto.field_keys() == [first]


def test_a_newer_key_encrypts_and_the_older_one_still_decrypts(settings):
    old, new = crypto.new_field_key(), crypto.new_field_key()
    settings.FIELD_KEYS = [old]
    sealed = crypto.seal(SECRET, ORIGIN)
    settings.FIELD_KEYS = [new, old]
    assert crypto.unseal(sealed, ORIGIN) == SECRET
    again = crypto.reseal(sealed)
    settings.FIELD_KEYS = [new]
    assert crypto.unseal(again, ORIGIN) == SECRET
    with pytest.raises(crypto.Unreadable, match="Enter the key again"):
        crypto.unseal(sealed, ORIGIN)
    with pytest.raises(crypto.Unreadable):
        crypto.reseal(sealed)


@pytest.mark.parametrize("broken", ["", "nonsense", "gAAAAA==", "é"])
def test_what_is_no_token_is_a_sentence_not_a_traceback(broken):
    assert not crypto.is_ours(broken)
    with pytest.raises(crypto.Unreadable, match="Enter the key again"):
        crypto.unseal(broken, ORIGIN)


def test_the_signature_says_what_decrypting_would(settings):
    """Of field keys that changed, and of tokens that were cut or changed anywhere."""
    old, new = crypto.new_field_key(), crypto.new_field_key()
    settings.FIELD_KEYS = [old]
    sealed = crypto.seal(SECRET, ORIGIN)
    for keys, readable in ([old], True), ([new, old], True), ([new], False):
        settings.FIELD_KEYS = keys
        assert crypto.is_ours(sealed) is readable
    settings.FIELD_KEYS = [new, old]
    raw = base64.urlsafe_b64decode(sealed)
    for place in range(len(raw)):
        changed = base64.urlsafe_b64encode(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]).decode()
        assert not crypto.is_ours(changed), place
    for length in range(len(raw)):
        assert not crypto.is_ours(base64.urlsafe_b64encode(raw[:length]).decode())


def test_field_keys_of_the_environment_are_looked_at_when_the_portal_starts(monkeypatch, tmp_path):
    good = [Fernet.generate_key().decode() for _ in range(2)]
    monkeypatch.setenv("LLMCOMPARE_FIELD_KEYS", f"{good[0]}, {good[1]}")
    assert env_field_keys("LLMCOMPARE_FIELD_KEYS") == good
    monkeypatch.setenv("LLMCOMPARE_FIELD_KEYS", "too-short")
    with pytest.raises(ConfigurationError, match="44 characters") as error:
        env_field_keys("LLMCOMPARE_FIELD_KEYS")
    assert "too-short" not in str(error.value)
    (tmp_path / "keys").write_text("\n".join(good))
    monkeypatch.setenv("LLMCOMPARE_FIELD_KEYS_FILE", str(tmp_path / "keys"))
    assert env_field_keys("LLMCOMPARE_FIELD_KEYS") == good
