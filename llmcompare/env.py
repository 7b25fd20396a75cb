"""Typed readers of environment variables. They fail loudly: a misspelt value must not become a default."""

from __future__ import annotations

import base64
import os
from pathlib import Path

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


class ConfigurationError(Exception):
    """An environment variable cannot be used; the text says which and what is expected."""


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def env_bool(name: str, default: bool = False) -> bool:
    raw = os.environ.get(name)
    if raw is None:
        return default
    if raw.strip().lower() in TRUE:
        return True
    if raw.strip().lower() in FALSE:
        return False
    raise ConfigurationError(f"{name} must be true or false, not {raw!r}.")


def env_int(name: str, default: int, *, low: int = 0) -> int:
    raw = os.environ.get(name, "").strip()
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ConfigurationError(f"{name} must be a whole number, not {raw!r}.") from None
    if value < low:
        raise ConfigurationError(f"{name} must be at least {low}, not {value}.")
    return value


def env_list(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def env_secret(name: str) -> str:
    """The value of ``name``, or the content of the file that ``name_FILE`` names."""
    path = os.environ.get(f"{name}_FILE", "").strip()
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ConfigurationError(f"{name}_FILE cannot be read: {error}.") from None
    return env_str(name)


def env_field_keys(name: str) -> list[str]:
    """Fernet keys (32 bytes in URL-safe Base64), separated by commas or spaces."""
    keys = env_secret(name).replace(",", " ").split()
    for key in keys:
        try:
            usable = len(base64.urlsafe_b64decode(key)) == 32
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(f"{name} must list keys of 32 bytes in URL-safe Base64, 44 characters each.")
    return keys
