"""How a connection proves who it is. What is stored is a kind and a reference, never a key.

A file of credentials is dangerous when somebody else wrote it: one of type ``external_account`` makes Google's library read any local file
and send it away, one with another ``token_uri`` makes it send a signed token there. So no such dictionary reaches the library: of a service
account's key three values are taken, and everything else is Google's own constant.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import CloudError, translated

KINDS = ("adc", "impersonate", "secret", "token")
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  (an address)
#: Addresses that keys of Google's own had over the years. They are read and replaced by TOKEN_URI.
OWN_TOKEN_URIS = (
    TOKEN_URI,
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
)
MAX_KEY_BYTES = 64 * 2**10
ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}@[a-z0-9.-]{1,100}\.gserviceaccount\.com")
#: No form can read any other variable of the workers.
SECRET = re.compile(r"env:LLMCOMPARE_GOOGLE_KEY_[A-Z0-9_]{1,80}|file:[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check(kind: str, value: str) -> None:
    """Raise :class:`CloudError` (``invalid``) with a sentence for a reference that cannot be one. Reads nothing."""
    if kind == "adc":
        return
    if kind == "impersonate":
        if not ACCOUNT.fullmatch(value):
            raise _invalid(_("Enter a service account's address: name@project.iam.gserviceaccount.com."))
    elif kind == "secret":
        if not SECRET.fullmatch(value):
            raise _invalid(
                _("Enter env:LLMCOMPARE_GOOGLE_KEY_… or file:NAME, where the operator of this portal put a key.")
            )
    elif kind != "token" or not settings.CLOUD_TEST_TOKENS:
        raise _invalid(_("Choose one of the ways to log in to Google that are offered."))


def credentials(kind: str, value: str = "") -> Any:
    """Google's credentials object for a stored reference. Sends nothing yet: tokens are fetched when first needed.

    ``adc``: what this machine has (attached identity, or what its operator configured). ``impersonate``: a service account's address;
    this machine's identity must be allowed to create tokens for it. ``secret``: ``env:NAME`` or ``file:NAME`` of a service account's key
    that the operator put there. ``token``: in tests only. Raises :class:`CloudError`.
    """
    check(kind, value)
    with translated():
        if kind == "token":
            from google.oauth2.credentials import Credentials

            return Credentials(value)
        if kind == "secret":
            return _service_account(_secret(value))
        import google.auth

        source, _project = google.auth.default(scopes=SCOPES)
        if kind == "adc":
            return source
        from google.auth import impersonated_credentials

        return impersonated_credentials.Credentials(
            source_credentials=source, target_principal=value, target_scopes=SCOPES, lifetime=3600
        )


def _secret(reference: str) -> str:
    where, _colon, name = reference.partition(":")
    if where == "env":
        if name not in os.environ:
            raise _missing(_("The variable {name} is not set for the worker.").format(name=name))
        return os.environ[name]
    folder = settings.GOOGLE_KEYS_DIR
    if not folder:
        raise _missing(_("The operator named no folder of keys (LLMCOMPARE_GOOGLE_KEYS)."))
    root = Path(folder).resolve()
    path = (root / name).resolve()  # secrets are mounted as links, but none may lead out
    if not path.is_relative_to(root) or not path.is_file():
        raise _missing(_("There is no key named {name} in the operator's folder.").format(name=name))
    if path.stat().st_size > MAX_KEY_BYTES:
        raise _missing(_("The key named {name} is too large to be one.").format(name=name))
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        raise _missing(_("The key named {name} cannot be read.").format(name=name)) from None


def _service_account(text: str) -> Any:
    """Credentials from a key's text. Nothing of the text is in the errors."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    kept = service_account_key(found)
    from google.oauth2 import service_account

    try:
        return service_account.Credentials.from_service_account_info(kept, scopes=SCOPES)
    except ValueError:
        pass
    raise _missing(_("The private key of this service account cannot be read."))


def service_account_key(found: Any) -> dict[str, str]:
    """The values of a service account's key that are used, rebuilt. Raises :class:`CloudError` for every other type of credentials and
    for a key whose token would be sent to anybody but Google."""
    if not isinstance(found, Mapping) or found.get("type") != "service_account":
        raise _missing(_("This is not the key of a service account. No other type of credentials is read."))
    if found.get("token_uri", TOKEN_URI) not in OWN_TOKEN_URIS:
        raise _missing(_("This key would send its token to an address that is not Google's. It was not used."))
    if found.get("universe_domain", "googleapis.com") != "googleapis.com":
        raise _missing(_("This key belongs to another cloud than Google's public one."))
    kept = {name: found.get(name) for name in ("client_email", "private_key", "private_key_id")}
    if not all(isinstance(value, str) and value for value in kept.values()):
        raise _missing(_("This key lacks client_email, private_key or private_key_id."))
    return {"type": "service_account", "token_uri": TOKEN_URI, **{k: str(v) for k, v in kept.items()}}


def _invalid(sentence: str) -> CloudError:
    return CloudError("invalid", sentence)


def _missing(sentence: str) -> CloudError:
    return CloudError("credentials", sentence)
