"""Operators under modules, as torch's profiler sees them in a real pass."""

from __future__ import annotations

import pytest

from profiling.measure import measure
from profiling.profiled import COLUMNS, OUTSIDE
from tests.profiling import tiny
from tests.profiling.tiny import BERT


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    document = measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD)
    table = document["profiled"]
    assert table["columns"] == COLUMNS
    assert table["passes"] == {"prefill": 1, "decode": tiny.WORKLOAD.output_tokens - 1}
    assert table["dropped_rows"] == 0
    return [dict(zip(COLUMNS, row, strict=True)) for row in table["rows"]]


def test_an_operator_lies_under_the_module_that_ran_it_once_a_pass(rows):
    for stage in ("prefill", "decode"):
        own = [r for r in rows if (r["stage"], r["path"]) == (stage, "model.layers.1.mlp.down_proj")]
        products = [r for r in own if r["operator"] in ("aten::mm", "aten::addmm", "aten::linear")]
        assert {r["operator"]: r["calls"] for r in products} == {r["operator"]: 1 for r in products} != {}
        assert all(r["calls"] == 0 for r in own if r["operator"] == OUTSIDE)


def test_attention_is_where_it_is_called_and_nothing_is_negative(rows):
    attention = [r for r in rows if "attention" in r["operator"] and r["stage"] == "prefill"]
    assert {r["path"] for r in attention} == {
        f"model.layers.{n}.self_attn" for n in range(tiny.LLAMA["num_hidden_layers"])
    }
    assert min(r["self_cpu_s"] for r in rows) >= 0
    assert {r["self_device_s"] for r in rows} == {None}, "a processor has no device time"


def test_a_process_without_estimates_is_not_profiled_and_an_encoder_has_its_stage():
    assert "profiled" not in measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD, estimates=False)
    encoder = tiny.ModelSpec(name="Tiny", config=BERT, kind="encoder")
    assert measure(encoder, tiny.HOST, tiny.WORKLOAD)["profiled"]["passes"] == {"encode": 1}
