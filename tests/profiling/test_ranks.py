"""A measurement on several devices: real processes, joined by real collectives, as processors offer them."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from profiling import host
from profiling.client import EngineChild
from profiling.energy import energy_metrics
from profiling.failures import EngineError
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.ranks import Ranks, error_file
from profiling.spec import ModelSpec, SpecError
from tests.profiling import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MIXTRAL = tiny.LLAMA | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
#: Storages of torch's processor allocator begin and end at multiples of this.
ALIGNED = 64

needs_two_cores = pytest.mark.skipif(host.cores()[0] < 2, reason="two ranks need two cores")
pytestmark.append(needs_two_cores)


def measured(model: ModelSpec = tiny.MODEL, size: int = 2, **workload) -> dict:
    with EngineChild() as child:
        spec = tiny.request(model, threads=1, tensor_parallel=size, **workload)
        return child.request("measure", spec, timeout_s=200)


def held(document: dict, phase: str, part: str) -> tuple[int, int]:
    """(measured, estimated) bytes."""
    table = document["memory"]["breakdown"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    row = next(row for row in rows if (row["phase"], row["part"]) == (phase, part))
    return row["measured_bytes"], row["estimated_bytes"]


def ranks_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "profiling.rank" in child.cmdline()]


@pytest.fixture(scope="module")
def tokenised(tmp_path_factory) -> ModelSpec:
    from tests.profiling.tokenised import make_tokenised

    return make_tokenised(tmp_path_factory.mktemp("weights") / "tiny")


def test_a_model_with_an_attention_of_its_own_and_a_window_too(tmp_path):
    """It does not offer what was asked for: every rank must take the same instead."""
    from tests.profiling.tokenised import make_tokenised

    config = tiny.LLAMA | {
        "model_type": "gemma2",
        "architectures": ["Gemma2ForCausalLM"],
        "head_dim": 8,
        "sliding_window": 4,
        "eos_token_id": 1,
    }
    model = make_tokenised(tmp_path / "gemma", config)
    asked = {"prompt": "what is the capital of france", "output_tokens": 8}
    alone, divided = measured(model, size=1, **asked), measured(model, **asked)
    assert divided["workload"]["attn_implementation"] == "eager"
    assert divided["output"]["texts"] == alone["output"]["texts"]


def test_two_ranks_write_the_same_text_as_one_device(tokenised):
    asked = {"prompt": "what is the capital of france", "output_tokens": 8}
    alone, divided = measured(tokenised, size=1, **asked), measured(tokenised, **asked)
    assert divided["output"]["texts"] == alone["output"]["texts"]
    assert divided["output"]["output_tokens"] == alone["output"]["output_tokens"]
    assert "parallel" not in alone
    parallel = divided["parallel"]
    assert (parallel["tensor_parallel"], parallel["backend"], parallel["shared_machine"]) == (2, "gloo", True)
    assert len(parallel["devices"]) == 2
    real, estimated = held(divided, "prefill", "weights")
    assert estimated <= real <= estimated + ALIGNED * 40, "its own part of the files, not a view of the whole"


@pytest.mark.parametrize("config", [tiny.LLAMA, MIXTRAL], ids=["dense", "experts"])
def test_each_rank_holds_what_the_estimate_of_one_device_says(config):
    document = measured(ModelSpec(name="Tiny", config=config))
    for phase, part in (("prefill", "weights"), ("decode", "cache")):
        real, estimated = held(document, phase, part)
        assert estimated > 0
        # Every tensor is rounded up by the allocator.
        assert estimated <= real <= estimated + ALIGNED * 40, (phase, part)
    real, estimated = held(document, "prefill", "activations")
    assert real == pytest.approx(estimated, rel=0.15)


def test_no_estimated_time_stands_beside_ranks_that_share_one_machine():
    """The rates of the host are those of the whole machine; an estimate of two such hosts would look twice too fast."""
    document = measured()
    assert set(document["errors"]) <= {"peak_memory"}
    assert [estimate["metrics"].get("ttft", {}).get("value") for estimate in document["estimates"]] == [None]
    columns = document["modules"]["columns"]
    assert {row[columns.index("bound")] for row in document["modules"]["rows"]} <= {None, "unknown"}
    assert not {"mfu_prefill", "mbu_decode"} & set(document["metrics"])
    assert "shared_machine" in [warning["code"] for warning in document["warnings"]]
    assert document["conditions"]["wall_over_cpu"] is None, "it waits for the other"


def test_the_other_tables_are_there_too():
    document = measured(iterations=2)
    columns = document["modules"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in document["modules"]["rows"]]
    timed = {row["path"] for row in rows if row["stage"] == "decode" and row["inclusive_s"]}
    assert {"model.layers.0.self_attn", "model.layers.1.mlp.down_proj", "lm_head"} <= timed
    assert document["profiled"]["stages"]["prefill"]["total_s"] > 0
    assert len([row for row in document["samples"]["rows"] if not row[2]]) == 2 * tiny.WORKLOAD.output_tokens


def test_several_prompts_with_padding_and_a_load_are_run_in_step(tokenised):
    prompts = ["what is the capital of france", "name three colours", "what is a"]
    alone = measured(tokenised, size=1, prompts=prompts, batch_size=2, output_tokens=5)
    spec = tiny.request(tokenised, threads=1, tensor_parallel=2, prompts=prompts, batch_size=2, output_tokens=5)
    spec["spec"]["load"] = {"mode": "closed", "concurrency": 2, "requests": 4}
    with EngineChild() as child:
        divided = child.request("measure", spec, timeout_s=200)
    assert divided["output"]["texts"] == alone["output"]["texts"]
    assert divided["load"]["served"] == 4


def test_a_rank_that_is_killed_ends_the_run_with_the_reason():
    known = threading.Event()

    def progress(stage: str, fraction: float, message: str) -> None:
        if stage == "iterations" and not known.is_set():
            known.set()
            (other,) = ranks_of(child.pid)
            other.kill()

    asked = tiny.request(threads=1, tensor_parallel=2, iterations=5000)
    with EngineChild() as child, pytest.raises(EngineError, match="On device 2 of 2") as caught:
        child.request("measure", asked, on_progress=progress, timeout_s=120)
    assert caught.value.kind == "killed"
    assert caught.value.partial["parallel"]["tensor_parallel"] == 2, "what was measured by then is kept"


def test_no_rank_outlives_an_engine_that_is_killed():
    others: list[psutil.Process] = []

    def progress(stage: str, fraction: float, message: str) -> None:
        if stage == "iterations" and not others:
            others.extend(ranks_of(child.pid))
            psutil.Process(child.pid).kill()

    asked = tiny.request(threads=1, tensor_parallel=2, iterations=5000)
    with EngineChild() as child, pytest.raises(EngineError, match="killed"):
        child.request("measure", asked, on_progress=progress, timeout_s=120)
    assert len(others) == 1
    _, alive = psutil.wait_procs(others, timeout=20)
    assert not alive


def test_a_rank_that_is_held_up_for_ever_does_not_outlive_the_engine():
    """It answers nothing any more, not even the end of its input: stopped here, as one inside of a driver would be."""
    others: list[psutil.Process] = []

    def progress(stage: str, fraction: float, message: str) -> None:
        if stage == "iterations" and not others:
            others.extend(ranks_of(child.pid))
            others[0].suspend()
            psutil.Process(child.pid).kill()

    asked = tiny.request(threads=1, tensor_parallel=2, iterations=5000)
    with EngineChild() as child, pytest.raises(EngineError, match="killed"):
        child.request("measure", asked, on_progress=progress, timeout_s=120)
    _, alive = psutil.wait_procs(others, timeout=20)
    for one in alive:
        one.kill()
    assert len(others) == 1
    assert not alive


def test_a_second_measurement_in_the_same_process_finds_nothing_of_the_first():
    with EngineChild() as child:
        for size in (2, 1, 2):
            document = child.request("measure", tiny.request(threads=1, tensor_parallel=size), timeout_s=100)
            assert document.get("parallel", {}).get("tensor_parallel", 1) == size
            assert not ranks_of(child.pid)
            assert not list(Path(child._folder).glob("ranks-*"))


def test_what_libraries_read_of_a_rank_is_gone_with_it(monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = dict(os.environ)
    with Ranks(tiny.MODEL, tiny.WORKLOAD, torch.device("cpu"), 1, Stage()):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "1")
        assert dist.is_initialized()
    assert dict(os.environ) == before
    assert not dist.is_initialized()


class Ended:
    """A process of a rank, as far as it is looked at."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code


@pytest.mark.parametrize(
    ("codes", "left", "words", "kind"),
    [
        ((1, 1, -9), {1: "internal", 2: "internal"}, "On device 4 of 4", "killed"),
        ((1, 1, None), {1: "internal", 2: "memory"}, "On device 3 of 4", "memory"),
        ((None, 1, None), {2: "internal"}, "On device 3 of 4", "internal"),
    ],
)
def test_the_rank_that_the_others_failed_of_is_named(codes, left, words, kind):
    ranks = Ranks(tiny.MODEL, replace(tiny.WORKLOAD, tensor_parallel=4), torch.device("cpu"), 1, Stage())
    ranks._others = [Ended(code) for code in codes]
    for rank, what in left.items():
        path = Path(ranks._folder.name) / error_file(rank)
        path.write_text(json.dumps({"kind": what, "message": "Connection closed by peer"}))
    lost = ranks.lost()
    assert lost.message.startswith(words)
    assert (lost.kind, lost.phase) == (kind, "iterations"), "what it was doing, not what it began with"
    ranks._folder.cleanup()


class Stage:
    stage = "iterations"


def test_no_rank_is_lost_while_none_has_ended():
    ranks = Ranks(tiny.MODEL, replace(tiny.WORKLOAD, tensor_parallel=3), torch.device("cpu"), 1, Stage())
    ranks._others = [Ended(None), Ended(0)]
    assert ranks.lost() is None
    ranks._one_ended.set()
    with pytest.raises(EngineError, match="out of step"):
        ranks.check_in_step(ValueError("x"), more=True)
    ranks.check_in_step(ValueError("x"), more=False)
    ranks._folder.cleanup()


def test_fresh_processes_are_pooled_as_ever():
    spec = tiny.request(threads=1, tensor_parallel=2, iterations=2)["spec"]
    document = measure_in_processes(spec, Protocol(processes=2), timeout_s=200)
    assert document["parallel"]["tensor_parallel"] == 2
    assert len(document["processes"]) == 2
    assert max(row[2] for row in _resources(document)) > 0


def _resources(document: dict) -> list[list]:
    table = document["resources"]["timeline"]
    at = [table["columns"].index(name) for name in ("phase", "seconds", "process_rss_bytes")]
    return [[row[index] for index in at] for row in table["rows"]]


@pytest.mark.parametrize(
    ("model", "workload", "field", "words"),
    [
        (tiny.MODEL, {"tensor_parallel": 3}, "tensor_parallel", "cores" if host.cores()[0] < 3 else "key/value heads"),
        (ModelSpec(name="T", config=tiny.BERT, kind="encoder"), {"tensor_parallel": 2, "output_tokens": 0}, None, "no tensor-parallel plan"),
        (tiny.MODEL, {"pipeline_parallel": 2}, "pipeline_parallel", "does not have this option"),
        (tiny.MODEL, {"data_parallel": 2}, "data_parallel", "does not have this option"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused_at_its_field_before_anything_is_loaded(model, workload, field, words):
    with EngineChild() as child, pytest.raises(EngineError, match=words) as caught:
        child.request("measure", tiny.request(model, **workload), timeout_s=120)
    assert (caught.value.kind, caught.value.field) == ("spec", field or "tensor_parallel")


def test_heads_that_do_not_divide_are_refused(monkeypatch):
    from profiling.build import cached_build
    from profiling.shards import check_divisible

    monkeypatch.setattr(host, "cores", lambda: (64, 64))
    import torch

    built = cached_build(tiny.MODEL, "fp32", "sdpa")
    with pytest.raises(SpecError, match="2 key/value heads"):
        check_divisible(tiny.MODEL, built, replace(tiny.WORKLOAD, tensor_parallel=4), torch.device("cpu"))


def test_no_energy_of_one_board_is_given_for_several():
    document = {
        "workload": {"batch_size": 1},
        "samples": {"columns": ["phase", "warmup", "tokens"], "rows": [["prefill", False, 9], ["decode", False, 1]]},
        "resources": {"energy": [{"source": "nvidia-smi", "phase": "iterations", "joules": 10.0, "of": "the whole board"}]},
    }  # fmt: skip
    assert energy_metrics(document)["gpu_energy_per_token"]["value"] == 5.0
    assert energy_metrics(document | {"parallel": {"tensor_parallel": 2}}) == {}
