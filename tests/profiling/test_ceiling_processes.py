"""Ceilings of several processes: which are accepted, which are contended, and that a run of them can be stopped and followed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from profiling.ceiling_processes import TOLERANCE, agree, key_of, measure_ceilings_in_processes, pool_ceilings
from profiling.client import EngineError
from profiling.spec import SpecError
from tests.profiling.test_processes import Engines


def row(value: float, quality: str = "ok", **more) -> dict:
    base = {"op_class": "gemm", "dtype": "fp32", "threads": 2, "unit": "FLOP/s", "measured_at": "2026-11-25T10:00:00Z"}
    return base | {"value": value, "median": 0.9 * value, "quality": quality, "detail": {"side": 512}} | more


def document(*rows: dict) -> dict:
    return {
        "rows": list(rows),
        "skipped": [],
        "fingerprint": "f" * 64,
        "affinity": [0, 1],
        "env_vars": {},
        "device": "cpu",
    }


def test_processes_that_agree_are_accepted_with_the_best_of_them():
    found = agree([row(97.0), row(100.0), row(95.0)], needed=3)
    assert (found["value"], found["quality"]) == (100.0, "ok")
    assert found["median"] == pytest.approx(87.3)
    assert found["detail"]["values"] == [97.0, 100.0, 95.0]
    assert found["detail"]["spread_pct"] == pytest.approx(5.26, abs=0.01)
    assert found["detail"]["side"] == 512
    assert found["detail"]["agreed"] == found["detail"]["needed"] == 3


def test_the_median_of_two_processes_lies_between_them():
    assert agree([row(100.0), row(98.0)], needed=2)["median"] == pytest.approx(0.9 * 99)


def test_processes_that_disagree_are_contended_with_their_spread():
    found = agree([row(100.0), row(99.0), row(70.0)], needed=3)
    assert (found["value"], found["quality"]) == (100.0, "contended")
    assert found["detail"]["agreed"] == 2
    assert found["detail"]["spread_pct"] == pytest.approx(42.86, abs=0.01)


def test_a_further_process_can_confirm_what_one_disturbed_process_put_in_doubt():
    assert agree([row(100.0), row(99.0), row(70.0), row(98.0)], needed=3)["quality"] == "ok"


def test_a_single_high_value_that_nobody_reproduced_is_not_accepted():
    assert agree([row(150.0), row(100.0), row(99.0), row(98.0)], needed=3)["quality"] == "contended"


def test_processes_that_were_all_disturbed_alike_are_not_accepted():
    found = agree([row(100.0, "contended"), row(99.0, "contended"), row(98.0)], needed=3)
    assert (found["quality"], found["detail"]["agreed"], found["detail"]["undisturbed"]) == ("contended", 3, 1)


def test_of_times_the_least_is_the_best():
    found = agree([row(5e-6, unit="s"), row(5.2e-6, unit="s"), row(5.1e-6, unit="s")], needed=3)
    assert (found["value"], found["quality"]) == (5e-6, "ok")
    assert agree([row(5e-6, unit="s"), row(5.2e-6, unit="s"), row(9e-6, unit="s")], needed=3)["quality"] == "contended"


def test_the_tolerance_is_a_part_of_the_worse_rate():
    edge = 100.0 / (1 + TOLERANCE)
    assert agree([row(100.0), row(edge * 1.001)], needed=2)["quality"] == "ok"
    assert agree([row(100.0), row(edge * 0.999)], needed=2)["quality"] == "contended"


def test_rows_are_pooled_by_kernel_format_and_threads():
    other = row(50.0, threads=1)
    rows = pool_ceilings([document(row(100.0), other), document(row(101.0), other)], needed=2)["rows"]
    assert [(key_of(r), r["value"]) for r in rows] == [(("gemm", "fp32", 2), 101.0), (("gemm", "fp32", 1), 50.0)]


def test_three_processes_that_agree_are_enough():
    engines = Engines(*[document(row(value)) for value in (100.0, 101.0, 102.0)])
    seen: list[tuple] = []
    found = measure_ceilings_in_processes(engine=engines, on_progress=lambda *report: seen.append(report))
    assert found["processes"] == 3
    assert [payload["only"] for payload in engines.payloads] == [None, None, None]
    assert {"llmcompare", "python", "torch", "kernel"} == set(found["versions"])
    assert (found["affinity"], found["rows"][0]["quality"]) == ([0, 1], "ok")
    fractions = [fraction for _, fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert seen[-1] == ("done", 1.0, "1 of 1 ceilings accepted")
    json.dumps(found, allow_nan=False)


def test_what_disagrees_is_asked_again_alone_and_at_most_twice():
    steady, shaky = row(10.0, op_class="copy"), [row(v) for v in (100.0, 60.0, 70.0, 61.0, 71.0)]
    answers = [document(steady, one) for one in shaky[:3]] + [document(one) for one in shaky[3:]]
    engines = Engines(*answers)
    found = measure_ceilings_in_processes(engine=engines)
    assert [payload["only"] for payload in engines.payloads[3:]] == [[("gemm", "fp32", 2)]] * 2
    assert {r["op_class"]: r["quality"] for r in found["rows"]} == {"copy": "ok", "gemm": "contended"}
    assert len(found["rows"][1]["detail"]["values"]) == 5


def test_on_a_busy_machine_nothing_is_asked_again():
    engines = Engines(
        *[document(row(v), row(v, op_class="copy"), row(1.0, op_class="read")) for v in (100.0, 60.0, 30.0)]
    )
    found = measure_ceilings_in_processes(engine=engines)
    assert (found["processes"], [r["quality"] for r in found["rows"]]) == (3, ["contended", "contended", "ok"])


@pytest.mark.parametrize("kind", ["cancelled", "timeout", "killed"])
def test_a_process_that_fails_ends_the_whole(kind):
    failure = EngineError(phase="ceilings", kind=kind, message="It ended.")
    with pytest.raises(EngineError) as caught:
        measure_ceilings_in_processes(engine=Engines(document(row(1.0)), failure))
    assert caught.value.kind == kind


def test_a_time_limit_that_is_over_begins_no_process():
    with pytest.raises(EngineError) as caught:
        measure_ceilings_in_processes(engine=Engines(), timeout_s=0)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize("processes", [0, 21, True, 1.5])
def test_a_nonsense_number_of_processes_is_refused(processes):
    with pytest.raises(SpecError):
        measure_ceilings_in_processes(processes=processes, engine=Engines())


def test_the_parent_imports_no_torch():
    code = "import sys, profiling.ceiling_processes, profiling.device_state; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_run_can_be_stopped_at_once():
    """Stopped by the caller while a real engine process measures."""
    begun: list[str] = []
    with pytest.raises(EngineError) as caught:
        measure_ceilings_in_processes(
            on_progress=lambda stage, fraction, message: begun.append(message), should_stop=lambda: bool(begun)
        )
    assert caught.value.kind == "cancelled"
    assert begun[0].startswith("Process 1 of 3")
