"""The numbers of estimates against formulas written by hand from the configuration alone, and laws that must hold for any input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiling.build import build
from profiling.estimate import estimate
from profiling.execution import works
from profiling.passes import Pass, trace
from profiling.roofline import Ceilings, Load, ceilings, timing
from profiling.spec import HardwareSpec, ModelSpec, Workload
from tests.profiling import tiny
from tests.profiling.documents import catalogue_model, device

H100 = device("H100 SXM5 80GB")
PEAK, VECTOR, BANDWIDTH = 989.4e12, 66.9e12, 3.35e12  # its dense bf16 and fp32 rates and its bandwidth


@dataclass(frozen=True)
class Decoder:
    """The figures of a configuration that decide its size and work. ``bias`` and ``norm``: parameters per block."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    gates: int = 2  # matrices into the MLP: 2 with a gate, 1 without
    experts: int = 1
    top_k: int = 1
    positions: int = 0
    bias: int = 0
    norm: int = 0
    last_norm: int = 0
    tied: bool = False

    @property
    def attention(self) -> int:
        return self.width * self.head * (2 * self.heads + 2 * self.kv_heads)

    @property
    def expert(self) -> int:
        return (self.gates + 1) * self.width * self.inner

    @property
    def router(self) -> int:
        return self.width * self.experts if self.experts > 1 else 0

    @property
    def table(self) -> int:
        return self.vocabulary * self.width

    def parameters(self) -> int:
        block = self.attention + self.experts * self.expert + self.router + self.bias + self.norm
        tables = self.table * (1 if self.tied else 2) + self.positions * self.width
        return self.layers * block + tables + self.last_norm

    def flops(self, batch: int, tokens: int, keys: int, heads_on: int) -> int:
        """Matrix products of one pass: ``tokens`` queries on ``keys`` positions, LM head on ``heads_on`` of them."""
        block = self.attention + self.top_k * self.expert + self.router
        scores = 2 * 2 * tokens * keys * self.heads * self.head
        return batch * (self.layers * (2 * tokens * block + scores) + 2 * heads_on * self.table)

    def weight_bytes(self, batch: int) -> float:
        """bf16 weights that a decode step of ``batch`` sequences reads: all but the tables, of which only rows are."""
        touched = self.experts * (1 - (1 - self.top_k / self.experts) ** batch)
        block = self.attention + touched * self.expert + self.router + self.bias + self.norm
        rows = batch * self.width + (self.width if self.positions else 0)  # all sequences are at one position
        return 2 * (self.layers * block + self.last_norm + self.table + rows)

    def kv_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head * 2


def _llama(layers, width, heads, kv_heads, inner, vocabulary, **more) -> Decoder:
    norms = {"norm": 2 * width, "last_norm": width}
    return Decoder(layers, width, heads, kv_heads, width // heads, inner, vocabulary, **norms, **more)


DECODERS = {
    "llama-2-7b": _llama(32, 4096, 32, 32, 11008, 32000),
    "llama-3-70b": _llama(80, 8192, 64, 8, 28672, 128256),
    "mixtral-8x7b": _llama(32, 4096, 32, 8, 14336, 32000, experts=8, top_k=2),
    # GPT-2: biases on the four products, two layer norms with bias a block, learned positions, one table for both ends.
    "gpt2": Decoder(
        *(12, 768, 12, 12, 64, 3072, 50257),
        gates=1,
        positions=1024,
        bias=3 * 768 + 768 + 3072 + 768,
        norm=4 * 768,
        last_norm=2 * 768,
        tied=True,
    ),
}


def rows_of(document, stage: str, **where) -> list[dict]:
    table = document["operators"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return [r for r in rows if r["stage"] == stage and all(r[key] == value for key, value in where.items())]


@pytest.fixture(scope="module")
def documents():
    known = {}

    def get(model_id: str, **workload):
        key = (model_id, *sorted(workload.items()))
        if key not in known:
            known[key] = estimate(catalogue_model(model_id), H100, Workload(**workload))
        return known[key]

    return get


SHAPES = [(1, 100, 6), (5, 64, 3)]


@pytest.mark.parametrize("model_id", sorted(DECODERS))
@pytest.mark.parametrize(("batch", "tokens", "output"), SHAPES)
@pytest.mark.parametrize("logits", ["last", "all"])
def test_size_and_work_of_a_decoder(documents, model_id, batch, tokens, output, logits):
    hand = DECODERS[model_id]
    made = documents(model_id, batch_size=batch, input_tokens=tokens, output_tokens=output, logits=logits)
    assert made["model"]["parameters"] == hand.parameters()
    assert made["model"]["weight_bytes"] == made["memory"]["estimate"]["weights_bytes"] == 2 * hand.parameters()
    assert made["stages"]["prefill"]["flops"] == hand.flops(batch, tokens, tokens, 1 if logits == "last" else tokens)
    context = tokens + (output - 1) // 2
    assert made["stages"]["decode"]["context"] == context
    assert made["stages"]["decode"]["flops"] == hand.flops(batch, 1, context + 1, 1)
    inactive = hand.layers * (hand.experts - hand.top_k) * hand.expert
    assert made["model"]["active_parameters"] == hand.parameters() - inactive


@pytest.mark.parametrize("model_id", sorted(DECODERS))
@pytest.mark.parametrize(("batch", "tokens", "output"), SHAPES)
def test_bytes_of_a_decode_step(documents, model_id, batch, tokens, output):
    hand = DECODERS[model_id]
    made = documents(model_id, batch_size=batch, input_tokens=tokens, output_tokens=output)
    rows = rows_of(made, "decode")
    # Each weight once a step whatever the batch, of the embedding its rows, of the experts those that are touched.
    assert sum(r["weight_bytes"] for r in rows) == pytest.approx(hand.weight_bytes(batch), rel=1e-8)
    # Attention reads keys and values once, with the heads that the cache has, and the queries with theirs.
    keys = made["stages"]["decode"]["context"] + 1
    (attention,) = rows_of(made, "decode", op_class="attention")
    queries = batch * hand.layers * hand.heads * hand.head * 2
    assert attention["bytes_read"] == batch * keys * hand.kv_per_token() + queries
    assert attention["bytes_written"] == queries
    assert made["memory"]["kv_cache_bytes_per_token"] == hand.kv_per_token()
    # The last token is never fed back, so it has no place in the cache.
    assert made["memory"]["estimate"]["kv_cache_bytes"] == batch * (tokens + output - 1) * hand.kv_per_token()
    least = hand.weight_bytes(batch) * (1 - 1e-8) + batch * keys * hand.kv_per_token()
    assert made["stages"]["decode"]["bytes"] >= least
    # mbu: those bytes over the step and the bandwidth.
    step = made["metrics"]["decode_time_per_step"]["value"]
    assert made["metrics"]["mbu_decode"]["value"] == pytest.approx(least / step / BANDWIDTH, rel=1e-6)


def test_size_and_work_of_bert(documents):
    layers, width, inner, words, positions = 12, 768, 3072, 30522, 512
    batch, tokens = 3, 77
    made = documents("bert-base-uncased", batch_size=batch, input_tokens=tokens, output_tokens=0)
    block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    tables = (words + positions + 2) * width + 2 * width
    assert made["model"]["parameters"] == layers * block + tables + width * width + width
    products = layers * (2 * tokens * (4 * width * width + 2 * width * inner) + 4 * tokens * tokens * width)
    pooler = 2 * width * width
    assert made["stages"]["encode"]["flops"] == batch * (products + pooler)
    assert set(made["metrics"]) == {"encode_time", "encode_throughput", "peak_memory"}
    seconds = made["metrics"]["encode_time"]["value"]
    assert made["metrics"]["encode_throughput"]["value"] == pytest.approx(batch * tokens / seconds)
    assert made["memory"]["kv_cache_bytes_per_token"] is None


def by_hand(model_id: str, spec: Pass) -> float:
    """Seconds of a pass on the H100: each operator under its own roof, one after the other."""
    item = trace(build(catalogue_model(model_id), "bf16"), spec)
    return sum(
        w.times * max(w.flops / PEAK + w.elementwise_flops / VECTOR, (w.bytes_read + w.bytes_written) / BANDWIDTH)
        for w in works(item, "eager")
    )


@pytest.mark.parametrize("model_id", ["llama-2-7b", "mixtral-8x7b", "gpt2"])
def test_times_are_the_sum_of_the_operators_and_of_the_steps(documents, model_id):
    batch, tokens, output = 5, 64, 7
    made = documents(model_id, batch_size=batch, input_tokens=tokens, output_tokens=output)
    m = {key: metric["value"] for key, metric in made["metrics"].items()}
    ttft = by_hand(model_id, Pass("prefill", batch, tokens))
    steps = [by_hand(model_id, Pass("decode", batch, 1, tokens + i)) for i in range(output - 1)]
    assert m["ttft"] == m["prefill_time"] == pytest.approx(ttft, rel=1e-9)
    assert m["tpot"] == pytest.approx(sum(steps) / (output - 1), rel=1e-9)
    assert m["decode_time_per_step"] == pytest.approx(steps[(output - 1) // 2], rel=1e-9)
    assert m["e2e_latency"] == pytest.approx(ttft + sum(steps), rel=1e-9)
    assert m["prefill_throughput"] == pytest.approx(batch * tokens / ttft, rel=1e-9)
    assert m["decode_throughput"] == pytest.approx(batch * (output - 1) / sum(steps), rel=1e-9)
    assert m["output_throughput"] == pytest.approx(batch * output / (ttft + sum(steps)), rel=1e-9)
    assert m["mfu_prefill"] == pytest.approx(made["stages"]["prefill"]["flops"] / ttft / PEAK, rel=1e-9)
    assert 0 < m["mfu_prefill"] <= 1
    assert 0 < m["mbu_decode"] <= 1


def test_fit_and_shortfall_add_up(documents):
    memory = documents("llama-3-70b", batch_size=5, input_tokens=64, output_tokens=3)["memory"]["estimate"]
    parts = ("weights_bytes", "kv_cache_bytes", "state_bytes", "activation_peak_bytes")
    assert memory["total_bytes"] == sum(memory[part] for part in parts)
    assert memory["capacity_bytes"] == 80_000_000_000
    assert memory["fits"] is False
    assert memory["shortfall_bytes"] == memory["total_bytes"] - 80_000_000_000
    enough = replace(H100, memory_bytes=memory["total_bytes"])
    model, work = catalogue_model("llama-3-70b"), Workload(batch_size=5, input_tokens=64, output_tokens=3)
    assert estimate(model, enough, work)["memory"]["estimate"]["fits"] is True
    short = replace(H100, memory_bytes=memory["total_bytes"] - 1)
    assert estimate(model, short, work)["memory"]["estimate"]["shortfall_bytes"] == 1


# --- laws ---------------------------------------------------------------------------------------------------------------

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.integers(1, 6), st.integers(1, 40), st.integers(2, 12), st.sampled_from(["eager", "fused"]))
def test_more_work_never_takes_less(batch, tokens, output, execution):
    def of(batch: int, tokens: int, output: int):
        work = Workload(batch_size=batch, input_tokens=tokens, output_tokens=output, execution=execution)
        return estimate(tiny.MODEL, H100, work)

    base = of(batch, tokens, output)
    for other in (of(batch + 1, tokens, output), of(batch, tokens + 1, output), of(batch, tokens, output + 1)):
        for stage in ("prefill", "decode"):
            for key in ("flops", "bytes", "latency_s"):
                assert other["stages"][stage][key] >= base["stages"][stage][key] * (1 - 1e-12)
        for key in ("ttft", "e2e_latency", "peak_memory"):
            assert other["metrics"][key]["value"] >= base["metrics"][key]["value"] * (1 - 1e-12)


RATE = st.floats(1e6, 1e15)


@given(
    st.sampled_from(["matmul", "attention", "experts", "elementwise", "copy"]),
    st.tuples(st.floats(0, 1e15), st.floats(0, 1e13), st.floats(0, 1e13)),
    st.integers(0, 5000),
    st.tuples(RATE, RATE, RATE, RATE, RATE, RATE, RATE, RATE),
    st.floats(0, 1e-3),
    st.floats(0, 1e9),
)
def test_no_operator_is_faster_than_the_roofs_that_are_drawn(op_class, amounts, rows, rates, overhead, weights):
    gemm, attention, few, many, copy, gemv, small, small_gemv = rates
    found = [
        {"op_class": name, "dtype": dtype, "threads": 1, "value": value, "unit": unit}
        | ({"bytes": 1 << 20, "inner": 768} if "MiB" in name else {"bytes": 1 << 27, "inner": 4096})
        for name, dtype, value, unit in (
            ("gemm", "fp32", gemm, "FLOP/s"),
            ("attention", "fp32", attention, "FLOP/s"),
            ("skinny-2", "fp32", few, "FLOP/s"),
            ("skinny-64", "fp32", many, "FLOP/s"),
            ("copy", "", copy, "B/s"),
            ("gemv", "fp32", gemv, "B/s"),
            ("gemv-1MiB-768", "fp32", small_gemv, "B/s"),
            ("skinny-64-1MiB-768", "fp32", small, "FLOP/s"),
            ("overhead", "", overhead, "s"),
        )
    ]
    limits, _ = ceilings(HardwareSpec(name="Host", ceilings=found), "fp32")
    flops, elementwise, moved = amounts
    time = timing(
        Load(op_class, flops, elementwise, moved, rows, weights=weights, inner=int(weights % 5000)), limits
    ).time_s
    assert time >= flops / limits.peak_flops * (1 - 1e-12)
    assert time >= moved / limits.bandwidth * (1 - 1e-12)


def test_products_with_few_rows_have_the_rates_that_were_timed():
    limits = Ceilings(
        "measured",
        "fp32",
        "fp32",
        100e9,
        20e9,
        stream=20e9,
        copy=15e9,
        product=100e9,
        skinny=((2, 10e9), (8, 35e9), (64, 90e9)),
    )

    def rate(rows: int) -> float:
        flops = 2.0 * rows * 4096 * 4096
        return flops / timing(Load("matmul", flops, 0, 0, rows), limits).time_s

    assert rate(2) == pytest.approx(10e9)
    assert rate(8) == pytest.approx(35e9)
    assert rate(64) == pytest.approx(90e9)
    assert 10e9 < rate(4) < 35e9
    assert 90e9 < rate(512) < 100e9
    # One row is limited by the bandwidth of a matrix-vector product: 4 bytes and 2 FLOPs for each weight.
    one = timing(Load("matmul", 2.0 * 4096 * 4096, 0, 4.0 * 4096 * 4096, 1), limits)
    assert one.time_s == pytest.approx(4 * 4096 * 4096 / 20e9)
    assert one.bound == "memory"


def test_every_known_format_and_level_has_its_roof():
    rows = [
        {"op_class": "gemm", "dtype": "bf16", "threads": 2, "value": 4e11, "unit": "FLOP/s"},
        {"op_class": "gemm", "dtype": "int8", "threads": 2, "value": 8e11, "unit": "OP/s"},
        {"op_class": "gemv", "dtype": "bf16", "threads": 2, "value": 3e10, "unit": "B/s"},
        {"op_class": "copy", "dtype": "", "threads": 2, "value": 2e10, "unit": "B/s"},
    ]
    hardware = replace(H100, ceilings=rows)
    document = estimate(tiny.MODEL, hardware, Workload(input_tokens=8, output_tokens=2))
    roofs = document["roofline"]["roofs"]
    assert [r["used"] for r in roofs] == [True] + [False] * (len(roofs) - 1)
    assert (roofs[0]["level"], roofs[0]["dtype"], roofs[0]["peak_flops"]) == ("measured", "bf16", 4e11)
    assert (roofs[0]["bandwidth"], roofs[0]["bandwidth_from"]) == (3e10, "gemv bf16")
    found = {(r["level"], r["dtype"]): r for r in roofs}
    assert len(found) == len(roofs)
    known = {("datasheet", dtype) for dtype, peak in H100.peak_flops.items() if peak}
    assert set(found) == known | {("measured", "bf16"), ("measured", "int8")}
    assert found["measured", "int8"]["bandwidth"] == 2e10
    assert found["datasheet", "fp8"]["peak_flops"] == H100.peak_flops["fp8"]


def test_a_model_without_the_rate_of_its_format_keeps_the_roof_that_was_used():
    old = replace(H100, peak_flops={"fp32": 1e13})
    roofs = estimate(tiny.MODEL, old, Workload(input_tokens=8, output_tokens=2))["roofline"]["roofs"]
    assert [(r["dtype"], r["used"]) for r in roofs] == [("fp32", True)]


def test_a_configuration_alone_is_enough():
    model = ModelSpec(name="Anything", config=tiny.LLAMA)
    document = estimate(model, H100, Workload(input_tokens=8, output_tokens=1))
    assert "tpot" not in document["metrics"]
    assert document["metrics"]["e2e_latency"]["value"] == document["metrics"]["ttft"]["value"]
