"""Small run documents for tests of what the portal does with them; the engine's own tests make real ones."""

from __future__ import annotations

from typing import Any

from profiling.spec import Workload


def metric(
    value: float | None, unit: str = "s", origin: str = "estimated", definition: str = "ttft/1"
) -> dict[str, Any]:
    return {"value": value, "unit": unit, "origin": origin, "definition": definition}


def estimate_document(
    *,
    ttft: float | None = 0.5,
    tpot: float | None = 0.02,
    e2e: float | None = 1.12,
    throughput: float | None = 28.6,
    memory: int | None = 10**9,
    fits: bool | None = True,
) -> dict[str, Any]:
    """An estimate of a decoder with everything that ``summarise`` reads."""
    return {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "estimate",
        "workload": Workload().to_json(),
        "conventions": {"ceilings": "datasheet"},
        "metrics": {
            "ttft": metric(ttft),
            "tpot": metric(tpot, definition="tpot/1"),
            "e2e_latency": metric(e2e, definition="e2e_latency/1"),
            "output_throughput": metric(throughput, "tokens/s", definition="output_throughput/1"),
        },
        "stages": {
            "prefill": {"latency_s": ttft, "bound": "compute"},
            "decode": {"latency_s": tpot, "bound": "memory"},
        },
        "memory": {
            "estimate": {
                "weights_bytes": memory,
                "kv_cache_bytes": 0,
                "activation_peak_bytes": 0,
                "total_bytes": memory,
                "capacity_bytes": 80 * 10**9,
                "fits": fits,
                "suggestions": [],
            }
        },
        "warnings": [],
    }
