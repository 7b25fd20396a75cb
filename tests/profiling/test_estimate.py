"""The estimate as a document: complete, consistent, repeatable, for every model of the catalogue."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from profiling import units
from profiling.build import build
from profiling.decode import decode_curve
from profiling.estimate import estimate
from profiling.execution import works
from profiling.passes import Pass, trace
from profiling.roofline import ceilings, timing
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from tests.profiling.documents import DOCUMENTS, FOLDER, catalogue, catalogue_model, device, make

H100 = device("H100 SXM5 80GB")
TOP_LEVEL = {
    *("schema", "schema_version", "kind", "created", "duration_s", "producer", "model", "hardware", "workload"),
    *("conventions", "metrics", "stages", "operators", "modules", "graph", "memory", "roofline"),
    *("unknown_operators", "warnings"),
}


def workload_for(model: ModelSpec, **changes) -> Workload:
    output = 0 if model.kind in ("encoder", "vision") else 24
    return Workload(**{"input_tokens": 48, "output_tokens": output} | changes)


def rows(table) -> list[dict]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def stable(document) -> str:
    return json.dumps({k: v for k, v in document.items() if k not in ("created", "duration_s")}, sort_keys=True)


@pytest.fixture(scope="module")
def gpt2():
    return estimate(catalogue_model("gpt2"), H100, Workload(input_tokens=512, output_tokens=64))


@pytest.mark.parametrize("model_id", sorted(catalogue()))
@pytest.mark.parametrize("execution", ["eager", pytest.param("fused", marks=pytest.mark.slow)])
def test_every_catalogue_model_gives_a_valid_document(model_id, execution):
    model = catalogue_model(model_id)
    document = estimate(model, H100, workload_for(model, execution=execution))
    json.dumps(document, allow_nan=False)
    assert set(document) == TOP_LEVEL
    assert document["unknown_operators"] == []
    assert document["model"]["parameters"] == catalogue()[model_id]["parameters"]
    encodes = model.kind in ("encoder", "vision")
    assert set(document["stages"]) == ({"encode"} if encodes else {"prefill", "decode"})
    for metric in document["metrics"].values():
        assert metric["value"] > 0
        assert metric["origin"] == "estimated"
        assert units.DEFINITIONS[metric["definition"]].unit == metric["unit"]
        assert metric["unit"] in units.UNITS
    consistent(document)


def consistent(document) -> None:
    """Tables, stages, graph and points tell the same story."""
    operators, modules = rows(document["operators"]), rows(document["modules"])
    peak = document["roofline"]["roofs"][0]["peak_flops"]
    bandwidth = document["roofline"]["roofs"][0]["bandwidth"]
    for name, stage in document["stages"].items():
        mine = [r for r in operators if r["stage"] == name]
        assert sum(r["flops"] for r in mine) == stage["flops"]
        assert sum(r["elementwise_flops"] for r in mine) == stage["elementwise_flops"]
        assert sum(r["bytes_read"] + r["bytes_written"] for r in mine) == stage["bytes"]
        assert sum(r["time_s"] for r in mine) == pytest.approx(stage["latency_s"])
        assert sum(r["share"] for r in mine) == pytest.approx(1)
        assert sum(stage["time_by_bound"].values()) == pytest.approx(stage["latency_s"])
        root = next(r for r in modules if r["stage"] == name and r["path"] == "")
        assert (root["flops"], root["bytes"]) == (stage["flops"], stage["bytes"])
        assert root["estimate_s"] == pytest.approx(stage["latency_s"])
        assert root["parameters"] == document["model"]["parameters"]
        # Time is never below either roof.
        assert stage["latency_s"] >= stage["flops"] / peak * (1 - 1e-9)
        assert stage["latency_s"] >= stage["bytes"] / bandwidth * (1 - 1e-9)
        graph_consistent(document["graph"][name])
    for point in document["roofline"]["points"]:
        roof = min(peak, point["intensity"] * bandwidth)
        assert point["flops_per_s"] <= roof * (1 + 1e-9)


def graph_consistent(graph) -> None:
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"]) <= 120
    for node in nodes.values():
        assert node["parent"] is None or node["parent"] in nodes
    parents = {n["parent"] for n in nodes.values()}
    for edge in graph["edges"]:
        assert edge["source"] in nodes
        assert edge["target"] in nodes
        assert edge["source"] not in parents, "edges join leaves"
        assert edge["target"] not in parents
        assert edge["kind"] in ("data", "residual", "cache", "repeat")
    assert "output" in nodes or "input" in nodes


def test_children_sum_to_their_parent(gpt2):
    table = [r for r in rows(gpt2["modules"]) if r["stage"] == "prefill"]
    for parent in table:
        children = [r for r in table if r["parent"] == parent["path"]]
        if children:
            assert sum(r["flops"] for r in children) <= parent["flops"]
            assert sum(r["bytes"] for r in children) <= parent["bytes"]
            assert max(r["weight_bytes"] for r in children) <= parent["weight_bytes"]
    blocks = [r for r in table if r["parent"] == "transformer.h"]
    assert len(blocks) == 12
    assert {r["fold"] for r in blocks} == {"transformer.h.0"}
    assert len({(r["flops"], r["bytes"], r["estimate_s"]) for r in blocks}) == 1
    assert sum(r["flops"] for r in blocks) == next(r for r in table if r["path"] == "transformer.h")["flops"]


def test_first_token_counts_once_in_the_latency(gpt2):
    m = {k: v["value"] for k, v in gpt2["metrics"].items()}
    assert m["ttft"] == m["prefill_time"]
    assert m["e2e_latency"] == pytest.approx(m["ttft"] + 63 * m["tpot"])
    assert m["output_throughput"] == pytest.approx(64 / m["e2e_latency"])
    assert m["decode_throughput"] == pytest.approx(1 / m["tpot"])
    assert gpt2["stages"]["decode"]["context"] == 512 + 31


@pytest.mark.parametrize(
    ("model_id", "first", "last"),
    [("gpt2", 30, 50), ("gemma-3-1b", 505, 517), ("mistral-7b-v0.1", 4090, 4100), ("mamba-130m", 5, 12)],
)
@pytest.mark.parametrize("execution", ["eager", "fused"])
def test_decode_is_the_sum_of_every_single_step(model_id, first, last, execution):
    built = build(catalogue_model(model_id), "bf16")
    limits, _ = ceilings(H100, "bf16")

    def at(context: int):
        return trace(built, Pass("decode", 2, 1, context))

    by_hand = sum(
        work.times * timing(work.load(), limits).time_s
        for context in range(first, last + 1)
        for work in works(at(context), execution)
    )
    for windows in (built.windows, ()):
        curve = decode_curve(at, first, last, execution, windows)
        assert curve.seconds(limits) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("model_id", ["llama-2-7b", "gpt2", "opt-125m", "qwen3-8b", "mixtral-8x7b"])
def test_a_block_shows_both_residual_connections_and_the_cache(model_id):
    model = catalogue_model(model_id)
    document = estimate(model, H100, workload_for(model))
    for stage, graph in document["graph"].items():
        repeat = {n["id"]: n["repeat"] for n in graph["nodes"]}
        in_block = [e for e in graph["edges"] if e["kind"] == "residual" and repeat[e["target"]] > 1]
        assert len({e["target"] for e in in_block}) == 2, stage
        assert len(graph["nodes"]) < 60
        assert any(e["kind"] == "repeat" for e in graph["edges"])
        into_attention = [e for e in graph["edges"] if e["target"].endswith("#sdpa") and e["kind"] == "cache"]
        assert into_attention
        reads = [e for e in graph["edges"] if e["source"] == "cache"]
        assert bool(reads) == (stage == "decode")


def test_seventy_billion_parameters_take_no_longer_than_two_and_a_half_seconds():
    model = catalogue_model("llama-3-70b")
    estimate(catalogue_model("gpt2"), H100, Workload(input_tokens=8, output_tokens=2))
    unseen = Workload(input_tokens=4096, output_tokens=777)
    started = time.thread_time()
    document = estimate(model, H100, unseen)
    assert time.thread_time() - started < 2.5
    assert document["memory"]["estimate"]["fits"] is False
    assert document["model"]["layers"] == 80


def test_two_runs_and_many_threads_give_the_same_document():
    names = ["gpt2", "opt-125m", "gemma-3-1b", "t5-base"]
    work = Workload(input_tokens=37, output_tokens=11)
    expected = {name: stable(estimate(catalogue_model(name), H100, work)) for name in names}
    jobs = [(name, Workload(input_tokens=37, output_tokens=11)) for name in names * 4]
    fresh = [(name, Workload(input_tokens=41 + i, output_tokens=5)) for i, name in enumerate(names * 2)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda job: stable(estimate(catalogue_model(job[0]), H100, job[1])), jobs + fresh))
    assert results[: len(jobs)] == [expected[name] for name, _ in jobs]
    for (name, work), result in zip(fresh, results[len(jobs) :], strict=True):
        assert result == stable(estimate(catalogue_model(name), H100, work))


def test_inputs_are_left_alone():
    model = catalogue_model("gemma-3-1b")
    before = (model.to_json(), H100.to_json())
    text = json.dumps(before)
    estimate(model, H100, Workload(input_tokens=9, output_tokens=3))
    assert json.dumps((model.to_json(), H100.to_json())) == text


def test_more_hardware_is_never_slower():
    model, work = catalogue_model("llama-3-8b"), Workload(input_tokens=300, output_tokens=20)
    base = estimate(model, H100, work)["metrics"]
    wider = replace(H100, memory_bandwidth=2 * H100.memory_bandwidth)
    faster = replace(H100, peak_flops={k: v and 2 * v for k, v in H100.peak_flops.items()})
    for other in (wider, faster):
        metrics = estimate(model, other, work)["metrics"]
        assert metrics["ttft"]["value"] <= base["ttft"]["value"]
        assert metrics["tpot"]["value"] <= base["tpot"]["value"]
    # A decode step of batch 1 is bound by memory: bandwidth halves it, arithmetic does not.
    assert estimate(model, wider, work)["metrics"]["tpot"]["value"] == pytest.approx(
        base["tpot"]["value"] / 2, rel=1e-3
    )


def test_fused_execution_moves_less_and_needs_the_same_arithmetic():
    model = catalogue_model("llama-3-8b")
    eager = estimate(model, H100, Workload(input_tokens=256, output_tokens=8))["stages"]
    fused = estimate(model, H100, Workload(input_tokens=256, output_tokens=8, execution="fused"))["stages"]
    weights = catalogue()["llama-3-8b"]["parameters"] * 2
    for stage in ("prefill", "decode"):
        assert fused[stage]["flops"] == eager[stage]["flops"]
        assert weights * 0.9 < fused[stage]["bytes"] < eager[stage]["bytes"]


def test_unknown_figures_stay_unknown():
    unknown = HardwareSpec(name="Mystery", peak_flops={"bf16": 1e14})
    document = estimate(catalogue_model("gpt2"), unknown, Workload(input_tokens=16, output_tokens=4))
    json.dumps(document, allow_nan=False)
    assert document["metrics"]["ttft"]["value"] is None
    assert document["metrics"]["tpot"]["value"] is None
    assert document["stages"]["prefill"]["latency_s"] is None
    assert document["memory"]["estimate"]["fits"] is None
    assert {w["code"] for w in document["warnings"]} >= {"bandwidth_unknown", "capacity_unknown"}


def test_a_missing_format_is_said_not_hidden():
    old = replace(H100, name="Old", peak_flops={"fp32": 1e13})
    document = estimate(catalogue_model("gpt2"), old, Workload(input_tokens=16, output_tokens=4, dtype="bf16"))
    assert document["roofline"]["roofs"][0]["dtype"] == "fp32"
    assert any(w["code"] == "dtype_fallback" and "fp32" in w["message"] for w in document["warnings"])
    none = replace(H100, name="None", peak_flops={"bf16": 1e14})
    document = estimate(catalogue_model("gpt2"), none, Workload(input_tokens=16, output_tokens=4, dtype="fp32"))
    assert document["metrics"]["ttft"]["value"] is None
    assert any(w["code"] == "peak_unknown" for w in document["warnings"])


def test_measured_ceilings_are_used_and_named():
    rates = [
        {"op_class": "gemm", "dtype": "fp32", "threads": 2, "value": 1e11, "unit": "FLOP/s"},
        {"op_class": "gemv", "dtype": "fp32", "threads": 2, "value": 1e10, "unit": "B/s"},
        {"op_class": "copy", "dtype": "", "threads": 2, "value": 2e10, "unit": "B/s"},
        {"op_class": "overhead", "dtype": "", "threads": 0, "value": 1e-5, "unit": "s"},
    ]
    host = HardwareSpec(name="Host", memory_bytes=16 * 10**9, ceilings=rates)
    work = Workload(input_tokens=64, output_tokens=8, dtype="fp32")
    document = estimate(catalogue_model("gpt2"), host, work)
    assert document["roofline"]["roofs"][0]["level"] == "measured"
    assert document["conventions"]["ceilings"].startswith("measured")
    # The weights that a step reads, at the rate of skinny products, and the overhead of every operator.
    step = document["metrics"]["decode_time_per_step"]["value"]
    assert step > 124e6 * 4 / 1e10 + 12 * 20 * 1e-5
    datasheet = estimate(catalogue_model("gpt2"), host, work, level="datasheet")
    assert datasheet["metrics"]["ttft"]["value"] is None


@pytest.mark.parametrize(
    ("model_id", "changes", "field"),
    [
        ("gpt2", {"input_tokens": 1025}, "input_tokens"),
        ("gpt2", {"input_tokens": 1000, "output_tokens": 25}, "output_tokens"),
        ("bert-base-uncased", {"input_tokens": 513, "output_tokens": 0}, "input_tokens"),
        ("roberta-base", {"input_tokens": 513, "output_tokens": 0}, "input_tokens"),
        ("whisper-base", {"input_tokens": 449}, "input_tokens"),
        ("gpt2", {"batch_size": 0}, "batch_size"),
        ("gpt2", {"dtype": "int4"}, "dtype"),
    ],
)
def test_impossible_workloads_are_refused_at_their_field(model_id, changes, field):
    with pytest.raises(SpecError) as caught:
        estimate(catalogue_model(model_id), H100, Workload(**{"output_tokens": 8} | changes))
    assert caught.value.field == field


def test_a_full_context_is_possible():
    document = estimate(catalogue_model("gpt2"), H100, Workload(input_tokens=1000, output_tokens=24))
    assert document["metrics"]["e2e_latency"]["value"] > 0


@pytest.mark.parametrize("output", [0, 1, 2, 3])
def test_few_output_tokens(output):
    document = estimate(catalogue_model("gpt2"), H100, Workload(input_tokens=8, output_tokens=output))
    assert ("decode" in document["stages"]) == (output > 1)
    assert ("tpot" in document["metrics"]) == (output > 1)
    assert ("ttft" in document["metrics"]) == (output > 0)


def test_progress_goes_forward_to_the_end():
    seen = []
    estimate(
        catalogue_model("gpt2"),
        H100,
        Workload(input_tokens=8, output_tokens=4),
        lambda stage, fraction, message: seen.append((fraction, message)),
    )
    fractions = [f for f, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(message for _, message in seen)


def test_hostile_configurations_are_refused_before_anything_is_built():
    model = catalogue_model("gpt2")
    for change in ({"auto_map": {"AutoModel": "x.Y"}}, {"n_layer": 10**6}, {"n_embd": -3}, {"model_type": "evil"}):
        with pytest.raises(SpecError) as caught:
            estimate(replace(model, config={**model.config, **change}), H100, Workload(input_tokens=4, output_tokens=2))
        assert caught.value.field == "config"
    with pytest.raises(SpecError, match=r"cannot be built|not valid"):
        estimate(replace(model, config={**model.config, "n_head": 7}), H100, Workload(input_tokens=4, output_tokens=2))
    with pytest.raises(SpecError) as caught:
        estimate(replace(model, architecture="AutoModel"), H100, Workload())
    assert caught.value.field == "architecture"


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_stored_documents_are_what_the_engine_makes_today(name):
    """After a change of the engine: ``python -m tests.profiling.documents``."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    made = make(name)
    for document in (stored, made):
        document.pop("producer")
    assert stable(stored) == stable(made)


def test_an_image_is_as_many_tokens_as_it_has_patches():
    """ViT-B/16 at 224 pixels: 14 · 14 patches and the class token, whatever the workload asks for."""
    found = estimate(catalogue_model("vit-base-patch16-224"), device("H100 SXM5 80GB"), Workload(batch_size=2))
    assert found["stages"]["encode"]["tokens"] == 197
    metrics = found["metrics"]
    assert metrics["encode_throughput"]["value"] * metrics["encode_time"]["value"] == pytest.approx(2 * 197)


def test_ceilings_that_processes_did_not_agree_on_are_named_in_a_warning():
    def rows(quality: str) -> list[dict]:
        base = {"threads": 1, "median": 1.0, "quality": "ok", "measured_at": "2026-11-25T00:00:00+00:00"}
        return [
            base | {"op_class": "gemm", "dtype": "fp32", "value": 1e11, "unit": "FLOP/s", "quality": quality},
            base | {"op_class": "gemm", "dtype": "bf16", "value": 2e11, "unit": "FLOP/s", "quality": "contended"},
            base | {"op_class": "copy", "dtype": "", "value": 3e10, "unit": "B/s"},
        ]

    _, quiet = ceilings(HardwareSpec(name="Host", ceilings=rows("ok")), "fp32")
    assert [w["code"] for w in quiet] == []
    _, warned = ceilings(HardwareSpec(name="Host", ceilings=rows("contended")), "fp32")
    assert [w["code"] for w in warned] == ["ceilings_contended"]
    assert "gemm fp32" in warned[0]["message"]
    assert "bf16" not in warned[0]["message"], "a rate that these times do not stand on"
