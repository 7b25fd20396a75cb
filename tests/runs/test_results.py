"""From a run document to metric rows and columns."""

from __future__ import annotations

import json
import math

import pytest

from llmcompare.runs.results import storable, summarise
from tests.runs.documents import estimate_document, metric


def test_columns_come_from_the_metrics_of_the_document():
    document = estimate_document(ttft=0.5, tpot=0.02, e2e=1.1, throughput=29.0, memory=3 * 10**9, fits=True)
    columns = summarise(document).columns
    assert (columns["ttft_s"], columns["tpot_s"], columns["e2e_s"]) == (0.5, 0.02, 1.1)
    assert columns["output_tokens_per_s"] == 29.0
    assert (columns["memory_bytes"], columns["fits"]) == (3 * 10**9, True)


def test_what_was_executed_replaces_what_was_asked():
    document = estimate_document()
    document["workload"] |= {"input_tokens": 7, "output_tokens": 5}
    columns = summarise(document).columns
    assert (columns["input_tokens"], columns["output_tokens"]) == (7, 5)


def test_measured_memory_counts_before_estimated_memory():
    document = estimate_document(memory=3 * 10**9)
    document["metrics"]["peak_memory"] = metric(4.5e9, "B", origin="measured")
    assert summarise(document).columns["memory_bytes"] == 4_500_000_000


def test_unknown_stays_unknown():
    document = estimate_document(ttft=None, tpot=None, e2e=None, throughput=None, memory=None, fits=None)
    columns = summarise(document).columns
    for name in ("ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "memory_bytes", "fits"):
        assert columns[name] is None


def test_an_encoder_ends_when_it_has_encoded():
    document = estimate_document()
    document["metrics"] = {"encode_time": metric(0.25)}
    document["stages"] = {"encode": {"bound": "compute", "latency_s": 0.25}}
    document["workload"]["output_tokens"] = 0
    columns = summarise(document).columns
    assert (columns["e2e_s"], columns["ttft_s"], columns["bound"]) == (0.25, None, "compute")


@pytest.mark.parametrize(("output_tokens", "bound"), [(2, "compute"), (200, "memory")])
def test_the_bound_is_that_of_the_stage_that_takes_most_of_the_time(output_tokens, bound):
    document = estimate_document()
    document["workload"]["output_tokens"] = output_tokens
    document["stages"]["prefill"] |= {"latency_s": 1.0, "bound": "compute"}
    document["stages"]["decode"] |= {"latency_s": 0.01, "bound": "memory"}
    assert summarise(document).columns["bound"] == bound


def test_the_encoding_of_images_may_take_most_of_the_time():
    document = estimate_document()
    document["stages"]["encode"] = {"latency_s": 0.5, "bound": "overhead"}
    document["stages"]["prefill"] |= {"latency_s": 1.0, "bound": "compute"}
    document["stages"]["decode"] |= {"latency_s": 1e-9, "bound": "memory"}
    assert summarise(document).columns["bound"] == "compute"
    document["stages"]["encode"]["latency_s"] = 2.0
    assert summarise(document).columns["bound"] == "overhead"


def test_every_metric_becomes_a_row_with_its_statistics_and_errors():
    document = estimate_document()
    document["metrics"]["ttft"] = metric(0.5, origin="measured") | {"n": 5, "ci95": [0.4, 0.6]}
    document["errors"] = {"ttft": [{"level": "measured", "estimated": 0.4, "measured": 0.5, "error_pct": -20.0}]}
    rows = {row["key"]: row for row in summarise(document).metrics}
    assert rows.keys() == document["metrics"].keys()
    ttft = rows["ttft"]
    assert (ttft["value"], ttft["unit"], ttft["origin"], ttft["definition"]) == (0.5, "s", "measured", "ttft/1")
    assert ttft["detail"]["ci95"] == [0.4, 0.6]
    assert ttft["detail"]["errors"][0]["error_pct"] == -20.0


@pytest.mark.parametrize("broken", [{}, {"schema": "other"}, {"schema": "llmcompare-run", "metrics": {}}])
def test_something_else_than_a_run_document_is_refused(broken):
    with pytest.raises((KeyError, ValueError)):
        summarise(broken)


def test_what_no_database_can_store_is_replaced():
    stored = storable({"a": [math.nan, math.inf, 1.5], "b": "x\x00y", "c": "\ud800", "d": (1, None, True)})
    assert stored == {"a": [None, None, 1.5], "b": "x\ufffdy", "c": "?", "d": [1, None, True]}
    json.dumps(stored, allow_nan=False).encode()
