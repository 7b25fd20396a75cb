"""The one place that opens a connection to Google; workers alone call it. Google's packages are imported here and no earlier: they cost
seconds and hundreds of megabytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from llmcompare.cloud.models import Connection, Guard

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud


def open_cloud(connection: Connection) -> Cloud:
    """Clients of the connection's project and region. Raises :class:`llmcompare.cloud.google.errors.CloudError`."""
    from llmcompare.cloud.google.connection import Connection as Cloud
    from llmcompare.cloud.google.credentials import credentials

    return Cloud(
        project=connection.project,
        region=connection.region,
        credentials=credentials(connection.credential_kind, connection.credential),
        instance=Guard.get().instance,
        base=settings.VERTEX_BASE or None,
    )
