"""Finished runs as a worker leaves them, from documents that the engine made."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from llmcompare.runs.models import RunMetric
from llmcompare.runs.results import summarise
from tests import factories

DOCUMENTS = Path(__file__).resolve().parents[1] / "data" / "documents"


def estimate_document() -> dict:
    return json.loads((DOCUMENTS / "estimate_gpt2.json").read_text())


def measured_document() -> dict:
    """The estimate's figures as if they had been measured, a fifth slower."""
    document = copy.deepcopy(estimate_document())
    document["kind"] = "measure"
    for metric in document["metrics"].values():
        metric["origin"] = "measured"
        if metric["value"] is not None:
            metric["value"] *= 1.2
    return document


@pytest.fixture
def finished(owner):
    """Makes a finished run of the owner; all share one model and one device unless told otherwise."""
    shared = {"model": factories.make_model(name="Shared model"), "hardware": factories.make_hardware()}

    def make(*, document: dict | None = None, user=None, **fields):
        document = document or estimate_document()
        summary = summarise(document)
        workload = {n: document["workload"][n] for n in ("batch_size", "input_tokens", "output_tokens", "dtype")}
        kind = {"kind": document["kind"]}
        run = factories.make_run(
            user or owner, document=document, workload=workload, **(shared | summary.columns | kind | fields)
        )
        RunMetric.objects.bulk_create(RunMetric(run=run, **values) for values in summary.metrics)
        return run

    return make
