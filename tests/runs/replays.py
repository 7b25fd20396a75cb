"""What an engine answers to an estimate with replay, and a child that answers it."""

from __future__ import annotations

import copy
from typing import Any

from django.utils import timezone

from hardware.models import Host
from llmcompare.accounts.models import User
from llmcompare.runs.models import Run
from llmcompare.runs.services import launch_run
from profiling import host
from profiling.replay import table as tables
from profiling.replay.section import beside
from tests.factories import make_hardware, make_host, make_model
from tests.runs.documents import estimate_document

WORKLOAD = {"input_tokens": 9, "output_tokens": 6, "dtype": "fp32", "threads": 1}
QUIET: dict[str, Any] = {"contended": False, "steady": None, "throttled": None, "reasons": []}
BUSY = QUIET | {"contended": True, "reasons": ["Other processes used 1.1 of 2 cores."]}
ROW = tables.Row(
    "key",
    "addmm",
    "matmul",
    "bf16",
    10,
    0,
    100,
    10,
    1,
    2e-5,
    2e-5,
    7,
    "ok",
    ("private name",),
    "2026-11-26T10:00:00+00:00",
)


def host_here() -> Host:
    """A processor that is online and whose ceilings were measured."""
    cpu = make_hardware(slug="cpu", name="Cpu", kind="cpu", peak_flops={"fp32": 1e12})
    host = make_host(slug="here", queue="hw.here", hardware=cpu, details={"queues": ["estimate", "hw.here"]})
    rate = {"op_class": "gemm", "dtype": "fp32", "threads": 1, "value": 1e11, "unit": "FLOP/s"}
    host.ceilings.create(**rate, measured_at=timezone.now())
    return host


def launched(owner: User, there: Host | None, **values: Any) -> Run:
    """An estimate with replay that waits for its host."""
    values = {"kind": "estimate", "model": make_model(), "host": there, "workload": WORKLOAD, "replay": True} | values
    return launch_run(owner=owner, **values)


def figure(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def prediction(conditions: dict[str, Any] = QUIET, **changes: Any) -> dict[str, Any]:
    """As :func:`profiling.replay.run.replay` makes it: prefill timed, decode interpolated in part."""
    parts = {
        "known_s": 0.6,
        "own_s": 0.5,
        "interpolated_s": 0.0,
        "extrapolated_s": 0.0,
        "glue_s": 0.1,
        "glue_from": "twin",
        "combined": "sum",
        "bound": None,
        "operators": {"own": 30, "interpolated": 0, "extrapolated": 0, "unknown": 0},
        "unknown_operators": [],
        "calls": 90,
        "contended_operators": 0,
        "context": 0,
        "tokens": 128,
        "largest": [
            {
                "operator": "addmm",
                "module": "model.layers.0.mlp",
                "inputs": [[128, 64], [64, 256]],
                "count": 12,
                "seconds": 0.3,
                "from": "timed",
                "cold_bytes": 65536,
            }
        ],
    }
    decode = copy.deepcopy(parts) | {"known_s": 0.025, "own_s": 0.015, "interpolated_s": 0.005, "glue_s": 0.005}
    decode["glue_from"] = "other models"
    decode["largest"][0] |= {"seconds": 0.01, "inputs": [[1, 64], [64, 256]]}
    return {
        "workload": {"output_tokens": 5},
        "host": {"fingerprint": "f" * 64, "torch": "2.13.0", "threads": 2, "device": "cpu"},
        "metrics": {"ttft": figure(0.6, 0.6, 0.6), "tpot": figure(0.025, 0.02, 0.04)},
        "stages": {"prefill": parts, "decode": decode},
        "shapes": {
            "timed_now": 31,
            "from_table": 7,
            "interpolated": 4,
            "extrapolated": 0,
            "unknown": 0,
            "measured_at": ["2026-11-25T10:00:00+00:00", "2026-11-26T10:00:00+00:00"],
        },
        "not_replayed": [
            {"operator": "addmm of 9 GB", "reason": "spans 9,000,000,000 bytes, more than the 1,000 allowed here"}
        ],
        "conditions": conditions,
        "cap_bytes": 1000,
        "duration_s": 3.0,
        **changes,
    }


def replayed_document(conditions: dict[str, Any] = QUIET, **changes: Any) -> dict[str, Any]:
    """The run document of an estimate with replay."""
    return with_replay(estimate_document(), conditions, **changes)


def with_replay(document: dict[str, Any], conditions: dict[str, Any] = QUIET, **changes: Any) -> dict[str, Any]:
    """``document`` of an estimate, with a replay."""
    return beside(document, prediction(conditions, **changes), {"operators": 7, "kept": True})


class Child:
    """An engine process that answers at once, and adds :data:`ROW` to every table."""

    def __init__(self, conditions: dict[str, Any] = QUIET) -> None:
        self.conditions = conditions
        self.tables: list[dict[str, Any]] = []

    def __call__(self) -> Child:
        return self

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def request(self, op: str, payload: dict[str, Any], **options: Any) -> dict[str, Any]:
        match op:
            case "estimate":
                return estimate_document()
            case "replay_device":
                assert payload == {"device": "cpu"}
                return {"device": "cpu"}
            case "replay":
                self.tables.append(payload["table"])
                table = tables.Table.from_json(payload["table"])
                assert (table.fingerprint, table.device) == (host.detect()["fingerprint"], "cpu")
                table.add(ROW)
                return {"predictions": [prediction(self.conditions)], "table": table.to_json()}
        raise AssertionError(op)
