"""Names of queues that more than one app rings in."""

from __future__ import annotations

#: Served by every worker unless its operator says otherwise; needs no particular machine.
ESTIMATE_QUEUE = "estimate"
