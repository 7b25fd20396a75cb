"""Closed forms on disk, one JSON file each, by the digest of what they depend on. Standard library and numpy only.

A file that is missing, damaged or of another version is a form that must be made again, never an error. Models that have no
closed form are remembered with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from profiling.forms.keys import key_digest
from profiling.forms.terms import ModelForm, NoForm, from_json, to_json
from profiling.lru import Lru

_READ: Lru[ModelForm] = Lru(64)


def default_folder() -> Path:
    """``LLMCOMPARE_FORMS``, or a folder in the user's cache."""
    given = os.environ.get("LLMCOMPARE_FORMS")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmcompare" / "forms"


class FormStore:
    """Forms in a folder, which is made when the first one is put there."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def _path(self, key: dict[str, Any]) -> Path:
        return self.folder / f"{key_digest(key)}.json"

    def get(self, key: dict[str, Any]) -> ModelForm | None:
        """The form stored under ``key``, or None. Raises :class:`NoForm` where it is known that there is none."""
        path = self._path(key)
        found = _READ.get(str(path))
        if found is not None:
            return found
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["key"] != key:
                return None
            reason = data.get("no_form")
            if reason is None:
                return _READ.put(str(path), from_json(data))
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, StopIteration, RecursionError):
            return None  # also NoForm, a ValueError: stored by another version
        raise NoForm(reason)

    def put(self, form: ModelForm) -> None:
        self._write(dict(form.key), to_json(form))
        _READ.put(str(self._path(dict(form.key))), form)

    def put_reason(self, key: dict[str, Any], reason: str) -> None:
        """Remember that a model has no closed form."""
        self._write(key, {"key": key, "no_form": reason})

    def _write(self, key: dict[str, Any], data: dict[str, Any]) -> None:
        """Whole or not at all. A full disk costs the next question some time, no more."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(data, file, separators=(",", ":"))
                os.replace(name, self._path(key))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
