"""Keys of endpoints, encrypted where they are stored: MultiFernet (AES-128-CBC with HMAC-SHA256) of the package cryptography.

The field keys are not Django's secret key: that one is replaced to end sessions, which must not lose what is stored. They come from
``LLMCOMPARE_FIELD_KEYS`` (newest first), else from a file in the data folder that is made once, readable by its owner only.

Workers decrypt (:func:`unseal`), and the command that replaces field keys (:func:`reseal`). The web process encrypts what is entered, and
looks at signatures (:func:`is_ours`).
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext_noop
from django.views.decorators.debug import sensitive_variables

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

LOST = gettext_noop("The stored API key cannot be read any more. Enter the key again.")
MOVED = gettext_noop("The stored API key was entered for another address. Enter the key again.")


class Unreadable(ValueError):
    """What is stored cannot be decrypted, or was entered for another address. Its text is for the user."""


def key_file() -> Path:
    return Path(settings.DATA_DIR) / "field_keys"


def from_environment() -> bool:
    """Whether the operator gave the field keys; otherwise they are the file's."""
    return bool(settings.FIELD_KEYS)


@sensitive_variables()
def field_keys() -> list[str]:
    """The field keys, newest first: the first one encrypts, all of them decrypt. Made at the first call where there are none."""
    if from_environment():
        return list(settings.FIELD_KEYS)
    path = key_file()
    if not path.exists():
        _write_once(path, new_field_key())
    return path.read_text().split()


def new_field_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


@sensitive_variables()
def write_keys(keys: list[str]) -> None:
    """Replace the file's keys at once: whoever reads it meanwhile reads the old ones or the new ones."""
    path = key_file()
    fresh = _temporary(path, "\n".join(keys) + "\n")
    os.replace(fresh, path)
    _keep(path.parent)


@sensitive_variables()
def _write_once(path: Path, key: str) -> None:
    """Make the file unless another process was quicker; nobody can read half of it."""
    fresh = _temporary(path, key + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    _keep(path.parent)


def _keep(folder: Path) -> None:
    """Have the names in ``folder`` on the disk before anything is encrypted with what they lead to."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@sensitive_variables()
def _temporary(path: Path, text: str) -> Path:
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(6)}")
    with open(fresh, "x", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return fresh


def _fernet() -> MultiFernet:
    # 40 ms and a shared library: not for processes that never touch a key.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in field_keys()])


@sensitive_variables()
def seal(secret: str, origin: str) -> str:
    """``secret`` encrypted, together with the origin that it is for."""
    return _fernet().encrypt(json.dumps({"origin": origin, "secret": secret}).encode()).decode()


@sensitive_variables()
def unseal(sealed: str, origin: str) -> str:
    """The secret. Raises :class:`Unreadable` when the field keys have changed, or the origin is not the one that it was entered for."""
    from cryptography.fernet import InvalidToken

    try:
        found = json.loads(_fernet().decrypt(sealed.encode()))
    except (InvalidToken, ValueError):
        raise Unreadable(LOST) from None
    if found["origin"] != origin:
        raise Unreadable(MOVED)
    return found["secret"]


@sensitive_variables()
def is_ours(sealed: str) -> bool:
    """Whether one of the field keys sealed it, by its signature alone: nothing is decrypted. What it is for is seen by :func:`unseal`.

    Fernet's token is urlsafe base64 of version (0x80), time (8 bytes), IV (16), ciphertext (whole blocks of 16), and an HMAC-SHA256 (32) of
    all before it, whose key is the first half of a field key.
    """
    try:
        token = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:  # of other characters, too
        return False
    signed, signature = token[:-32], token[-32:]
    if len(signed) < 25 or signed[0] != 0x80 or (len(signed) - 25) % 16:
        return False
    halves = [base64.urlsafe_b64decode(key)[:16] for key in field_keys()]
    return any(hmac.compare_digest(hmac.digest(half, signed, "sha256"), signature) for half in halves)


@sensitive_variables()
def reseal(sealed: str) -> str:
    """The same, encrypted with the newest field key. Raises :class:`Unreadable`."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet().rotate(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable(LOST) from None
