"""The same load in several processes: what they have together, and when one load may be ranked above another."""

from __future__ import annotations

import pytest

from profiling.judgements import verdict_on
from profiling.load import Load, describe
from profiling.load_metrics import load_metrics, met
from profiling.load_pooling import pool_load
from profiling.server import COLUMNS, SCHEDULING, Served

MS = 1_000_000
LOAD = Load("poisson", rate=10, requests=6, ttft_s=0.025)


def process(ttft_ms: int, load: Load = LOAD, served: int = 6, **about) -> dict:
    """The load of one process: a request every 100 ms, its first token after ``ttft_ms`` and the others 10, 20, … ms later than that."""
    rows = [
        Served(
            i,
            i * 100 * MS,
            i * 100 * MS + MS,
            (i * 100 + ttft_ms + i) * MS,
            (i * 100 + ttft_ms + i + 30) * MS,
            16,
            4,
            1,
        )
        if i < served
        else Served(i, i * 100 * MS, None, None, None, 16, 4, None)
        for i in range(6)
    ]
    told = {"scheduling": SCHEDULING, "batch_size": 4, "due": 6, "served": served, "prompts": None, "padding_tokens": 0}
    told |= {"queue_grows": False, "foreign_cores": 0.0, "contended": False}
    return {
        "load": describe(load) | told | about,
        "requests": {
            "columns": [*COLUMNS, "within_objectives"],
            "rows": [[*row.row(), met(row, load)] for row in rows],
        },
        "metrics": load_metrics(rows, load),
    }


def test_each_process_counts_once_and_percentiles_are_of_all_requests():
    pooled = pool_load([process(10), process(20), process(60)])
    ttft = pooled["metrics"]["request_ttft"]
    assert ttft["processes"] == pytest.approx([0.0125, 0.0225, 0.0625])
    assert ttft["value"] == pytest.approx(0.0225), "the middle process, not the mean"
    assert (ttft["n"], ttft["min"], ttft["max"]) == (18, pytest.approx(0.010), pytest.approx(0.065))
    assert ttft["ci95"][0] < 0.0225 < ttft["ci95"][1]
    assert pooled["requests"]["columns"][0] == "process"
    assert [row[0] for row in pooled["requests"]["rows"]] == [0] * 6 + [1] * 6 + [2] * 6
    assert (pooled["load"]["due"], pooled["load"]["served"], pooled["load"]["processes"]) == (18, 18, 3)


def test_goodput_of_a_process_in_which_nothing_was_good_leaves_no_interval():
    share = pool_load([process(10), process(20), process(60)])["metrics"]["goodput_share"]
    assert share["processes"] == [1.0, 1.0, 0.0]
    assert (share["value"], share["ci95"], share["n"]) == (1.0, None, 18)


def test_a_process_that_served_nothing_counts_with_rates_of_zero():
    """Left out, a server that hangs in every other process would look as fast as one that never does."""
    metrics = pool_load([process(10), process(20, served=0), process(10, served=0)])["metrics"]
    for key in ("request_throughput", "request_output_throughput", "request_goodput", "goodput_share"):
        assert metrics[key]["processes"][1:] == [0.0, 0.0]
        assert (metrics[key]["value"], metrics[key]["ci95"]) == (0.0, None)
    assert (metrics["request_throughput"]["n"], metrics["goodput_share"]["n"]) == (6, 18)
    assert metrics["request_ttft"]["processes"] == pytest.approx([0.0125]), "no request, no latency"


def test_a_process_that_was_cut_off_in_its_load_has_no_rate():
    cut = process(10, served=0)
    del cut["load"]["due"], cut["load"]["served"]
    assert len(pool_load([process(10), cut])["metrics"]["request_throughput"]["processes"]) == 1


def test_one_that_was_disturbed_or_grew_spoils_the_whole_and_unknown_stays_unknown():
    load = pool_load([process(10), process(10, contended=True), process(10, queue_grows=None, foreign_cores=0.4)])[
        "load"
    ]
    assert (load["contended"], load["queue_grows"], load["foreign_cores"]) == (True, None, 0.4)
    cut = process(10)
    del cut["load"]["due"], cut["load"]["served"]  # of a process that was killed during its load
    assert pool_load([process(10), cut])["load"]["served"] is None


def test_documents_without_a_load_have_none_together():
    assert pool_load([{"metrics": {}}, {"metrics": {}}]) == {}


def pooled(*ttft_ms: int, load: Load = LOAD, **about) -> dict:
    return pool_load([process(each, load, **about) for each in ttft_ms])


def test_verdicts_of_loads():
    slow, fast = pooled(40, 41, 40), pooled(20, 20, 21)
    assert verdict_on("request_ttft", slow, fast).verdict == "faster"
    assert verdict_on("request_ttft", fast, slow).verdict == "slower"
    assert verdict_on("request_ttft", slow, pooled(40, 40, 41)).verdict == "no difference shown"


def test_more_requests_a_second_are_faster():
    many, few = pooled(10, 10, 10), pooled(10, 10, 10)
    for document, rates in ((many, [20.0, 20.1, 20.0]), (few, [10.0, 10.0, 10.1])):
        document["metrics"]["request_throughput"] |= {"processes": rates}
    assert verdict_on("request_throughput", few, many).verdict == "faster"
    assert verdict_on("request_throughput", many, few).verdict == "slower"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (pooled(20, 20, 21, load=Load("poisson", rate=20, requests=6)), "rate"),
        (pooled(20, 20, 21, load=Load("closed", concurrency=2, requests=6)), "mode"),
        (pooled(20, 20, 21, batch_size=8), "batch size"),
        (pooled(20, 20, 21, contended=True), "disturbed"),
    ],
)
def test_loads_that_asked_something_else_are_not_ranked(other, reason):
    verdict = verdict_on("request_ttft", pooled(40, 41, 40), other)
    assert verdict.verdict == "not comparable"
    assert any(reason in text for text in verdict.reasons)


def test_one_process_tells_nothing_of_the_difference_between_processes():
    assert verdict_on("request_ttft", pooled(40), pooled(20)).verdict == "not comparable"


def test_where_none_waited_there_is_no_ratio_of_waiting_times():
    first = pooled(10, 10, 10)
    first["metrics"]["request_queue_time"] |= {"processes": [0.0, 0.0, 0.001]}
    assert verdict_on("request_queue_time", first, pooled(20, 20, 20)) is None
