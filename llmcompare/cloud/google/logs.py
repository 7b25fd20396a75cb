"""The last lines that a container of an endpoint wrote, from Cloud Logging by its REST interface. A deployment that fails says only that
the model server ended; why is in here."""

from __future__ import annotations

import json
from typing import Any

from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import without_credentials
from llmcompare.cloud.google.monitoring import Fetch

ADDRESS = "https://logging.googleapis.com"
MAX_LINE = 300
MAX_LINES_IN_SENTENCE = 5


def read(fetch: Fetch, address: str, project: str, endpoint_id: str, most: int) -> list[str]:
    """Oldest first. Raises :class:`CloudError`."""
    asked = {
        "resourceNames": [f"projects/{project}"],
        "filter": f'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="{endpoint_id}"',
        "orderBy": "timestamp desc",
        "pageSize": most,
    }
    entries = fetch("POST", f"{address}/v2/entries:list", json=asked).get("entries") or []
    lines = [_line(one) for one in reversed(entries) if isinstance(one, dict)]
    return [line for line in lines if line]


def sentence(lines: list[str]) -> str:
    """Why a container died, by its last lines."""
    last = " / ".join(lines[-MAX_LINES_IN_SENTENCE:])
    return _("The container did not become ready. Its last lines: {lines}").format(lines=last)


def _line(entry: dict[str, Any]) -> str:
    payload = entry.get("textPayload")
    if payload is None:
        found = entry.get("jsonPayload") or {}
        payload = found.get("message") or (json.dumps(found) if found else "")
    text = " ".join("".join(c if c.isprintable() else " " for c in str(payload)).split())
    text = without_credentials(text)
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"
