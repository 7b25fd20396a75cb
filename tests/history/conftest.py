"""Series of finished runs as a worker leaves them, with the figures and conditions that a test asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llmcompare.runs.models import Run, RunMetric
from tests import factories

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNITS = {"ttft": "s", "tpot": "s", "e2e_latency": "s", "output_throughput": "token/s", "peak_memory": "B"}


@pytest.fixture
def place():
    """One model on one host: what runs of a series share."""
    hardware = factories.make_hardware(name="Box")
    return {
        "model": factories.make_model(name="Repeated model"),
        "hardware": hardware,
        "host": factories.make_host(name="Lab box", hardware=hardware),
    }


@pytest.fixture
def measured(owner, place):
    """``measured(1.0, 1.1, None, …)``: one finished measurement a value of the total time, a day apart, each of three processes."""
    made = []

    def make(*values, user=None, key="e2e_latency", **fields) -> list[Run]:
        for value in values:
            at = START + timedelta(days=len(made))
            run = factories.make_run(
                user or owner,
                **(
                    {"kind": "measure", "state": "done", "finished": at, "contended": False, "e2e_s": value}
                    | place
                    | fields
                ),
            )
            detail = (
                {}
                if value is None
                else {"ci95": [value * 0.98, value * 1.02], "processes": [value * 0.99, value, value * 1.01]}
            )
            RunMetric.objects.create(
                run=run, key=key, origin="measured", value=value, unit=UNITS[key], definition=f"{key}/1", detail=detail
            )
            made.append(run)
        return made[-len(values) :]

    return make
