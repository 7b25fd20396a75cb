"""The pass under torch.profiler: operators under their modules, memory of modules exactly, copies, and what its failure costs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from profiling import operator_profile
from profiling.generation import Runner
from profiling.loading import Inputs
from profiling.measure import measure
from profiling.spec import ModelSpec
from tests.profiling import tiny


@pytest.fixture(scope="module")
def document() -> dict:
    return measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD)


def rows(table: dict, **where: Any) -> list[dict]:
    found = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [row for row in found if all(row[key] == value for key, value in where.items())]


def test_operators_stand_under_the_module_that_called_them(document):
    table = document["profiled"]["operators"]
    for stage in ("prefill", "decode"):
        inner = {row["operator"]: row for row in rows(table, stage=stage, path="model.layers.0.mlp.down_proj")}
        assert inner["aten::linear"]["calls"] == inner["aten::mm"]["calls"] == 2, "of two identical blocks"
        assert inner["aten::linear"]["modules"] == 2
        assert not rows(table, stage=stage, path="model.layers.1.mlp.down_proj")
        assert inner["aten::linear"]["input_shapes"][1] == [32, 64]
        (attention,) = rows(
            table, stage=stage, path="model.layers.0.self_attn", operator="aten::scaled_dot_product_attention"
        )
        assert attention["calls"] == 2
        assert rows(table, stage=stage, path=None, operator="aten::argmax"), (
            "the choice of the token is outside the model"
        )
    assert not rows(table, operator="aten::mm", path="model")
    assert all(row["self_device_s"] is None for row in rows(table)), "there is no device"


def test_the_parts_add_up_to_the_pass_and_say_what_the_profiler_cost(document):
    profiled = document["profiled"]
    assert profiled["stages"]["decode"]["passes"] == operator_profile.DECODE_STEPS
    for stage, facts in profiled["stages"].items():
        (root,) = rows(profiled["modules"], stage=stage, path="")
        own = sum(row["own_s"] for row in rows(profiled["modules"], stage=stage))
        inside = sum(row["self_cpu_s"] for row in rows(profiled["operators"], stage=stage))
        assert own == pytest.approx(root["total_s"], rel=1e-3)
        assert 0 < inside <= facts["total_s"] * 1.001
        assert facts["overhead"] is not None
    json.dumps(document, allow_nan=False)


def test_a_module_leaves_behind_what_it_puts_out(document):
    """128 numbers of 4 bytes from the head; 9 positions of 64 numbers from a projection."""
    table = document["profiled"]["modules"]
    assert [row["memory_delta_bytes"] for row in rows(table, path="lm_head")] == [512, 512]
    (projection,) = rows(table, stage="prefill", path="model.layers.0.mlp.up_proj")
    assert projection["memory_delta_bytes"] == 9 * 64 * 4


def test_forty_layers_lose_no_operator_to_the_limit():
    """Without folding, 40 layers make more than 2,000 rows; every call is still there."""
    deep = ModelSpec("Deep", tiny.LLAMA | {"num_hidden_layers": 40})
    profiled = measure(deep, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))["profiled"]
    assert profiled["dropped"] == {"rows": 0, "self_cpu_s": 0}
    (product,) = rows(profiled["operators"], stage="decode", path="model.layers.0.mlp.up_proj", operator="aten::mm")
    assert (product["calls"], product["modules"]) == (40, 40)
    assert len(profiled["operators"]["rows"]) < 500


def test_the_profiled_pass_is_no_sample(document):
    counted = Counter(row[1] for row in document["samples"]["rows"])
    assert counted["prefill"] == tiny.WORKLOAD.iterations + tiny.WORKLOAD.warmup


def test_encoders_and_single_tokens_have_no_decode():
    encoder = measure(ModelSpec("Tiny", tiny.BERT, kind="encoder"), tiny.HOST, replace(tiny.WORKLOAD, iterations=1))
    assert set(encoder["profiled"]["stages"]) == {"encode"}
    one = measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1, output_tokens=1))
    assert set(one["profiled"]["stages"]) == {"prefill"}


def test_no_more_rows_than_the_limit_and_what_is_left_out_is_counted(monkeypatch, document):
    monkeypatch.setattr(operator_profile, "ROW_LIMIT", 5)
    cut = measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))["profiled"]
    assert len(cut["operators"]["rows"]) == 5
    assert cut["dropped"]["rows"] == len(document["profiled"]["operators"]["rows"]) - 5
    assert cut["dropped"]["self_cpu_s"] > 0


def test_a_failing_profiler_costs_a_warning_not_the_measurement(monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("no counters")

    monkeypatch.setattr("profiling.measure.profile_pass", fails)
    document = measure(tiny.MODEL, tiny.HOST, replace(tiny.WORKLOAD, iterations=1))
    assert "profiled" not in document
    assert [w for w in document["warnings"] if w["code"] == "profiler_failed" and "no counters" in w["message"]]
    assert document["metrics"]["ttft"]["value"] > 0


def test_copies_are_counted_by_direction(document):
    copy = {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "dur": 2.5, "args": {"bytes": 4096}}
    back = {"cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)", "dur": 1, "args": {"bytes": 8}}
    inside = {"cat": "gpu_memcpy", "name": "Memcpy DtoD (Device -> Device)", "dur": 1, "args": {"bytes": 8}}
    to, fro = operator_profile.copies_of([copy, copy, back, inside, {"ph": "M"}])
    assert to == {"direction": "host to device", "count": 2, "bytes": 8192, "seconds": pytest.approx(5e-6)}
    assert (fro["direction"], fro["count"], fro["bytes"]) == ("device to host", 1, 8)
    assert [entry["count"] for entry in document["profiled"]["copies"]] == [0, 0]


class Counting(torch.nn.Module):
    """Says 1, 2, 3, …"""

    config = SimpleNamespace()

    def forward(self, input_ids, past_key_values=None, use_cache=True):
        said = 1 if past_key_values is None else past_key_values.said + 1
        logits = torch.zeros(input_ids.shape[0], 1, 16)
        logits[..., said] = 1
        return SimpleNamespace(logits=logits, past_key_values=SimpleNamespace(said=said))


@pytest.mark.parametrize(("last", "steps"), [(3, 2), (1, 0)])
def test_a_step_that_never_came_is_no_pass(last, steps):
    """The stage of the next step begins before it is known that every sequence has ended: means over one pass more were too small."""
    cpu, model = torch.device("cpu"), Counting()
    inputs = Inputs(torch.tensor([[3, 4]]), None, None, frozenset({last}), False)
    runner = Runner(model, inputs, kind="decoder", logits="last", device=cpu)
    tables = operator_profile.profile_pass(runner, model, cpu, encoder=False, output_tokens=10).tables
    assert {stage: facts["passes"] for stage, facts in tables["stages"].items()} == {
        "prefill": 1,
        **({"decode": steps} if steps else {}),
    }
    assert [row["calls"] for row in rows(tables["modules"], path="")] == [1] * len(tables["stages"])
