"""Measuring real (tiny) models: counts of samples, metrics against known times, memory, failures, and the whole document."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from profiling.client import EngineChild, EngineError
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from tests.profiling import tiny

torch = pytest.importorskip("torch")

from profiling import hooks, loading, measured  # noqa: E402
from profiling.generation import Runner  # noqa: E402
from profiling.hooks import ModuleTime, ModuleTimer, central_mean  # noqa: E402
from profiling.loading import Inputs  # noqa: E402
from profiling.measure import measure, time_modules  # noqa: E402
from profiling.session import Session  # noqa: E402

CPU = torch.device("cpu")


def column(table: dict, name: str, **where) -> list:
    at = {key: table["columns"].index(key) for key in (name, *where)}
    return [row[at[name]] for row in table["rows"] if all(row[at[key]] == value for key, value in where.items())]


@pytest.fixture(scope="module")
def document() -> dict:
    return measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD)


def test_every_gap_is_there_once(document):
    samples, workload = document["samples"], tiny.WORKLOAD
    assert len(column(samples, "wall_ns", phase="decode", warmup=False)) == workload.iterations * (
        workload.output_tokens - 1
    )
    assert len(column(samples, "wall_ns", phase="prefill", warmup=False)) == workload.iterations
    assert len(column(samples, "wall_ns", phase="decode", warmup=True)) == workload.warmup * (
        workload.output_tokens - 1
    )
    assert len(column(samples, "wall_ns", phase="cold")) == 1
    assert all(isinstance(value, int) and value > 0 for value in column(samples, "wall_ns"))


def test_metrics_follow_from_the_samples(document):
    samples, metrics = document["samples"], document["metrics"]
    tpots, whole = [], []
    for iteration in range(tiny.WORKLOAD.iterations):
        steps = column(samples, "wall_ns", phase="decode", warmup=False, iteration=iteration)
        prefill = column(samples, "wall_ns", phase="prefill", warmup=False, iteration=iteration)
        tpots.append(sum(steps) / len(steps) / 1e9)
        whole.append((sum(steps) + sum(prefill)) / 1e9)
    assert metrics["tpot"]["value"] == pytest.approx(sorted(tpots)[1])
    assert metrics["e2e_latency"]["value"] == pytest.approx(sorted(whole)[1])
    assert metrics["tpot"]["n"] == 3
    assert metrics["itl"]["n"] == 15
    assert metrics["tpot"]["ci95"] is None, "three values have no interval"
    assert "p90" not in metrics["itl"], "fifteen values have no 90th percentile"
    assert all(metric["origin"] == "measured" for metric in metrics.values())


def test_the_document_is_whole_and_is_json(document):
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["kind"] == "measure"
    assert again["workload"]["input_tokens"] == 9
    assert again["model"]["weights"] == "random"
    assert any(warning["code"] == "random_weights" for warning in again["warnings"])
    assert again["environment"]["threads"]["intra"] == 1
    assert set(again["conditions"]) >= {"load_avg", "wall_over_cpu", "contended", "steal_pct", "steady", "reasons"}
    assert again["output"]["output_tokens"] == [6]
    assert again["output"]["finish"] == ["length"]
    assert again["output"]["texts"] == []


def test_estimate_and_error_stand_beside_the_measurement(document):
    assert [estimate["level"] for estimate in document["estimates"]] == ["datasheet"]
    (error,) = document["errors"]["tpot"]
    estimated = document["estimates"][0]["metrics"]["tpot"]["value"]
    assert error["estimated"] == estimated
    assert error["error_pct"] == pytest.approx(100 * (estimated / document["metrics"]["tpot"]["value"] - 1))


def test_every_module_that_runs_has_its_times(document):
    modules = document["modules"]
    for stage in ("prefill", "decode"):
        times = dict(
            zip(column(modules, "path", stage=stage), column(modules, "exclusive_s", stage=stage), strict=True)
        )
        whole = dict(
            zip(column(modules, "path", stage=stage), column(modules, "inclusive_s", stage=stage), strict=True)
        )
        assert times["model.layers.1.mlp.down_proj"] > 0
        assert whole[""] >= whole["model"] >= whole["model.layers.1"] >= whole["model.layers.1.self_attn"]
        known = [value for value in times.values() if value is not None]
        assert sum(known) == pytest.approx(whole[""], rel=1e-6)
    assert set(document["instrumentation"]) == {"prefill", "decode"}


def test_measured_roofline_points_say_when_they_are_above_the_roof(document):
    points = [point for point in document["roofline"]["points"] if point["origin"] == "measured"]
    assert {"mlp.down_proj", "lm_head", "layers.self_attn (own work)"} <= {point["label"] for point in points}
    assert not any(point["above_roof"] for point in points), "a tiny model cannot reach a TFLOP/s"
    low = replace(tiny.HOST, peak_flops={"fp32": 1e3}, memory_bandwidth=1e3)
    slow = measure(tiny.MODEL, low, replace(tiny.WORKLOAD, iterations=1))
    assert all(point["above_roof"] for point in slow["roofline"]["points"] if point["origin"] == "measured")


def test_memory_has_every_phase_and_grows_with_the_model():
    big = ModelSpec(name="big", config=tiny.LLAMA | {"vocab_size": 32000, "hidden_size": 512})
    document = measure(big, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))
    phases = {row["phase"]: row for row in document["memory"]["phases"]}
    assert list(phases) == ["start", "load", "warmup", "prefill", "decode"]
    assert phases["load"]["rss_delta_bytes"] >= 0.9 * document["model"]["weight_bytes"] > 60e6
    assert document["metrics"]["peak_memory"]["value"] >= 0.9 * document["model"]["weight_bytes"]
    assert document["metrics"]["peak_memory"]["absolute"] > document["metrics"]["peak_memory"]["value"]
    inside = ("prefill", "decode")
    assert document["metrics"]["peak_memory"]["value"] == max(phases[p]["anonymous_delta_bytes"] for p in inside)
    (error,) = document["errors"]["peak_memory"]
    assert abs(error["error_pct"]) < 25, "what loading needed for a moment is not held against the model"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (tiny.T5, "encdec"),
        ({key: value for key, value in tiny.T5.items() if key != "decoder_start_token_id"}, "encdec"),
        (tiny.MAMBA, "ssm"),
    ],
)
def test_other_families_generate_too(config, kind):
    model = ModelSpec(name=kind, config=config, kind=kind)
    document = measure(model, tiny.HOST, replace(tiny.WORKLOAD, iterations=2, batch_size=2))
    assert len(column(document["samples"], "wall_ns", phase="decode", warmup=False)) == 2 * 5
    assert document["output"]["output_tokens"] == [6, 6]
    assert document["metrics"]["tpot"]["value"] > 0


def test_an_encoder_encodes():
    model = ModelSpec(name="bert", config=tiny.BERT, kind="encoder")
    document = measure(model, tiny.HOST, tiny.WORKLOAD)
    assert {"encode_time", "encode_throughput", "peak_memory", "load_time"} <= set(document["metrics"])
    assert "ttft" not in document["metrics"]
    assert set(column(document["samples"], "phase")) == {"cold", "encode"}
    assert any(warning["code"] == "encoder_output" for warning in document["warnings"])
    assert document["errors"]["encode_time"]


def test_random_weights_are_the_same_for_the_same_seed_and_in_the_asked_dtype():
    one, two, other = (loading.load(tiny.MODEL, replace(tiny.WORKLOAD, seed=s, dtype="bf16"), CPU) for s in (1, 1, 2))
    weights = [model.get_input_embeddings().weight for model in (one, two, other)]
    assert weights[0].dtype == torch.bfloat16
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --- known times ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only when it is told to: what a busy machine does cannot disturb it."""

    def __init__(self) -> None:
        self.ns = 10**9

    def perf_counter_ns(self) -> int:
        return self.ns

    process_time_ns = perf_counter_ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class Sleepy(torch.nn.Module):
    """A language model whose forward pass takes a known time on ``clock``: so many seconds for a prefill, so many for a step."""

    def __init__(self, prefill_s: float, step_s: float, tokens: list[int], clock) -> None:
        super().__init__()
        self.times, self.tokens, self.clock = (prefill_s, step_s), tokens, clock
        self.config = SimpleNamespace()

    def forward(self, input_ids, past_key_values=None, use_cache=True, logits_to_keep=0):
        self.clock.sleep(self.times[0 if past_key_values is None else 1])
        position = past_key_values or 0
        logits = torch.zeros(input_ids.shape[0], 1, 16)
        logits[:, :, self.tokens[position % len(self.tokens)]] = 1
        return SimpleNamespace(logits=logits, past_key_values=position + 1)


def run_sleepy(
    clock, *, stop: frozenset[int] = frozenset(), tokens=(1, 2, 3), limit=5, iterations=5
) -> tuple[Session, Inputs]:
    model = Sleepy(0.03, 0.05, list(tokens), clock)
    inputs = Inputs(torch.zeros(2, 4, dtype=torch.long), None, None, stop, False)
    runner = Runner(model, inputs, kind="decoder", logits="last", device=CPU)
    session = Session(tiny.MODEL, tiny.HOST, Workload(batch_size=2, input_tokens=4, output_tokens=limit), None)
    session.timed = [runner.generate(limit) for _ in range(iterations)]
    session.cold = session.timed[0]
    return session, inputs


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("profiling.generation.time", clock)
    monkeypatch.setattr("profiling.hooks.time", clock)
    return clock


def metrics_of(session: Session) -> dict:
    return measured.metrics(session, SimpleNamespace(peak=lambda: (1, 1), on_device=False))


def test_a_first_pass_that_is_slower_in_every_step_is_told_and_one_slow_step_is_not(clock):
    session, inputs = run_sleepy(clock, limit=8)
    slow = Runner(Sleepy(0.03, 0.2, [1, 2, 3], clock), inputs, kind="decoder", logits="last", device=CPU)
    assert measured.first_steps(session) is None
    session.warmups = [session.timed[0]]
    assert measured.first_steps(session) is None
    session.warmups = [slow.generate(8), session.timed[0]]
    assert measured.first_steps(session) == pytest.approx((0.2, 0.05))
    session.warmups = [slow.generate(3)]  # two steps say too little
    assert measured.first_steps(session) is None


def test_times_of_a_model_of_known_speed_come_out_exactly(clock):
    metrics = metrics_of(run_sleepy(clock)[0])
    expected = {
        "ttft": 0.03,
        "prefill_time": 0.03,
        "tpot": 0.05,
        "itl": 0.05,
        "decode_time_per_step": 0.05,
        "e2e_latency": 0.03 + 4 * 0.05,
        "prefill_throughput": 2 * 4 / 0.03,
        "decode_throughput": 2 / 0.05,
        "output_throughput": 2 * 5 / 0.23,
    }
    assert {key: metrics[key]["value"] for key in expected} == pytest.approx(expected)


class Watch:
    """Real sleep, and how long each really was: a busy machine wakes sleepers late."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        begin = time.perf_counter()
        time.sleep(seconds)
        self.slept.append(time.perf_counter() - begin)


def test_real_time_per_token_is_that_of_a_known_sleep_within_two_per_cent():
    for _ in range(5):  # what takes the processor away between a sleep and the clock is in no sleep
        watch = Watch()
        metrics = metrics_of(run_sleepy(watch, iterations=3)[0])
        passes = [watch.slept[start : start + 5] for start in range(0, 15, 5)]  # a prefill and four steps each
        known = statistics.median(sum(steps) / 4 for _, *steps in passes)
        assert known >= 0.05
        if metrics["tpot"]["value"] == pytest.approx(known, rel=0.02):
            return
    pytest.fail(f"a token took {metrics['tpot']['value']} s, of which the model slept {known} s")


def test_generation_ends_at_the_stop_token_and_counts_what_was_produced(clock):
    session, inputs = run_sleepy(clock, stop=frozenset({3}), limit=10, iterations=1)
    (generation,) = session.timed
    assert generation.ids.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert len(generation.stamps) == 4
    produced = measured.output(session, [inputs])
    assert produced["output_tokens"] == [3, 3]
    assert produced["finish"] == ["eos", "eos"]


def test_one_output_token_has_no_time_per_token(clock):
    metrics = metrics_of(run_sleepy(clock, limit=1)[0])
    assert {"tpot", "itl", "decode_throughput"}.isdisjoint(metrics)
    assert metrics["ttft"]["n"] == 5


# --- hooks ---------------------------------------------------------------------------------------------------------------


def test_exclusive_time_is_what_the_children_did_not_use(clock):
    class Slow(torch.nn.Module):
        def __init__(self, seconds, child=None):
            super().__init__()
            self.seconds, self.child = seconds, child

        def forward(self, x):
            clock.sleep(self.seconds)
            return self.child(self.child(x)) if self.child else x

    model = Slow(0.03, Slow(0.01))
    with ModuleTimer(model, CPU) as timer:
        model(1)
        times = timer.collect()
        assert timer.collect() == {}
    assert times["child"] == ModuleTime(2, pytest.approx(0.02), pytest.approx(0.02))
    assert times[""] == ModuleTime(1, pytest.approx(0.05), pytest.approx(0.03))
    assert "forward" not in vars(model), "nothing of it is left afterwards"


def test_a_module_that_fails_or_was_wrapped_before_leaves_no_trace():
    class Failing(torch.nn.Module):
        def forward(self, x):
            raise ValueError("no")

    model = torch.nn.Sequential(torch.nn.Identity(), Failing())
    model[0].forward = before = lambda x: x
    with ModuleTimer(model, CPU) as timer:
        with pytest.raises(ValueError, match="no"):
            model(1)
        assert {path: time.calls for path, time in timer.collect().items()} == {"": 1, "0": 1, "1": 1}
        assert model[0](1) == 1
        assert list(timer.collect()) == ["0"]
    assert model[0].forward is before
    assert "forward" not in vars(model[1])


def test_taking_the_time_of_a_module_costs_a_few_microseconds():
    assert 0 < hooks.call_cost(CPU) < 50e-6


def test_the_middle_half_of_the_passes_counts():
    passes = [{"": ModuleTime(1, seconds, seconds)} for seconds in (1.0, 2.0, 3.0, 100.0)]
    assert central_mean(passes)[""].inclusive_s == 2.5
    assert central_mean([]) == {}


def test_a_module_that_the_first_pass_did_not_call_keeps_its_time():
    """An expert that was not chosen there: without it the parts would no longer add up to the whole."""
    first = {"": ModuleTime(1, 1.0, 1.0)}
    second = {"": ModuleTime(1, 3.0, 1.0), "expert": ModuleTime(1, 2.0, 2.0)}
    found = central_mean([first, second])
    assert found["expert"] == ModuleTime(0.5, 1.0, 1.0)
    assert sum(time.exclusive_s for time in found.values()) == found[""].inclusive_s == 2.0


def test_module_times_are_of_steps_over_the_whole_output(monkeypatch):
    """Later steps read more of the cache: the first alone would be too fast."""
    monkeypatch.setattr("profiling.measure.HOOKED_STEPS", 4)
    monkeypatch.setattr(ModuleTimer, "collect", lambda self: next(numbers))
    numbers, session = itertools.count(), Session(tiny.MODEL, tiny.HOST, tiny.WORKLOAD, lambda *told: None)

    class Steps:
        def generate(self, tokens, between):
            for stage in ["prefill"] + ["decode"] * (tokens - 1):
                between(stage)

    time_modules(session, Steps(), torch.nn.Linear(1, 1), CPU)
    assert session.hooked == {"prefill": [0, 6, 12], "decode": [1, 5, 10, 15]}


def test_what_an_accelerator_gave_out_is_not_said_to_be_memory_of_the_process(clock):
    session = run_sleepy(clock)[0]
    of_process = metrics_of(session)["peak_memory"]
    on_device = measured.metrics(session, SimpleNamespace(peak=lambda: (3, 4), on_device=True))["peak_memory"]
    assert "pages of files" in of_process["note"]
    assert (on_device["value"], on_device["absolute"]) == (3, 4)
    assert "note" not in on_device


# --- refusals and failures -------------------------------------------------------------------------------------------------


def refused(model=tiny.MODEL, hardware=tiny.HOST, **workload) -> SpecError | EngineError:
    with pytest.raises((SpecError, EngineError)) as caught:
        measure(model, hardware, replace(tiny.WORKLOAD, **workload))
    return caught.value


def test_what_cannot_be_measured_is_refused_at_its_field():
    assert refused(input_tokens=120, output_tokens=20).field == "input_tokens"
    assert refused(output_tokens=0).field == "output_tokens"
    assert refused(prompt="Hello").field == "prompt"
    assert refused(threads=0).field == "threads"
    assert refused(model=replace(tiny.MODEL, kind="vision")).field == "model"
    missing = refused(model=replace(tiny.MODEL, weights="local", weights_path="/nowhere/at/all"))
    assert (missing.kind, missing.phase) == ("missing", "load")
    assert "/nowhere" not in str(missing)


def test_a_model_that_does_not_fit_is_refused_with_the_numbers_before_it_is_built(monkeypatch):
    monkeypatch.setattr("profiling.host.available_memory", lambda: 5 * 10**9)
    monkeypatch.setattr("profiling.measure.load", lambda *args: pytest.fail("it was loaded"))
    large = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
    error = refused(model=ModelSpec(name="Large", config=tiny.LLAMA | large | {"vocab_size": 128256}), dtype="bf16")
    assert error.kind == "memory"
    assert "but 5 GB are free" in str(error)
    assert "Large needs at least 1" in str(error)


def test_accelerator_hardware_needs_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    error = refused(hardware=HardwareSpec(name="H100", kind="gpu"))
    assert (error.kind, error.field) == ("missing", "hardware")


def test_a_model_that_computes_nan_fails_with_its_phase(monkeypatch):
    real = loading.load

    def broken(*args):
        model = real(*args)
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(float("nan"))
        return model

    monkeypatch.setattr("profiling.measure.load", broken)
    error = refused()
    assert (error.phase, error.kind) == ("prefill", "numeric")
    assert "NaN" in str(error)


def test_a_short_time_limit_gives_fewer_iterations_and_says_so():
    document = measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=50, time_limit_s=0.001))
    assert document["metrics"]["ttft"]["n"] == 1
    assert any("1 of 50 iterations" in warning["message"] for warning in document["warnings"])


def test_a_failing_estimate_costs_a_warning_not_the_measurement(monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("unknown operator")

    monkeypatch.setattr("profiling.estimate.estimate", fails)
    document = measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))
    assert document["metrics"]["tpot"]["value"] > 0
    assert any(warning["code"] == "estimate_failed" for warning in document["warnings"])


def test_through_the_engine_process():
    stages = []
    with EngineChild() as engine:
        payload = tiny.request(iterations=2)
        document = engine.request(
            "measure", payload, on_progress=lambda stage, *rest: stages.append(stage), timeout_s=120
        )
        assert len(column(document["samples"], "wall_ns", phase="decode", warmup=False)) == 2 * 5
        with pytest.raises(EngineError) as caught:
            engine.request("measure", tiny.request(batch_size=0))
    assert (caught.value.kind, caught.value.field) == ("spec", "batch_size")
    assert stages.index("load") < stages.index("iterations") < stages.index("done")


def test_what_was_measured_survives_the_death_of_the_engine_process():
    payload = tiny.request(iterations=10_000, input_tokens=64, output_tokens=20)
    enough: list[str] = []

    def progress(stage: str, fraction: float, message: str) -> None:
        if message.startswith("Iteration") and int(message.split()[1]) > 150:  # more than a second's
            enough.append(message)

    with EngineChild() as engine, pytest.raises(EngineError) as caught:
        engine.request("measure", payload, on_progress=progress, should_stop=lambda: bool(enough), timeout_s=300)
    kept = caught.value.partial
    assert caught.value.kind == "cancelled"
    assert kept["kind"] == "measure"
    assert kept["model"]["parameters"] > 0
    assert kept["metrics"]["load_time"]["value"] > 0
    assert kept["metrics"]["tpot"]["n"] >= 1
    assert len(column(kept["samples"], "wall_ns", phase="decode", warmup=False)) == 19 * kept["metrics"]["tpot"]["n"]
    assert [row["phase"] for row in kept["memory"]["phases"]] == ["start", "load", "warmup"]
    assert kept["warnings"][-1]["code"] == "incomplete"
    json.dumps(kept, allow_nan=False)


def test_partial_results_are_bounded(monkeypatch):
    sent = []
    monkeypatch.setattr("profiling.partials.PARTIAL_ROWS", 7)

    class Report:
        partial = staticmethod(sent.append)

        def __call__(self, stage: str, fraction: float, message: str) -> None: ...

    measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=4), Report())
    assert 2 <= len(sent) <= 4, "after loading and before the memory pass at once, between them once a second at most"
    assert sent[0]["samples"]["rows"] == []
    assert len(sent[-1]["samples"]["rows"]) == 7
    assert sent[-1]["metrics"]["tpot"]["n"] == 4


def test_from_the_command_line(tmp_path, capsys):
    from profiling.cli import main

    config = tmp_path / "config.json"
    config.write_text(json.dumps(tiny.LLAMA))
    target = tmp_path / "run.json"
    options = [
        "--no-ceilings",
        "--input",
        "8",
        "--output",
        "4",
        "--dtype",
        "fp32",
        "--iterations",
        "2",
        "--threads",
        "1",
        "--processes",
        "2",
    ]
    assert main(["measure", "-m", str(config), *options, "--json", str(target)]) == 0
    written = json.loads(target.read_text())
    assert written["output"]["output_tokens"] == [4]
    assert len(written["processes"]) == 2
    assert "Time per output token" in capsys.readouterr().out
    assert main(["measure", "-m", str(config), *options, "--prompt", "Hello"]) == 1
    assert "no tokenizer" in capsys.readouterr().err
