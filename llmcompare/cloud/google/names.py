"""Names of resources. A name that was stored or came in is never sent on: its last parts are put behind the connection's own project and
region, so that no name leads into another tenant's project that the same credentials reach."""

from __future__ import annotations

import re

from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import CloudError

PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_SHAPES = {
    "endpoint": r"endpoints/[A-Za-z0-9_-]{1,64}",
    "model": r"models/[A-Za-z0-9_-]{1,64}(@[A-Za-z0-9_-]{1,64})?",
    "operation": r"(?:(?:endpoints|models)/[A-Za-z0-9_-]{1,64}/)?operations/[A-Za-z0-9_-]{1,64}",
    "open model": r"publishers/[A-Za-z0-9_.-]{1,128}/models/[A-Za-z0-9_.-]{1,128}(@[A-Za-z0-9_.-]{1,64})?",
}


def parent(project: str, region: str) -> str:
    """Raises :class:`CloudError` for what is no project id or region, since both become parts of addresses."""
    if not PROJECT.fullmatch(project):
        raise CloudError("invalid", _("{project} is not a project id of Google Cloud.").format(project=project[:64]))
    if not REGION.fullmatch(region):
        raise CloudError("invalid", _("{region} is not a region such as us-central1.").format(region=region[:64]))
    return f"projects/{project}/locations/{region}"


def within(parent: str, kind: str, name: str) -> str:
    """``name``, or only its last parts, as a name below ``parent``. Raises :class:`CloudError` for one of another kind or region."""
    found = re.fullmatch(rf"(?:projects/[^/]+/locations/([^/]+)/)?({_SHAPES[kind]})", name)
    if found is None or (found[1] is not None and found[1] != parent.rsplit("/", 1)[-1]):
        raise CloudError(
            "invalid", _("This name is not one of the connection's region: {name}").format(name=name[:200])
        )
    return f"{parent}/{found[2]}"


def open_model(name: str) -> str:
    if not re.fullmatch(_SHAPES["open model"], name):
        raise CloudError("invalid", _("An open model is named as publishers/PUBLISHER/models/MODEL@VERSION."))
    return name
