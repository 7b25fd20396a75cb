"""A measurement in several processes: what is pooled and how, and what is left when one of them does not come through."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from profiling.client import EngineError
from profiling.measure import measure
from profiling.pooling import pool, series_of
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.spec import SpecError, Workload
from tests.profiling import tiny

SPEC = tiny.request(iterations=2)["spec"]


@pytest.fixture(scope="module")
def real() -> dict:
    return measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=3))


def slowed(document: dict, factor: float) -> dict:
    """The document of a process that was ``factor`` times as slow."""
    changed = copy.deepcopy(document)
    at = changed["samples"]["columns"].index("wall_ns")
    for row in changed["samples"]["rows"]:
        row[at] = round(row[at] * factor)
    return changed


class Engines:
    """Stands for fresh processes: each answers with the next of ``answers``, a document or an error."""

    def __init__(self, *answers) -> None:
        self.answers, self.payloads, self.open = list(answers), [], 0

    def __call__(self):
        return self

    def __enter__(self):
        self.open += 1
        return self

    def __exit__(self, *exc) -> None:
        self.open -= 1

    def request(self, op, payload, *, on_progress=None, **options):
        assert self.open == 1, "one process at a time"
        self.payloads.append(payload)
        if on_progress:
            on_progress("iterations", 0.5, "Iteration 1 of 2")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_rows_give_the_metrics_of_the_document(real):
    series = series_of(real["samples"], real["workload"]["batch_size"])
    timed = {key for key, figure in real["metrics"].items() if "q1" in figure}
    assert set(series) == timed
    for key, values in series.items():
        assert np.median(values) == pytest.approx(real["metrics"][key]["value"])
        assert len(values) == real["metrics"][key]["n"]


def test_an_interval_in_which_a_coarse_clock_saw_no_time_has_no_rate(real):
    still = slowed(real, 0.0)
    series = series_of(still["samples"], real["workload"]["batch_size"])
    assert series["ttft"] == [0.0, 0.0, 0.0]
    assert series["prefill_throughput"] == series["output_throughput"] == series["decode_throughput"] == []
    document = pool([real, still], protocol=Protocol().to_json())
    assert document["metrics"]["prefill_throughput"]["n"] == 3, "those of the other process"
    json.dumps(document, allow_nan=False)
    alone = pool([still, still], protocol=Protocol().to_json())
    assert "prefill_throughput" not in alone["metrics"]
    json.dumps(alone, allow_nan=False)


def test_processes_are_pooled_by_their_medians(real):
    fast, base, slow = (slowed(real, factor) for factor in (0.9, 1.0, 1.3))
    document = pool([base, slow, fast], protocol=Protocol().to_json())
    figure, value = document["metrics"]["ttft"], real["metrics"]["ttft"]["value"]
    assert figure["value"] == figure["median"] == pytest.approx(value)
    assert figure["processes"] == pytest.approx([value, 1.3 * value, 0.9 * value], rel=1e-4)
    assert figure["n"] == 9
    assert figure["ci95"][0] < 0.9 * value < 1.3 * value < figure["ci95"][1], "three processes that differ say little"
    assert document["samples"]["columns"][0] == "process"
    assert {row[0] for row in document["samples"]["rows"]} == {0, 1, 2}
    assert [entry["iterations"] for entry in document["processes"]] == [3, 3, 3]
    for level in document["errors"]["ttft"]:
        assert level["measured"] == figure["value"]
    json.dumps(document, allow_nan=False)


def test_one_disturbed_process_spoils_the_whole(real):
    busy = slowed(real, 1.0)
    busy["conditions"] = busy["conditions"] | {"contended": True, "reasons": ["Somebody else."], "foreign_cores": 7.0}
    quiet = slowed(real, 1.0)
    quiet["conditions"] = quiet["conditions"] | {"contended": False, "reasons": [], "steady": None}
    conditions = pool([quiet, busy], protocol={})["conditions"]
    assert conditions["contended"] is True
    assert conditions["foreign_cores"] == 7.0
    assert conditions["reasons"] == ["Process 2: Somebody else."]


def test_each_process_is_asked_for_the_same_and_one_for_estimates(real):
    engines, seen = Engines(real, real, real), []
    document = measure_in_processes(SPEC, Protocol(), engine=engines, on_progress=lambda *report: seen.append(report))
    assert [payload["estimates"] for payload in engines.payloads] == [True, False, False]
    assert {json.dumps(payload["spec"]) for payload in engines.payloads} == {json.dumps(SPEC)}
    assert [round(fraction, 3) for _, fraction, _ in seen] == [0.167, 0.5, 0.833]
    assert seen[1][2] == "Process 2 of 3: Iteration 1 of 2"
    assert document["protocol"]["processes"] == 3
    assert document["workload"]["time_limit_s"] == SPEC["workload"]["time_limit_s"]


@pytest.mark.parametrize("kind", ["killed", "cancelled", "timeout", "memory"])
def test_a_process_that_fails_keeps_those_before_it_and_its_own_part(real, kind):
    part = {key: real[key] for key in ("workload", "duration_s", "metrics", "samples", "warnings")}
    part["warnings"] = [{"code": "incomplete", "message": "The run ended early."}]
    failure = EngineError(phase="iterations", kind=kind, message="It ended.", partial=part)
    with pytest.raises(EngineError) as caught:
        measure_in_processes(SPEC, Protocol(), engine=Engines(real, failure))
    kept = caught.value.partial
    assert (caught.value.kind, caught.value.phase) == (kind, "iterations")
    assert [entry["complete"] for entry in kept["processes"]] == [True, False]
    assert kept["metrics"]["ttft"]["n"] == 6
    assert kept["warnings"][-1]["code"] == "incomplete"


def test_the_first_failure_is_that_of_a_single_process(real):
    failure = EngineError(phase="load", kind="memory", message="Too big.", partial={"reached": "load"})
    with pytest.raises(EngineError) as caught:
        measure_in_processes(SPEC, Protocol(), engine=Engines(failure))
    assert caught.value.partial == {"reached": "load"}


def test_processes_share_the_time_limit(real):
    spec = SPEC | {"workload": SPEC["workload"] | {"time_limit_s": 90.0}}
    engines = Engines(real, real, real)
    document = measure_in_processes(spec, Protocol(), engine=engines, timeout_s=90.0)
    limits = [payload["spec"]["workload"]["time_limit_s"] for payload in engines.payloads]
    assert limits == pytest.approx([30, 45, 90], rel=0.01)
    assert document["workload"]["time_limit_s"] == 90


def test_module_times_are_those_of_every_process(real):
    other = copy.deepcopy(real)
    times = other["module_times"]["prefill"]
    lost = times["paths"].pop(0)
    times["exclusive_s"][0].pop(0)
    times["exclusive_s"][0][0] = 7.0
    pooled = pool([real, other], protocol={})["module_times"]["prefill"]
    first, second = (dict(zip(pooled["paths"], own, strict=True)) for own in pooled["exclusive_s"])
    assert first == dict(zip(pooled["paths"], real["module_times"]["prefill"]["exclusive_s"][0], strict=True))
    assert second[lost] is None
    assert second[times["paths"][0]] == 7.0


def test_a_process_that_would_not_fit_into_the_time_limit_is_not_begun(real):
    document = measure_in_processes(SPEC, Protocol(), engine=Engines(real), timeout_s=0.0)
    assert len(document["processes"]) == 1
    assert document["metrics"]["ttft"]["ci95"] is None
    assert document["warnings"][-1]["message"] == "The time limit allowed 1 of 3 processes."


def test_iterations_go_on_until_both_minima_are_met():
    workload = Workload(iterations=5)
    protocol = Protocol(min_seconds=2.0, max_iterations=8)
    assert protocol.wants_more(4, 100.0, workload)
    assert protocol.wants_more(5, 1.9, workload)
    assert not protocol.wants_more(5, 2.0, workload)
    assert not protocol.wants_more(8, 0.1, workload), "the most there may be"
    assert Protocol(min_iterations=20).wants_more(19, 100.0, workload)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("processes", 0),
        ("processes", True),
        ("min_iterations", 0),
        ("min_seconds", -1.0),
        ("min_seconds", float("nan")),
    ],
)
def test_nonsense_is_refused_at_its_field(field, value):
    with pytest.raises(SpecError) as caught:
        Protocol(**{field: value}).check()
    assert caught.value.field == field


def test_in_a_process_the_minimum_time_counts():
    document = measure(
        tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1), protocol=Protocol(min_seconds=0.3), estimates=False
    )
    assert document["metrics"]["ttft"]["n"] > 1
    assert "estimates" not in document


def test_two_real_processes():
    document = measure_in_processes(SPEC, Protocol(processes=2), timeout_s=200)
    assert [entry["complete"] for entry in document["processes"]] == [True, True]
    assert document["metrics"]["tpot"]["n"] == 4
    assert document["estimates"]
    assert [len(own) for own in document["module_times"]["decode"]["exclusive_s"]] == [
        len(document["module_times"]["decode"]["paths"])
    ] * 2
