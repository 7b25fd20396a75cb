"""Names that readers of predictions need without torch."""

from __future__ import annotations

#: Metric of the run document that the time of a stage is.
METRICS = {"prefill": "ttft", "decode": "tpot", "encode": "encode_time"}
