"""A load of requests: who arrives when, what latency counts from, what is within the objectives."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from dataclasses import replace

import pytest

from profiling import load_run
from profiling.cli import main
from profiling.load import Asked, Load, lengths, planned
from profiling.load_metrics import latencies, load_metrics, met, queue_grows
from profiling.measure import measure
from profiling.server import Clock, Served, serve
from profiling.spec import SpecError
from tests.profiling import tiny

MS = 1_000_000


class Machine:
    """A clock, and a model on it that takes ``prefill`` and ``step`` milliseconds."""

    def __init__(self, prefill: int = 10, step: int = 1) -> None:
        self.now, self.prefill, self.step = 0, prefill, step
        self.batches: list[list[int]] = []
        self.clock = Clock(now_ns=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)

    def work(self, batch) -> list[int]:
        self.batches.append([one.index for one in batch])
        tokens = max(one.output_tokens for one in batch)
        stamps = [self.now, *(self.now + (self.prefill + index * self.step) * MS for index in range(tokens))]
        self.now = stamps[-1]
        return stamps


def run(load: Load, asked: list[Asked], *, batch_size: int = 1, machine: Machine | None = None) -> list[Served]:
    machine = machine or Machine()
    return serve(load, asked, machine.work, batch_size=batch_size, clock=machine.clock)


def arrivals(*seconds: float, tokens: int = 1) -> list[Asked]:
    return [Asked(index, 5, tokens, at) for index, at in enumerate(seconds)]


OPEN = Load(mode="poisson", rate=1.0)


def test_waiting_behind_a_slow_request_counts_from_the_arrival():
    served = run(OPEN, arrivals(0.0, 0.002, 0.004))
    assert [latencies(one)["ttft_s"] for one in served] == pytest.approx([0.010, 0.018, 0.026])
    assert [latencies(one)["queue_s"] for one in served] == pytest.approx([0, 0.008, 0.016])


def test_an_idle_server_waits_for_the_next_arrival():
    served = run(OPEN, arrivals(0.0, 1.0))
    assert served[1].started_ns == 1000 * MS
    assert latencies(served[1])["ttft_s"] == pytest.approx(0.010)


def test_a_batch_is_of_what_waits_and_lasts_as_long_as_its_longest_answer():
    machine = Machine()
    asked = [Asked(0, 5, 2, 0.0), Asked(1, 5, 3, 0.001), Asked(2, 5, 7, 0.002), Asked(3, 5, 1, 0.003)]
    served = run(OPEN, asked, batch_size=2, machine=machine)
    assert machine.batches == [[0], [1, 2], [3]]
    assert served[1].end_ns == (11 + 10 + 2) * MS, "a request ends with its own last token"
    assert served[3].started_ns == (11 + 10 + 6) * MS, "and the next batch when the whole batch has"
    assert latencies(served[2])["tpot_s"] == pytest.approx(0.001)
    assert "tpot_s" not in latencies(served[3])


def test_users_of_a_closed_loop_send_when_they_have_their_answer():
    load = Load(concurrency=2, requests=4)
    served = run(load, planned(load, input_tokens=5, output_tokens=3, seed=0))
    assert [one.scheduled_ns // MS for one in served] == [0, 0, 12, 24]
    assert [one.started_ns // MS for one in served] == [0, 12, 24, 36]


def test_no_request_of_a_closed_loop_begins_after_its_seconds():
    load = Load(concurrency=1, requests=100, seconds=0.025)
    assert len(run(load, planned(load, input_tokens=5, output_tokens=1, seed=0))) == 3


def test_what_was_due_and_not_served_is_there_without_times_and_within_no_objective():
    load = replace(OPEN, ttft_s=1.0)
    machine = Machine()
    served = serve(
        load,
        arrivals(0.0, 0.005, 9.0),
        machine.work,
        batch_size=1,
        clock=machine.clock,
        enough=lambda done: done == 1,
    )
    assert [one.end_ns for one in served] == [10 * MS, None], "the third was not due yet"
    assert [met(one, load) for one in served] == [True, False]
    assert load_metrics(served, load)["goodput_share"]["value"] == 0.5


def test_goodput_counts_those_that_met_every_objective():
    load = replace(OPEN, ttft_s=0.02, e2e_s=0.025)
    served = run(load, arrivals(0.0, 0.002, 0.004, tokens=3))
    # Times to first token 10, 20, 30 ms; to the last 12, 22, 32 ms: the last misses both.
    metrics = load_metrics(served, load)
    assert metrics["request_goodput"]["value"] == pytest.approx(2 / 0.036)
    assert metrics["goodput_share"]["value"] == pytest.approx(2 / 3)
    assert metrics["request_throughput"]["value"] == pytest.approx(3 / 0.036)
    assert metrics["request_output_throughput"]["value"] == pytest.approx(9 / 0.036)
    assert metrics["request_goodput"]["unit"] == "request/s"
    only_first = replace(load, e2e_s=0.012)
    assert load_metrics(served, only_first)["goodput_share"]["value"] == pytest.approx(1 / 3)


def test_without_objectives_there_is_no_goodput():
    assert not {"request_goodput", "goodput_share"} & set(load_metrics(run(OPEN, arrivals(0.0)), OPEN))


def test_percentiles_need_samples():
    few, many = (load_metrics(run(OPEN, arrivals(*range(n))), OPEN)["request_ttft"] for n in (49, 50))
    assert "p90" not in few
    assert {"p90", "p95"} & set(many) == {"p90"}


def test_a_queue_that_grows_is_told_from_one_that_does_not():
    over = run(OPEN, arrivals(*(0.005 * n for n in range(100))), machine=Machine(prefill=100))
    under = run(OPEN, arrivals(*(0.2 * n for n in range(100))), machine=Machine(prefill=100))
    assert (queue_grows(over), queue_grows(under), queue_grows(under[:3])) == (True, False, None)


def test_arrivals_of_a_poisson_load_are_exponential_and_seeded():
    load = Load(mode="poisson", rate=50.0, requests=5000)
    first, again, other = (planned(load, input_tokens=1, output_tokens=1, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    gaps = [b.arrival_s - a.arrival_s for a, b in itertools.pairwise(first)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)


def test_arrivals_of_a_constant_load_are_at_equal_distances():
    load = Load(mode="constant", rate=4.0, requests=5, seconds=0.75)
    load.check()
    assert [one.arrival_s for one in planned(load, input_tokens=1, output_tokens=1, seed=3)] == [0.0, 0.25, 0.5, 0.75]


def test_seconds_end_the_arrivals():
    load = Load(mode="poisson", rate=50.0, requests=5000, seconds=2.0)
    asked = planned(load, input_tokens=1, output_tokens=1, seed=0)
    assert 60 < len(asked) < 140
    assert asked[-1].arrival_s <= 2.0


def test_lengths_have_the_asked_distribution_and_bounds():
    source = random.Random(0)
    for text in ("normal(100, 20, 1, 1000)", "lognormal(100, 20, 1, 1000)"):
        drawn = [lengths(text).draw(source) for _ in range(4000)]
        assert statistics.mean(drawn) == pytest.approx(100, rel=0.02)
        assert statistics.stdev(drawn) == pytest.approx(20, rel=0.06)
    uniform = [lengths("uniform(3,5)").draw(source) for _ in range(500)]
    assert set(uniform) == {3, 4, 5}
    assert lengths("fixed(7)").draw(source) == 7
    tight = [lengths("normal(100, 50, 90, 110)").draw(source) for _ in range(500)]
    assert min(tight) >= 90
    assert max(tight) <= 110


def test_other_lengths_leave_the_arrivals_as_they_are():
    load = Load(mode="poisson", rate=5.0, requests=20)
    drawn = planned(replace(load, input_lengths="uniform(1, 90)"), input_tokens=1, output_tokens=1, seed=0)
    plain = planned(load, input_tokens=1, output_tokens=1, seed=0)
    assert [one.arrival_s for one in drawn] == [one.arrival_s for one in plain]
    assert len({one.input_tokens for one in drawn}) > 5


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("load_mode", {"mode": "gamma"}),
        ("load_rate", {"mode": "poisson"}),
        ("load_rate", {"mode": "constant"}),
        ("load_rate", {"rate": 2.0}),
        ("load_rate", {"mode": "poisson", "rate": float("nan")}),
        ("load_concurrency", {"concurrency": 0}),
        ("load_requests", {"requests": True}),
        ("load_seconds", {"seconds": -1.0}),
        ("load_ttft_s", {"ttft_s": 0}),
        ("load_tpot_s", {"tpot_s": float("inf")}),
        ("load_input_lengths", {"input_lengths": "uniform(9, 2)"}),
        ("load_input_lengths", {"input_lengths": "normal(9, 0, 1, 20)"}),
        ("load_output_lengths", {"output_lengths": "zipf(2)"}),
        ("load_output_lengths", {"output_lengths": "fixed(1.5)"}),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(field, wrong):
    with pytest.raises(SpecError) as caught:
        Load(**wrong).check()
    assert caught.value.field == field


def test_requests_that_were_served_are_kept_while_the_load_goes_on(monkeypatch):
    """A process that is killed during a load leaves what it had sent by then."""
    kept, stages = [], {}

    class Report:
        def __call__(self, stage, fraction, message):
            stages.setdefault(stage, message)

        def partial(self, document):
            kept.append(document)

    monkeypatch.setattr(load_run, "LOAD_PARTIAL_S", 0.0)
    load = Load(requests=5, output_lengths="fixed(2)")
    document = measure(
        tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1), Report(), load=load, estimates=False
    )
    during = [one for one in kept if "requests" in one]
    assert [len(one["requests"]["rows"]) for one in during] == [1, 2, 3, 4, 5]
    assert during[-1]["requests"]["rows"] == document["requests"]["rows"]
    assert during[0]["load"]["mode"] == "closed"
    assert "during its load" in during[0]["warnings"][-1]["message"]
    json.dumps(during[-1], allow_nan=False)
    # Power and memory are summed by stage: what serving costs is not what loading the weights costs.
    assert stages["load"].startswith("Loading ")
    assert stages["requests"] == "Load: 5 requests"


def test_a_real_model_under_load_has_every_request_with_the_lengths_that_were_drawn():
    load = Load(
        concurrency=3,
        requests=7,
        input_lengths="uniform(3, 12)",
        output_lengths="uniform(2, 9)",
        ttft_s=60.0,
        tpot_s=60.0,
    )
    workload = replace(tiny.WORKLOAD, batch_size=2, iterations=1)
    document = measure(tiny.MODEL, tiny.HOST, workload, load=load, estimates=False)
    table = document["requests"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    asked = planned(load, input_tokens=9, output_tokens=6, seed=workload.seed)
    assert [(row["input_tokens"], row["output_tokens"]) for row in rows] == [
        (one.input_tokens, one.output_tokens) for one in asked
    ]
    for row in rows:
        assert row["scheduled_ns"] <= row["started_ns"] < row["first_token_ns"] < row["end_ns"]
        assert row["within_objectives"] is True
        assert row["batch_requests"] <= 2
    assert (document["load"]["due"], document["load"]["served"]) == (7, 7)
    assert document["metrics"]["goodput_share"]["value"] == 1
    assert document["metrics"]["request_tpot"]["n"] == 7
    assert document["workload"]["output_tokens"] == 6, "the workload itself is as it was"
    json.dumps(document, allow_nan=False)


def test_the_longest_request_must_have_room_in_the_context():
    with pytest.raises(SpecError) as caught:
        measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD, load=Load(input_lengths="uniform(4, 125)"), estimates=False)
    assert caught.value.field == "load_input_lengths"
    assert "128" in str(caught.value)


def test_an_encoder_takes_no_load():
    bert = replace(tiny.MODEL, config=tiny.BERT, kind="encoder")
    with pytest.raises(SpecError) as caught:
        measure(bert, tiny.HOST, tiny.WORKLOAD, load=Load(), estimates=False)
    assert caught.value.field == "load_mode"


def test_from_the_command_line(tmp_path, capsys):
    config, out = tmp_path / "config.json", tmp_path / "run.json"
    config.write_text(json.dumps(tiny.LLAMA))
    options = [
        "--input-tokens",
        "8",
        "--output-tokens",
        "4",
        "--dtype",
        "fp32",
        "--iterations",
        "1",
        "--processes",
        "2",
    ]
    options += ["--no-ceilings", "--threads", "1", "--load", "poisson", "--load-rate", "200", "--load-requests", "9"]
    options += ["--load-output-lengths", "uniform(2, 4)", "--slo-ttft", "30"]
    assert main(["measure", "--config", str(config), *options, "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert len(document["requests"]["rows"]) == 2 * 9, "each process is sent the load"
    assert document["metrics"]["goodput_share"]["value"] == 1
    assert len(document["metrics"]["request_ttft"]["processes"]) == 2
    assert len(document["processes"]) == 2
    assert "Goodput" in capsys.readouterr().out
    assert main(["measure", "--config", str(config), "--load-rate", "3", "--no-ceilings"]) == 2
    assert "Choose --load closed, poisson" in capsys.readouterr().err
