"""The operators that a replay calls are those of the pass: same calls, same number, same results."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import pytest
import torch

from profiling import host
from profiling.build import build
from profiling.passes import Pass, trace
from profiling.replay import twin as twins
from profiling.replay.shapes import Caches, caches_of_host, operators
from profiling.replay.timing import Bench, NotReplayed, Written
from profiling.replay.twin import as_offered, narrow_twin, traced
from profiling.spec import ModelSpec, Workload
from tests.profiling import tiny

MIXTRAL = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS = {
    "llama": ModelSpec(name="llama", config=tiny.LLAMA),
    "mixtral": ModelSpec(name="mixtral", config=MIXTRAL),
    "mamba": ModelSpec(name="mamba", config=tiny.MAMBA, kind="ssm"),
    "bert": ModelSpec(name="bert", config=tiny.BERT, kind="encoder"),
    "t5": ModelSpec(name="t5", config=tiny.T5, kind="encdec"),
}
CACHE = Caches(1 << 20, 1 << 12)


def passes(name):
    model = MODELS[name]
    workload = as_offered(model, Workload(input_tokens=9, output_tokens=0 if name == "bert" else 5, dtype="fp32"))
    stages = ["encode"] if name == "bert" else ["prefill", "decode"]
    return model, workload, traced(model, workload, stages)


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_is_called_again_and_returns_what_it_returned(name):
    bench = Bench(CACHE, 1 << 28, budget_s=0.0)
    for found in passes(name)[2].values():
        shapes = {}
        for call, issued in zip(found.calls, found.recording.issued, strict=True):
            shapes.setdefault(issued.name, []).append(tuple(tuple(t.shape) for t in call.outputs))
        for item in operators(found, CACHE):
            timed = bench.time(item)
            assert timed.seconds > 0
            assert timed.shapes in shapes[item.issued.name], item.key


@pytest.mark.parametrize("name", MODELS)
def test_counts_add_up_to_the_pass_of_the_complete_model(name):
    for found in passes(name)[2].values():
        items = operators(found, CACHE)
        assert sum(item.count for item in items) == sum(found.times)
        assert sum(item.count * item.flops for item in items) == sum(
            times * call.flops for call, times in zip(found.calls, found.times, strict=True)
        )
        moved = sum(item.count * (item.cold_bytes + item.hot_bytes) for item in items)
        assert moved == sum(
            times * (call.bytes_read + call.bytes_written) for call, times in zip(found.calls, found.times, strict=True)
        )
        assert len(items) < len(found.calls)


def test_layers_do_not_change_the_operators_only_how_often_they_run():
    def items(layers):
        model = ModelSpec(name="deep", config=tiny.LLAMA | {"num_hidden_layers": layers})
        found = traced(model, Workload(input_tokens=9, output_tokens=1, dtype="fp32"), ["prefill"])["prefill"]
        return {item.key: item.count for item in operators(found, Caches(0))}

    few, more, many = items(4), items(5), items(40)
    assert few.keys() == many.keys()
    assert all(many[key] - few[key] == 36 * (more[key] - few[key]) for key in few)


def test_weights_and_cache_are_cold_where_the_model_is_larger_than_the_caches_and_hot_where_it_is_not():
    _, _, found = passes("llama")
    small, large = operators(found["decode"], Caches(1 << 30)), operators(found["decode"], Caches(1 << 10))
    assert not any(item.cold for item in small)
    products = [item for item in large if item.name == "mm"]
    assert products
    for item in products:
        (weight,) = [slot for slot in item.issued.slots if slot.source == "weight"]
        assert item.cold == {weight.uid}
        assert item.cold_bytes == weight.nbytes
    cached = [item for item in large if item.name == "cat" and item.lasting]
    assert cached
    assert all(any(slot.source == "cache" and slot.uid in item.cold for slot in item.issued.slots) for item in cached)


def test_an_ordinary_trace_keeps_no_calls():
    built = build(MODELS["llama"], "fp32")
    assert trace(built, Pass("prefill", 1, 4)).recording.issued == ()


def test_a_call_that_cannot_be_made_again_says_why():
    item = operators(passes("llama")[2]["prefill"], CACHE)[0]
    impossible = replace(item, issued=replace(item.issued, reason="takes a Module beside its tensors"))
    with pytest.raises(NotReplayed, match="takes a Module"):
        Bench(CACHE, 1 << 28).time(impossible)


@pytest.mark.parametrize("name", MODELS)
def test_the_twin_calls_the_same_operators_on_next_to_nothing(name):
    model, workload, found = passes(name)
    twin = narrow_twin(model, workload, found)
    assert twin is not None
    for stage, narrow in twin.traces.items():
        assert [call.name for call in narrow.calls] == [call.name for call in found[stage].calls]
        assert narrow.times == found[stage].times
        assert sum(call.flops for call in narrow.calls) < sum(call.flops for call in found[stage].calls)


def test_nothing_larger_than_the_cap_is_allocated(monkeypatch):
    largest = [0]
    empty = torch.empty

    def watched(*args, **kwargs):
        tensor = empty(*args, **kwargs)
        largest[0] = max(largest[0], tensor.untyped_storage().nbytes())
        return tensor

    items = operators(passes("llama")[2]["prefill"], CACHE)
    monkeypatch.setattr(torch, "empty", watched)
    bench = Bench(Caches(0), 1 << 12)
    bench.arena = type(bench.arena)(1 << 12)
    large = [item for item in items if item.footprint > 1 << 12]
    assert large
    for item in large:
        with pytest.raises(NotReplayed, match="more than the 4,096 allowed"):
            bench.time(item)
    for item in items:
        if item not in large:
            bench.time(item)
    assert 0 < largest[0] <= 1 << 12


def test_calls_are_evicted_where_what_came_before_them_is_larger_than_the_cores_own_cache():
    found = passes("llama")[2]["decode"]
    assert not any(item.evicted for item in operators(found, Caches(1 << 30, 1 << 30)))
    assert not any(item.evicted for item in operators(found, Caches(1 << 30, 0)))
    # The products of the feed-forward part move 8 kB each, and then SiLU runs for the first time since the block before.
    items = operators(found, Caches(1 << 30, 1 << 13))
    assert {item.evicted for item in items if item.name == "silu"} == {True}
    same = operators(found, Caches(1 << 30, 1 << 30))
    assert sum(item.count for item in items) == sum(item.count for item in same)


def test_results_that_last_occupy_memory_until_the_caches_have_been_gone_through():
    written = Written(1 << 20, 1 << 30)
    size = 1 << 17
    kept = 0
    while written.fills:
        written.keep(torch.empty(size // 4))
        kept += 1
    assert kept * size > 1 << 20
    assert kept * size <= (1 << 20) + (1 << 18) + size
    small = Written(1 << 20, 1 << 30)
    small.keep(torch.empty(4))
    assert not small.fills


def test_time_spent_on_evictions_is_no_time_of_the_twin(monkeypatch):
    model, workload, found = passes("llama")
    twin = narrow_twin(model, workload, found)
    each: list[float] = []

    class Slow(twins._Evictions):
        def _hook(self, *given):
            before = self.seconds
            if self.evict:
                begin = time.perf_counter()
                other.sum()
                self.seconds += time.perf_counter() - begin
            super()._hook(*given)
            if self.evict:
                each.append(self.seconds - before)

    other = torch.ones(8 << 20)
    monkeypatch.setattr(twins, "_Evictions", Slow)
    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # threads that wait for each other would take longer on a busy machine than all that is measured here
    small, none = Caches(1 << 24, 1 << 13), Caches(1 << 24, 1 << 24)
    plain = twins.pass_seconds(twin, torch.device("cpu"), found, none)
    assert each == []
    evicting = twins.pass_seconds(twin, torch.device("cpu"), found, small)
    torch.set_num_threads(threads)
    patterns = {path for trace in found.values() for path in twins.bytes_by_module(trace, small)}
    modules = sum(1 for path in patterns for _ in range(2 if "#" in path else 1))
    assert modules >= 6
    for stage, seconds in plain.items():
        assert evicting[stage] - seconds < modules * median(each) / 2


def test_a_twin_drives_through_the_caches_what_the_model_drives_through_them():
    _, _, found = passes("llama")
    trace = found["decode"]
    paths = {call.path for call in trace.calls if call.path.endswith("mlp.down_proj")}
    nbytes = sum(call.bytes_read + call.bytes_written for call in trace.calls if call.path == min(paths))
    by_module = twins.bytes_by_module(trace, Caches(1 << 30, 1))
    assert by_module["model.layers.#.mlp.down_proj"] == nbytes > 0
    assert twins.bytes_by_module(trace, Caches(nbytes // 4, 1))["model.layers.#.mlp.down_proj"] == 2 * (nbytes // 4)
    assert "model.layers.#.mlp.down_proj" not in twins.bytes_by_module(trace, Caches(1 << 30, nbytes))

    evictions = twins._Evictions(Caches(1 << 12, 1), {"decode": {"down": 1 << 12}, "prefill": {}})
    assert evictions._memory.numel() * 4 == 1 << 13
    evictions.evict = True
    evictions.begin("prefill")
    evictions._hook("down")
    assert evictions._place == 0, "the prefill moves nothing there"
    evictions.begin("decode")
    places = []
    for _ in range(3):
        evictions._hook("down")
        places.append(evictions._place)
    assert places == [1 << 10, 1 << 11, 1 << 10], "always what was read longest ago"


@pytest.mark.parametrize(
    ("virtual", "cores", "told", "counted_on"),
    [
        (True, 2, 480 << 20, 32 << 20),  # the whole socket's, beside two of its cores
        (True, 2, 32 << 20, 32 << 20),  # of a group of cores that may be its own
        (True, 64, 480 << 20, 480 << 20),  # most of the socket
        (False, 2, 480 << 20, 480 << 20),
        (True, 2, None, 32 << 20),
        (None, 4, 8 << 20, 8 << 20),
    ],
)
def test_a_virtual_machine_counts_on_no_cache_that_its_neighbours_use(monkeypatch, virtual, cores, told, counted_on):
    found = {"virtualised": virtual, "cores_physical": cores, "cache_bytes": told, "cpu": {"caches": {"L2": 2 << 20}}}
    monkeypatch.setattr(host, "detect", lambda: found)
    assert caches_of_host() == Caches(counted_on, 2 << 20)
