"""Identifiers of what people share by address."""

from __future__ import annotations

import secrets


def new_public_id() -> str:
    """An identifier that says nothing and cannot be guessed: 16 URL-safe characters, 96 bits."""
    # A leading dash would be an option on a command line and a formula in a spreadsheet.
    while (token := secrets.token_urlsafe(12)).startswith("-"):
        pass
    return token
