"""Times and memory from closed forms: those of estimates, whatever the device and the formats; many points as one by one."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiling.estimate import estimate
from profiling.forms.evaluate import CHUNK, COLUMNS, MANY, Evaluator, Points
from profiling.forms.keys import form_key
from profiling.forms.make import make_form
from profiling.forms.store import FormStore
from profiling.forms.terms import ModelForm, NoForm, point_terms
from profiling.options import operators
from profiling.roofline import ceilings
from profiling.small_products import small_shares
from profiling.spec import HardwareSpec, ModelSpec, Workload
from profiling.stages import trace_workload
from profiling.sweep import from_document, sweep
from profiling.tables import evaluate
from profiling.workspace import kernel_threads
from tests.profiling.documents import ROOT, catalogue_model, device
from tests.profiling.tiny import BERT, LLAMA, MAMBA, T5

H100 = replace(device("H100 SXM5 80GB"), interconnect_bandwidth=900e9)
#: A machine whose kernels were timed: every kind of ceiling there is.
HOST = HardwareSpec(
    name="Host",
    kind="cpu",
    memory_bytes=64 * 10**9,
    ceilings=[
        {"op_class": name, "dtype": dtype, "threads": 4, "value": value, "unit": unit}
        for name, dtype, value, unit in (
            ("gemm", "bf16", 4e11, "FLOP/s"),
            ("gemm", "int8", 8e11, "OP/s"),
            ("gemv", "bf16", 3e10, "B/s"),
            ("skinny-2", "bf16", 3e10, "FLOP/s"),
            ("skinny-8", "bf16", 9e10, "FLOP/s"),
            ("attention", "bf16", 1e11, "FLOP/s"),
            ("elementwise", "fp32", 5e9, "FLOP/s"),
            ("copy", "", 2e10, "B/s"),
            ("overhead", "", 4e-6, "s"),
        )
    ],
)
#: The same with rates by the shape of the weights, of shapes as tiny models have.
SHAPED = replace(
    HOST,
    ceilings=[
        row | ({"bytes": 1 << 20, "inner": 64} if row["op_class"] in ("gemv", "skinny-2", "skinny-8") else {})
        for row in HOST.ceilings
    ]
    + [
        {"op_class": name, "dtype": "bf16", "threads": 4, "value": value, "unit": unit, "bytes": size, "inner": inner}
        for name, value, unit, size, inner in (
            ("gemv-1MiB-768", 2e10, "B/s", 1 << 12, 16),
            ("gemv-16MiB-768", 2.5e10, "B/s", 1 << 14, 16),
            ("gemv-1MiB-4096", 2.8e10, "B/s", 1 << 12, 64),
            ("skinny-2-1MiB-768", 1e10, "FLOP/s", 1 << 12, 16),
            ("skinny-8-1MiB-768", 5e10, "FLOP/s", 1 << 12, 16),
            ("skinny-8-16MiB-768", 6e10, "FLOP/s", 1 << 14, 16),
        )
    ],
)
WINDOWED = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 24}
MIXTURE = {**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4}
TINY = {
    "llama": ModelSpec("Tiny", LLAMA),
    "window": ModelSpec("Tiny", WINDOWED),
    "experts": ModelSpec("Tiny", {**MIXTURE, "num_experts_per_tok": 2, "head_dim": 8}),
    "state space": ModelSpec("Tiny", MAMBA, kind="ssm"),
    "encoder": ModelSpec("Tiny", BERT, kind="encoder"),
    "encoder-decoder": ModelSpec("Tiny", T5, kind="encdec"),
}
OPTIONS = [
    {},
    {"dtype": "fp32"},
    {"execution": "fused", "causal": "halved", "window": "windowed"},
    {"weights_dtype": "int4"},
    {"weights_dtype": "int8", "activation_dtype": "int8"},
    {"weights_dtype": "fp8", "kv_dtype": "fp8", "execution": "fused"},
    {"tensor_parallel": 2, "weights_dtype": "int4-g32"},
    {"data_parallel": 2, "pipeline_parallel": 2},
]


def same(model: ModelSpec, hardware: HardwareSpec, options: dict, points: list[dict], folder) -> None:
    """Every column of a sweep against the estimate of each point."""
    table = sweep(model, [hardware], points, Workload(**options), store=FormStore(folder))
    # An estimate rounds the weights of the experts that a product is expected to read to whole bytes, each product on its own.
    close = 1e-5 if model.config["model_type"] == "mixtral" else 1e-9
    for row, point in zip(table.rows(), points, strict=True):
        assert (row["error"], row["method"]) == (None, "closed form")
        document = estimate(model, hardware, Workload(**options, **point))
        for name, value in from_document(document).items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=close, abs=1)), (name, point)
            if value is not None and not name.endswith("bytes"):
                assert row[name] == pytest.approx(value, rel=close), (name, point)
        parts = [row[f"{part}_share"] for part in ("compute", "memory", "overhead", "network")]
        assert sum(parts) == pytest.approx(1, abs=1e-12)
        assert min(parts) >= 0


def points_of(model: ModelSpec) -> list[dict]:
    outputs = 0 if model.kind == "encoder" else 20
    return [
        {"batch_size": 2, "input_tokens": 30, "output_tokens": outputs},
        {"batch_size": 6, "input_tokens": 7, "output_tokens": outputs},
        {"batch_size": 32, "input_tokens": 1, "output_tokens": min(outputs, 1)},
    ]


@pytest.mark.parametrize("hardware", [H100, HOST, SHAPED], ids=["datasheet", "measured", "by shape"])
@pytest.mark.parametrize("name", ["window", "experts", "encoder-decoder"])
def test_a_sweep_gives_the_figures_of_estimates(name, hardware, tmp_path):
    same(TINY[name], hardware, {}, points_of(TINY[name]), tmp_path)


@pytest.mark.parametrize("options", OPTIONS[3:7], ids=str)
def test_formats_and_devices_give_the_figures_of_estimates(options, tmp_path):
    same(TINY["llama"], H100, options, points_of(TINY["llama"]), tmp_path)


@pytest.mark.parametrize(
    "degrees",
    [
        {"data_parallel": 2},
        {"tensor_parallel": 2},
        {"data_parallel": 2, "experts": "topk"},
        {"data_parallel": 2, "experts": "all"},
    ],
    ids=str,
)
def test_experts_on_several_devices_have_the_rates_of_their_rows_and_weights(degrees, tmp_path):
    linked = replace(SHAPED, kind="gpu", interconnect_bandwidth=9e11)
    same(TINY["experts"], linked, degrees | {"expert_parallel": 2}, points_of(TINY["experts"]), tmp_path)


def test_what_only_sends_launches_no_kernel(tmp_path):
    """A fused kernel takes the operator in; its collective is left."""
    linked = replace(HOST, kind="gpu", interconnect_bandwidth=9e11)
    options = {"pipeline_parallel": 2, "execution": "fused"}
    same(TINY["experts"], linked, options, points_of(TINY["experts"]), tmp_path)


def test_each_device_of_a_sweep_keeps_the_rates_of_its_own_kernels(tmp_path):
    """Also beside another: they were taken for those of a datasheet where several devices shared a form."""
    model, devices = TINY["llama"], [SHAPED, replace(HOST, name="Other")]
    points = [{**point, "hardware": d.name} for point in points_of(model) for d in devices]
    table = sweep(model, devices, points, Workload(), store=FormStore(tmp_path))
    for row, point in zip(table.rows(), points, strict=True):
        chosen = next(d for d in devices if d.name == point["hardware"])
        workload = Workload(**{name: value for name, value in point.items() if name != "hardware"})
        for name, value in from_document(estimate(model, chosen, workload)).items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9)), (name, point)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {"weights_dtype": "int4", "tensor_parallel": 2}),
        ("llama", {"draft_tokens": 2, "draft_acceptance": 0.5}),
        ("experts", {}),
        ("encoder", {}),
        pytest.param("encoder-decoder", {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_products_smaller_than_any_that_was_timed_are_named_as_estimates_name_them(name, options, tmp_path):
    # Processors that share a model have no form (``test_processors``).
    kind = "gpu" if "tensor_parallel" in options else "cpu"
    model, linked = TINY[name], replace(SHAPED, interconnect_bandwidth=9e11, kind=kind)
    points = points_of(model)
    store = FormStore(tmp_path)
    table = sweep(model, [linked], points, Workload(**options), store=store)
    form_of = store.get(form_key(model, Workload(**options), kernel_threads(linked.kind, None)))
    limits = replace(ceilings(linked, "bf16")[0], interconnect=4.5e11, linked="tensor_parallel" in options)
    evaluate_form = Evaluator(form_of, Workload(**options), [limits], [None])
    told = evaluate_form.small_shares(
        Points(
            *(np.array([p[n] for p in points]) for n in ("batch_size", "input_tokens", "output_tokens")),
            np.zeros(3, int),
        )
    )
    for n, (row, point) in enumerate(zip(table.rows(), points, strict=True)):
        workload = Workload(**options, **point)
        traced = trace_workload(model, workload, lambda *_: None)
        items = {s: evaluate(t, operators(t, traced.built, workload), limits) for s, t in traced.stages.items()}
        for stage, share in small_shares(items, limits).items():
            assert told[stage][n] == pytest.approx(share, rel=1e-5 if name == "experts" else 1e-9), (stage, point)
        warnings = estimate(model, linked, workload)["warnings"]
        (message,) = [w["message"] for w in warnings if w["code"] == "smaller_than_timed"]
        assert message in row["notes"]
        beside = ("does_not_fit", "capacity_unknown")  # a column of its own says so
        assert row["notes"] == " ".join(w["message"] for w in warnings if w["code"] not in beside), "in the same order"


def every_combination():
    """Each kind of model with each set of options that its hardware has rates for. A third of them, every kind and every option among
    them, runs with ``--all``, the others with ``--exhaustive``."""
    hardware = {"datasheet": H100, "measured": HOST, "by shape": SHAPED}
    for at in itertools.product(range(len(TINY)), range(len(OPTIONS)), range(len(hardware))):
        name, options, device = list(TINY)[at[0]], OPTIONS[at[1]], list(hardware)[at[2]]
        if device != "datasheet" and any(word in str(options) for word in ("parallel", "fp8", "fp32")):
            continue  # the hosts have no such rate
        if name == "encoder-decoder" and "pipeline_parallel" in options:
            continue  # an encoder and a decoder are not divided into pipeline stages
        marks = [pytest.mark.slow] if sum(at) % 3 == 0 else [pytest.mark.slow, pytest.mark.exhaustive]
        yield pytest.param(name, options, hardware[device], id=f"{name}-{options}-{device}", marks=marks)


@pytest.mark.parametrize(("name", "options", "hardware"), every_combination())
def test_every_option_of_every_kind_gives_the_figures_of_estimates(name, options, hardware, tmp_path):
    same(TINY[name], hardware, options, points_of(TINY[name]), tmp_path)


@pytest.mark.slow
def test_one_token_in_and_one_out_divides_weights_as_longer_passes_do(tmp_path):
    points = points_of(TINY["state space"])[2:]
    same(TINY["state space"], H100, {"tensor_parallel": 2, "weights_dtype": "int4-g32"}, points, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"weights_dtype": "int4", "kv_dtype": "int8", "tensor_parallel": 4}], ids=str)
@pytest.mark.parametrize("model_id", ["llama-3-8b", "gemma-2-9b", "qwen3-30b-a3b", "deepseek-v2-lite", "gpt-oss-20b"])
def test_real_models_give_the_figures_of_estimates(model_id, options, tmp_path):
    points = [
        {"batch_size": b, "input_tokens": i, "output_tokens": n}
        for b, i, n in ((1, 64, 200), (16, 4090, 40), (3, 1, 2))
    ]
    same(catalogue_model(model_id), H100, options, points, tmp_path)


# --- many points ----------------------------------------------------------------------------------------------------------


@cache
def form() -> ModelForm:
    return make_form(TINY["window"], Workload())


def evaluator(*devices: HardwareSpec, **options) -> Evaluator:
    used = devices or (H100,)
    limits = [ceilings(d, "bf16")[0] for d in used]
    return Evaluator(form(), Workload(**options), limits, [d.memory_bytes for d in used])


def table(evaluate: Evaluator, rows: list[tuple[int, int, int, int]]) -> dict[str, np.ndarray]:
    return evaluate(Points(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))))


ROWS = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 60), st.integers(0, 60), st.integers(0, 1)), min_size=1, max_size=40
)
LAWS = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@given(ROWS)
@LAWS
def test_many_points_are_evaluated_as_each_of_them(rows):
    slow = replace(H100, memory_bandwidth=1e11, memory_bytes=None)
    evaluate = evaluator(H100, slow)
    together = table(evaluate, rows)
    for i, row in enumerate(rows):
        alone = table(evaluate, [row])
        for name in COLUMNS:
            assert together[name][i] == pytest.approx(alone[name][0], rel=1e-12, nan_ok=True), name


def test_more_points_than_fit_into_a_chunk_keep_their_order():
    """Threads work on chunks; the last one is not full."""
    chance = np.random.default_rng(1)
    rows = np.column_stack([chance.integers(1, limit, CHUNK * MANY + 17) for limit in (300, 60, 60, 2)])
    evaluate = evaluator()
    together = table(evaluate, [(int(b), int(i), int(o), 0) for b, i, o, _ in rows])
    for i in (0, CHUNK - 1, CHUNK, 2 * CHUNK + 5, len(rows) - 1):
        b, tokens, outputs, _ = map(int, rows[i])
        alone = table(evaluate, [(b, tokens, outputs, 0)])
        for name in COLUMNS:
            assert together[name][i] == pytest.approx(alone[name][0], rel=1e-12, nan_ok=True), name


@given(ROWS)
@LAWS
def test_parts_of_the_time_add_up_and_no_time_is_below_a_roof(rows):
    found = table(evaluator(), [(*row[:3], 0) for row in rows])
    parts = np.array([found[f"{name}_share"] for name in ("compute", "memory", "overhead", "network")])
    assert np.allclose(parts.sum(axis=0), 1, atol=1e-12)
    assert (parts >= 0).all()
    limits, _ = ceilings(H100, "bf16")
    for i, (batch, tokens, _, _) in enumerate(rows):
        terms = point_terms(form().stages["prefill"], {"batch": batch, "tokens": tokens, "context": 0, "source": 0})
        roofs = (sum(t.flops for t in terms) / limits.peak_flops, sum(t.bytes_moved for t in terms) / limits.bandwidth)
        assert found["ttft_s"][i] >= max(roofs) * (1 - 1e-12)


@given(ROWS, st.integers(1, 40))
@LAWS
def test_more_work_takes_longer_and_needs_no_less_memory(rows, more):
    """More tokens of output, from the same prompt; more sequences, from two on (a single one is served by other operators)."""
    evaluate = evaluator()
    rows = [(batch + 1, tokens, min(outputs, 27), 0) for batch, tokens, outputs, _ in rows]
    before = table(evaluate, rows)
    for grown in (
        table(evaluate, [(b, t, n + more, 0) for b, t, n, _ in rows]),
        table(evaluate, [(b + more, t, n, 0) for b, t, n, _ in rows]),
    ):
        some = ~np.isnan(before["e2e_s"])
        assert (grown["e2e_s"][some] >= before["e2e_s"][some] * (1 - 1e-12)).all()
        for name in ("ttft_s", "cache_bytes", "activation_peak_bytes", "total_bytes"):
            assert (grown[name] >= before[name] * (1 - 1e-12)).all(), name


@given(st.integers(1, 64), st.integers(1, 60), st.integers(2, 60))
@LAWS
def test_metrics_of_a_point_fit_together(batch, tokens, outputs):
    found = {name: float(v[0]) for name, v in table(evaluator(), [(batch, tokens, outputs, 0)]).items()}
    later = found["tpot_s"] * (outputs - 1)
    assert found["e2e_s"] == pytest.approx(found["ttft_s"] + later, rel=1e-12)
    assert found["prefill_tokens_per_s"] == pytest.approx(batch * tokens / found["ttft_s"], rel=1e-12)
    assert found["decode_tokens_per_s"] == pytest.approx(batch / found["tpot_s"], rel=1e-12)
    assert found["output_tokens_per_s"] == pytest.approx(batch * outputs / found["e2e_s"], rel=1e-12)
    parts = ("weights_bytes", "cache_bytes", "activation_peak_bytes", "widened_bytes")
    assert found["total_bytes"] == pytest.approx(sum(found[name] for name in parts), rel=1e-12)
    assert found["fits"] == 1.0


def test_what_is_unknown_is_unknown_and_never_zero():
    """No bandwidth: no time. No capacity: no verdict. No output: no latency of it."""
    found = table(evaluator(replace(H100, memory_bandwidth=None, memory_bytes=None)), [(2, 30, 4, 0)])
    assert all(math.isnan(found[name][0]) for name in ("ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "fits"))
    assert found["total_bytes"][0] > 0
    none = table(evaluator(), [(2, 30, 0, 0)])
    assert math.isnan(none["tpot_s"][0])
    assert none["ttft_s"][0] > 0


@pytest.mark.parametrize("row", [(2, 129, 0, 0), (2, 100, 40, 0)], ids=["input", "output"])
def test_a_point_beyond_the_form_is_refused_not_extrapolated(row):
    with pytest.raises(NoForm, match="does not cover"):
        table(evaluator(), [(2, 30, 4, 0), row])


# --- without torch --------------------------------------------------------------------------------------------------------

_WITHOUT = """
import sys
from pathlib import Path
import numpy as np
from profiling.forms.evaluate import Evaluator, Points
from profiling.forms.keys import form_key
from profiling.forms.store import FormStore
from profiling.forms.terms import point_terms
from profiling.roofline import ceilings
from profiling.spec import HardwareSpec, ModelSpec, Workload
from profiling.sweep import grid, sweep

config, folder = eval(sys.argv[1]), Path(sys.argv[2])
model, device = ModelSpec("Tiny", config), HardwareSpec("Device", peak_flops={"bf16": 1e14}, memory_bandwidth=1e12)
store, workload = FormStore(folder), Workload()
form = store.get(form_key(model, workload))
assert form is not None, "not stored"
assert point_terms(form.stages["decode"], {"batch": 2, "context": 30})
one = Evaluator(form, workload, [ceilings(device, "bf16")[0]], [None])
assert one(Points(*(np.array([n]) for n in (2, 30, 4, 0))))["e2e_s"][0] > 0
table = sweep(model, [device], grid({"batch_size": [1, 2], "input_tokens": [5, 50], "weights_dtype": [None, "int4"]}), workload, store=store)
assert table.columns["method"] == ["closed form"] * 8, table.columns
heavy = {"torch", "transformers", "django", "celery"} & set(sys.modules)
assert not heavy, heavy
"""


def test_stored_forms_are_evaluated_without_torch_or_transformers(tmp_path):
    FormStore(tmp_path).put(make_form(ModelSpec("Tiny", LLAMA), Workload()))
    subprocess.run([sys.executable, "-c", _WITHOUT, repr(LLAMA), str(tmp_path)], check=True, cwd=ROOT)
