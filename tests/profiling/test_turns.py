"""Two settings measured in turns: who runs when, what is said of the difference, and what is left when one side fails."""

from __future__ import annotations

import copy
import json
import time

import pytest

from profiling import loading
from profiling import measure as measure_module
from profiling.cli import main
from profiling.cli.turns import changed
from profiling.client import EngineError
from profiling.measure import measure
from profiling.protocol import Protocol
from profiling.spec import RunSpec, SpecError
from profiling.turns import measure_in_turns, order_of
from tests.profiling import tiny
from tests.profiling.test_processes import Engines, slowed

BASE = tiny.request(iterations=2)["spec"]
#: Several times what a pass of the tiny model takes.
DELAY_S = 0.02
OTHER = BASE | {"workload": BASE["workload"] | {"seed": 7}}


@pytest.fixture(scope="module")
def quiet() -> dict:
    document = measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD)
    document["conditions"] |= {"contended": False, "reasons": []}
    return document


def sides(quiet: dict, factors: str) -> list[dict]:
    """A document a turn of ABBAAB: drift of 4 % a turn, and B by 1.3 where ``factors`` says so."""
    return [
        slowed(quiet, 1.04**turn * (1.3 if side == "B" and factors == "slower" else 1.0))
        for turn, side in enumerate(order_of(3))
    ]


def test_each_side_is_first_as_often_as_the_other():
    assert order_of(1) == "AB"
    assert order_of(3) == "ABBAAB"
    assert order_of(4) == "ABBAABBA"


@pytest.mark.parametrize(("factors", "verdict"), [("slower", "slower"), ("same", "no difference shown")])
def test_a_drift_of_the_machine_is_no_difference_and_a_slower_program_is_one(quiet, factors, verdict):
    engines = Engines(*sides(quiet, factors))
    document = measure_in_turns(BASE, OTHER, Protocol(), engine=engines)
    seeds = [payload["spec"]["workload"]["seed"] for payload in engines.payloads]
    assert seeds == [0, 7, 7, 0, 0, 7]
    assert [payload["estimates"] for payload in engines.payloads] == [True, True] + [False] * 4
    turns = document["in_turns"]
    assert turns["order"] == "ABBAAB"
    assert turns["verdicts"]["ttft"]["verdict"] == verdict, turns["verdicts"]["ttft"]
    assert turns["verdicts"]["ttft"]["method"] == "interleaved"
    assert len(turns["base"]["processes"]) == len(document["processes"]) == 3
    assert document["samples"]["columns"][:2] == ["process", "iteration"]


def test_a_round_that_would_not_fit_is_not_begun(quiet):
    document = measure_in_turns(BASE, OTHER, Protocol(), engine=Engines(quiet, quiet), timeout_s=0.0)
    assert document["in_turns"]["order"] == "AB"
    assert document["warnings"][-1]["message"] == "The time limit allowed 1 of 3 rounds."
    assert document["in_turns"]["verdicts"]["ttft"]["verdict"] == "not comparable"


def test_a_side_that_fails_is_named_and_what_it_had_is_kept(quiet):
    failure = EngineError(phase="load", kind="memory", message="Too big.")
    with pytest.raises(EngineError) as caught:
        measure_in_turns(BASE, OTHER, Protocol(), engine=Engines(quiet, copy.deepcopy(quiet), failure))
    assert caught.value.message == "Turn 3 of 6, of the other: Too big."
    assert len(caught.value.partial["processes"]) == 1


@pytest.mark.parametrize("setting", ["batch_size=2", "dtype", "dtype=", "=1", "nonsense=1"])
def test_what_cannot_differ_is_refused(setting):
    with pytest.raises(SpecError) as caught:
        changed([setting])
    assert caught.value.field == "other"


def test_settings_are_read_as_numbers_where_they_are():
    assert changed(["threads=1", "dtype=bf16", "attn-implementation=eager"]) == {
        "threads": 1,
        "dtype": "bf16",
        "attn_implementation": "eager",
    }


@pytest.mark.slow
def test_from_the_command_line(tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(tiny.MODEL.config))
    asked = ["turns", "--config", str(config), "--dtype", "fp32", "--input-tokens", "16", "--output-tokens", "4"]
    asked += ["--processes", "2", "--iterations", "2", "--no-ceilings", "--other", "threads=1"]
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "B (threads 1) against A, ABBA" in printed
    assert "Time to first token" in printed


@pytest.mark.slow
def test_a_delay_in_one_module_of_a_real_model_is_found_there(monkeypatch):
    """Real runs in turns; in those of B, the MLP of one layer waits."""
    whole = loading.load

    def load_with_delay(model, workload, device):
        loaded = whole(model, workload, device)
        slow = loaded.get_submodule("model.layers.1.mlp")
        plain = slow.forward

        def forward(*args):
            until = time.perf_counter() + DELAY_S
            while time.perf_counter() < until:
                pass
            return plain(*args)

        slow.forward = forward
        return loaded

    class Engine:
        """A measurement in this process, with the delay where the seed is that of B."""

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            return None

        def request(self, op, payload, **options):
            model, hardware, workload = RunSpec.from_json(payload["spec"]).parts()
            delayed = workload.seed == OTHER["workload"]["seed"]
            monkeypatch.setattr(measure_module, "load", load_with_delay if delayed else whole)
            document = measure(model, hardware, workload, estimates=False)
            document["conditions"] |= {"contended": False, "reasons": []}  # other tests run beside this one
            return document

    specs = [spec | {"workload": spec["workload"] | {"iterations": 6}} for spec in (BASE, OTHER)]
    document = measure_in_turns(*specs, Protocol(), engine=Engine)
    verdict = document["in_turns"]["verdicts"]["ttft"]
    assert verdict["verdict"] == "slower", verdict
    assert [culprit["path"] for culprit in verdict["modules"]] == ["model.layers.1.mlp"]
    assert verdict["modules"][0]["change"] == pytest.approx(DELAY_S, rel=0.5)
