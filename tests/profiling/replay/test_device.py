"""Replay on a GPU: how long the device takes is told from how long the host does, no index spoils it, and times stay with their device."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from profiling.cli import main
from profiling.cli.replay import summary
from profiling.failures import EngineError
from profiling.replay import device, run, timing
from profiling.replay.shapes import Caches, operators
from profiling.replay.table import Table, default_path, read, write
from profiling.replay.timing import Bench, NotReplayed, takes_guesses, whole_numbers
from profiling.spec import ModelSpec, SpecError, Workload
from tests.profiling import tiny
from tests.profiling.replay.test_shapes import CACHE, MODELS, passes

GPU = torch.device("cuda")
WORKLOAD = Workload(input_tokens=9, output_tokens=5, dtype="fp32")


class Queue:
    """A device that works through a queue beside a host that fills it, in a time of their own. ``host_s``, ``kernel_s``: of a call.

    ``waits``: the host waits for the device in every call.
    """

    def __init__(self, *, host_s, kernel_s, waits=False):
        self.host_s, self.kernel_s, self.waits = host_s, kernel_s, waits
        self.now = self.free = 0.0
        self.calls = 0

    def perf_counter(self):
        return self.now

    def spin(self, seconds):
        self.free = max(self.free, self.now) + seconds

    def event(self):
        self.now += 1e-6
        at = max(self.free, self.now)
        return SimpleNamespace(at=at, query=lambda: at <= self.now, elapsed_time=lambda end: 1e3 * (end.at - at))

    def synchronise(self):
        self.now = max(self.now, self.free)

    def call(self):
        self.calls += 1
        self.now += self.host_s(self.calls) if callable(self.host_s) else self.host_s
        self.spin(self.kernel_s)
        if self.waits:
            self.synchronise()

    def batch(self, count):
        return [self.call] * count


@pytest.fixture
def timed(monkeypatch):
    def timed(queue):
        monkeypatch.setattr(device, "time", queue)
        return device.device_seconds(queue.batch, queue, 0.04)

    return timed


@pytest.mark.parametrize(
    ("host_s", "kernel_s"), [(30e-6, 5e-6), (30e-6, 30e-6), (5e-6, 2e-3), (1e-6, 0.05), (300e-6, 1e-6)]
)
def test_the_time_is_the_devices_however_slow_the_host_is(timed, host_s, kernel_s):
    times, calls = timed(Queue(host_s=host_s, kernel_s=kernel_s))
    assert times == pytest.approx([kernel_s] * len(times))
    assert device.LEAST_ROUNDS <= len(times) <= calls


def test_a_host_that_becomes_slower_gets_a_longer_lead(timed):
    times, _ = timed(Queue(host_s=lambda number: 20e-6 if number < 8 else 200e-6, kernel_s=4e-6))
    assert times == pytest.approx([4e-6] * len(times))


def test_a_call_that_waits_for_the_device_ends_and_spends_no_longer_than_allowed(timed):
    queue = Queue(host_s=20e-6, kernel_s=50e-6, waits=True)
    times, calls = timed(queue)
    assert times == pytest.approx([50e-6] * len(times), rel=0.03)
    assert calls == len(times), "one by one"
    assert queue.now < 0.5


def test_a_call_without_a_kernel_takes_more_than_nothing(timed):
    times, _ = timed(Queue(host_s=5e-6, kernel_s=0.0))
    assert 0 < max(times) < 1e-6


class HostClock:
    """The processor in place of a device."""

    def spin(self, seconds):
        pass

    def synchronise(self):
        pass

    def event(self):
        at = time.perf_counter()
        return SimpleNamespace(at=at, query=lambda: False, elapsed_time=lambda end: 1e3 * (end.at - at))


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_called_again_between_events(name):
    """What a GPU would be given, given to the processor: calls made ready together, in memory of several places."""
    bench = Bench(CACHE, 1 << 28, budget_s=0.0)
    bench._clock = HostClock()
    for found in passes(name)[2].values():
        shapes = {}
        for call, issued in zip(found.calls, found.recording.issued, strict=True):
            shapes.setdefault(issued.name, []).append(tuple(tuple(t.shape) for t in call.outputs))
        for item in operators(found, CACHE):
            with torch.inference_mode():
                took = bench._time_on_gpu(item, zeros=not takes_guesses(item))
            assert took.seconds > 0
            assert took.calls >= device.LEAST_ROUNDS
            assert took.shapes in shapes[item.issued.name], item.key


def item_named(name):
    return next(item for item in operators(passes("llama")[2]["prefill"], CACHE) if item.name == name)


def test_indices_are_tried_on_the_processor_before_a_gpu_gets_them(monkeypatch):
    item = item_named("embedding")
    assert takes_guesses(item)
    rows = next(slot.shape[0] for slot in item.issued.slots if slot.dtype == torch.float32)
    monkeypatch.setattr(
        timing, "whole_numbers", lambda item, *_: {key: value + rows for key, value in whole_numbers(item).items()}
    )
    assert not takes_guesses(item)
    given = []
    bench = Bench(CACHE, 1 << 28, device=GPU)
    monkeypatch.setattr(bench, "_time_on_gpu", lambda item, zeros: given.append(zeros) or "timed")
    assert bench.time(item) == "timed"
    assert given == [True], "zeros, which are valid"
    monkeypatch.setattr(timing, "MOST_TRIED_BYTES", 1)
    monkeypatch.setattr(timing, "whole_numbers", whole_numbers)
    assert not takes_guesses(item), "too large to be tried"


def test_a_call_that_cannot_be_made_costs_no_other_and_a_gpu_that_is_spoilt_ends_the_replay(monkeypatch):
    bench = Bench(CACHE, 1 << 28, device=GPU)

    def fails(item, zeros):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(bench, "_time_on_gpu", fails)
    bench._clock = HostClock()
    with pytest.raises(NotReplayed, match="assert"):
        bench.time(item_named("mm"))
    monkeypatch.setattr(bench._clock, "synchronise", lambda: fails(None, False), raising=False)
    with pytest.raises(EngineError, match="spoilt the GPU for this process: device-side assert"):
        bench.time(item_named("mm"))


def test_the_device_is_the_gpu_if_there_is_one(monkeypatch):
    assert device.choose("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose(None) == device.choose("cuda") == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose(None) == torch.device("cpu")
    with pytest.raises(EngineError, match="torch sees no CUDA GPU") as caught:
        device.choose("cuda")
    assert (caught.value.kind, caught.value.field) == ("missing", "device")
    with pytest.raises(SpecError, match="Choose cpu or cuda"):
        device.choose("tpu")


def test_a_table_of_another_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "GPU B")
    assert device.device_of("GPU B") == torch.device("cuda", 0)
    assert device.device_of("cpu") == torch.device("cpu")
    with pytest.raises(EngineError, match="The table is of GPU A, and torch's first GPU here is GPU B"):
        device.device_of("GPU A")


def test_caches_of_a_gpu_are_its_l2(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: SimpleNamespace(L2_cache_size=50 << 20))
    assert device.caches_of(GPU) == Caches(50 << 20, 0)
    found = passes("llama")[2]["decode"]
    assert not any(item.evicted for item in operators(found, Caches(1 << 10, 0)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_command_line_says_that_there_is_no_gpu(tmp_path, capsys):
    table = tmp_path / "table.json"
    assert main(["replay", "--model", "gpt2", "--device", "cuda", "--table", str(table)]) == 1
    said = capsys.readouterr()
    assert "error: device: torch sees no CUDA GPU on this host" in said.err
    assert "Choose the processor (cpu)" in said.err
    assert said.out == ""
    assert not table.exists()


class TestTable:
    def test_times_of_processor_and_gpu_lie_in_different_files(self):
        cpu, one, other = (
            default_path("f" * 64, n, name) for n, name in ((0, "cpu"), (0, "NVIDIA H100"), (0, "NVIDIA H200"))
        )
        assert len({cpu, one, other}) == 3
        assert one.name == f"{'f' * 16}-nvidia-h100.json"
        assert default_path("f" * 64, 4).name == f"{'f' * 16}-4.json", "as it was before there were tables of GPUs"

    def test_times_of_another_device_are_refused(self, tmp_path):
        path = tmp_path / "t.json"
        write(Table("host", "2", 0, device="NVIDIA H100"), path)
        assert read(path, "host", "2", 0, "NVIDIA H100").on_gpu
        for asked in ("cpu", "NVIDIA H200"):
            with pytest.raises(SpecError, match=f"another device \\(NVIDIA H100, not {asked}\\)"):
                read(path, "host", "2", 0, asked)

    def test_a_table_that_names_no_device_is_of_a_processor(self):
        old = Table("host", "2", 4).to_json()
        del old["device"]
        assert Table.from_json(old).device == "cpu"
        assert not Table.from_json(old).on_gpu


@pytest.fixture(scope="module")
def grown():
    """Times of the processor in a table that says that it is of a GPU."""
    found = Table("this-host", torch.__version__, 1)
    run.replay(tiny.MODEL, [WORKLOAD], found, budget_s=0.001)
    return found.to_json() | {"device": "A GPU", "threads": 0}


@pytest.fixture
def elsewhere(monkeypatch):
    """The processor in place of the GPU that tables are of."""
    monkeypatch.setattr(run, "device_of", lambda name: torch.device("cpu"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail("threads of a GPU"))


@pytest.mark.parametrize(("host_s", "bound"), [(9.0, "host"), (1e-12, "device")])
def test_a_pass_takes_as_long_as_the_slower_of_host_and_device(grown, elsewhere, host_s, bound):
    found = Table.from_json(grown)
    found.glue = {key: replace(item, seconds=host_s) for key, item in found.glue.items()}
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], found, timed=False)
    assert document["host"]["device"] == "A GPU"
    for stage, metric in (("prefill", "ttft"), ("decode", "tpot")):
        parts, value = document["stages"][stage], document["metrics"][metric]
        assert parts["own_s"] > 0
        assert (parts["combined"], parts["bound"], parts["glue_s"]) == ("larger", bound, host_s)
        assert value["value"] == pytest.approx(max(parts["own_s"], host_s))
        assert parts["known_s"] == value["value"] == value["low"] == value["high"]
    said = "\n".join(summary(document))
    assert "Tiny on A GPU, predicted by operator replay" in said
    assert "the host's work for the pass (of its narrow twin)" in said
    assert f"host and device work at the same time, so the larger counts: the {bound}'s" in said


def test_a_pass_without_the_hosts_time_has_none(grown, elsewhere):
    found = Table.from_json(grown)
    found.glue = {}
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], found, timed=False)
    parts = document["stages"]["decode"]
    assert document["metrics"]["tpot"]["value"] is None
    assert parts["bound"] is None
    assert parts["known_s"] == pytest.approx(parts["own_s"])


def test_interpolated_operators_widen_only_what_the_pass_waits_for(grown, elsewhere):
    wider = ModelSpec(
        name="wider", config=tiny.LLAMA | {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5}
    )
    for host_s, same in ((9.0, True), (1e-12, False)):
        found = Table.from_json(grown)
        found.glue = {key: replace(item, per_call=host_s) for key, item in found.glue.items()}
        (document,) = run.replay(wider, [WORKLOAD], found, timed=False)
        value = document["metrics"]["tpot"]
        assert (value["low"] == value["value"] == value["high"]) is same
        assert value["low"] <= value["value"] <= value["high"]


def test_the_hosts_time_is_a_whole_pass_of_the_twin(elsewhere, monkeypatch):
    monkeypatch.setattr(run.twins, "pass_seconds", lambda *_: {"prefill": 0.5, "decode": 0.25})
    found = Table("this-host", torch.__version__, 0, device="A GPU")
    (document,) = run.replay(tiny.MODEL, [WORKLOAD], found, budget_s=0.001)
    assert {item.stage: item.seconds for item in found.glue.values()} == {"prefill": 0.5, "decode": 0.25}
    calls = document["stages"]["decode"]["calls"]
    assert {item.per_call for item in found.glue.values() if item.stage == "decode"} == {0.25 / calls}
    assert len(found.rows) == len(
        {
            item.key
            for trace in run.twins.traced(tiny.MODEL, WORKLOAD, ["prefill", "decode"]).values()
            for item in operators(trace, run.caches_of(torch.device("cpu")))
        }
    ), "no operator of the twin"
    assert document["metrics"]["ttft"]["value"] == 0.5


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU (benchmarks/gpu_check.py replays on one too)"
)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_on_a_gpu(name, dtype):
    model = MODELS[name]
    workload = Workload(input_tokens=9, output_tokens=0 if name == "bert" else 5, dtype=dtype)
    answer = run.answer(
        {"model": model.to_json(), "workloads": [workload.to_json()], "device": "cuda", "budget_s": 0.001}, None
    )
    (document,) = answer["predictions"]
    assert document["not_replayed"] == []
    assert document["host"]["device"] == torch.cuda.get_device_name(0)
    for metric in document["metrics"].values():
        assert 0 < metric["value"] < 1
    for parts in document["stages"].values():
        assert parts["operators"]["own"] == sum(parts["operators"].values())
        assert (parts["combined"], parts["glue_from"]) == ("larger", "twin")
