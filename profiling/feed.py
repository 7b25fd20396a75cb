"""What the parent tells an engine process while a request is under way: the latest value of each name. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_latest: dict[str, Any] = {}


def give(values: Mapping[str, Any]) -> None:
    """Called by the thread that reads the parent's lines."""
    _latest.update(values)


def latest(name: str, otherwise: Any) -> Any:
    return _latest.get(name, otherwise)


def forget() -> None:
    """At the end of a request: the next one begins without what was told during this one."""
    _latest.clear()
