"""What every template may use."""

from __future__ import annotations

from profiling import __version__


def portal(request) -> dict:
    return {"portal_version": __version__}
