"""Bytes of chains of operators, in both execution models, against sums written by hand."""

from __future__ import annotations

from collections import defaultdict

import pytest

from profiling.build import build
from profiling.execution import works
from profiling.kernels import kernels, on_chip
from profiling.passes import Pass, trace
from profiling.spec import ModelSpec
from tests.profiling.documents import catalogue_model
from tests.profiling.test_trace import passes_of, tiny

MAMBA = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 512, "state_size": 16}


class Moved:
    """Bytes read and written by the calls of a trace, one kernel for each call or fused."""

    def __init__(self, item) -> None:
        self.calls = item.calls
        keep = item.recording.cache_uids | item.recording.result_uids | item.leaving
        self.kernels = kernels(item.calls, (), item.blocks)
        self._reads, self._writes = on_chip(item.calls, keep, (), item.blocks)
        self._works = works(item, "fused")

    def eager(self, path: str, names: str | None = None) -> tuple[int, int]:
        chosen = [c for c in self.calls if c.path == path and (names is None or c.name in names.split())]
        assert chosen
        return sum(c.bytes_read for c in chosen), sum(c.bytes_written for c in chosen)

    def fused(self, path: str, name: str) -> tuple[int, int]:
        """Of the whole kernel in which the first ``name`` at ``path`` runs."""
        number = self.kernels[next(i for i, c in enumerate(self.calls) if c.path == path and c.name == name)]
        calls = [c for c, k in zip(self.calls, self.kernels, strict=True) if k == number]
        read = sum(b for c in calls for i, (_, b, _) in enumerate(c.reads) if (c.index, i) not in self._reads)
        written = sum(b for c in calls for i, (_, b) in enumerate(c.writes) if (c.index, i) not in self._writes)
        # The execution model counts the same.
        mine = [work for work, k in zip(self._works, self.kernels, strict=True) if k == number]
        assert sum(w.weight_read + w.cache_read + w.other_read for w in mine) == read
        assert sum(w.cache_written + w.other_written for w in mine) == written
        return read, written

    def names(self, path: str, name: str) -> list[str]:
        number = self.kernels[next(i for i, c in enumerate(self.calls) if c.path == path and c.name == name)]
        return [c.name for c, k in zip(self.calls, self.kernels, strict=True) if k == number]


def test_rms_norm_moves_input_weight_and_output_once_when_fused():
    rows, width = 16, 64
    moved = Moved(trace(build(tiny(), "bf16"), Pass("prefill", 1, rows)))
    n, weight, per_row = rows * width, width * 2, rows * 4
    # Cast to fp32, square, mean, plus epsilon, reciprocal root, product, cast back, times weight.
    read = 2 * n + 4 * n + 4 * n + per_row + per_row + (4 * n + per_row) + 4 * n + (2 * n + weight)
    written = 4 * n + 4 * n + per_row + per_row + per_row + 4 * n + 2 * n + 2 * n
    assert moved.eager("model.layers.0.input_layernorm") == (read, written)
    # The first norm reads the embeddings, which the residual connection reads again.
    assert moved.fused("model.layers.0.input_layernorm", "mean") == (2 * n + weight, 2 * n)
    # The others come with the residual addition: two tensors in, the sum and the normalised sum out.
    for path in ("model.layers.0.post_attention_layernorm", "model.layers.1.input_layernorm"):
        assert moved.fused(path, "mean") == (2 * 2 * n + weight, 2 * 2 * n)
    # Nobody reads the last sum again, but the kernel that adds and normalises is the same.
    assert moved.fused("model.norm", "mean") == (2 * 2 * n + weight, 2 * 2 * n)


def test_layer_norm_with_its_residual_addition():
    rows, width = 16, 768
    moved = Moved(trace(build(catalogue_model("gpt2"), "bf16"), Pass("prefill", 1, rows)))
    n, parameters, statistics = rows * width * 2, 2 * width * 2, 2 * rows * 4
    assert moved.eager("transformer.h.1.ln_1") == (n + parameters, n + statistics)
    assert moved.fused("transformer.h.1.ln_1", "native_layer_norm") == (2 * n + parameters, 2 * n + statistics)


def test_softmax_with_scale_mask_and_casts_is_one_kernel():
    rows, heads = 16, 4
    moved = Moved(trace(build(tiny(), "bf16", "eager"), Pass("prefill", 1, rows)))
    path, scores, mask = "model.layers.1.self_attn", heads * rows * rows, rows * rows * 2
    # Times scale, plus mask, cast to fp32, softmax, cast back.
    chain = [c for c in moved.calls if c.path == path and c.label == "eager_attention_forward"]
    chain = [c for c in chain if c.name in ("mul", "add", "_to_copy", "_softmax")]
    assert sum(c.bytes_read for c in chain) == (2 + 2 + 2 + 4 + 4) * scores + mask
    assert sum(c.bytes_written for c in chain) == (2 + 2 + 4 + 4 + 2) * scores
    assert moved.fused(path, "_softmax") == (2 * scores + mask, 2 * scores)
    assert moved.names(path, "_softmax") == ["mul", "add", "_to_copy", "_softmax", "_to_copy"]


def test_causal_convolution_with_its_activation_and_state():
    rows, channels, taps = 16, 128, 4
    model = build(ModelSpec(name="mamba", config=MAMBA, architecture="MambaForCausalLM"), "bf16")
    path = "backbone.layers.1.mixer"
    inputs, weight = rows * channels * 2, channels * taps * 2 + channels * 2
    prefill = Moved(trace(model, Pass("prefill", 2, rows)))
    # As executed: the input is padded on both sides, the activation is an operator of its own.
    padded = 2 * (rows + taps - 1) * channels * 2
    assert prefill.eager(path, "convolution silu") == (2 * inputs + weight + 2 * inputs, padded + 2 * inputs)
    # One kernel: input and weights in, output and the state for the first decode step out.
    state = 2 * channels * taps * 2
    assert prefill.fused(path, "convolution") == (2 * inputs + weight + state, 2 * inputs + state)
    decode = Moved(trace(model, Pass("decode", 2, 1, rows)))
    token = 2 * channels * 2
    assert {"cat", "copy", "convolution", "silu"} <= set(decode.names(path, "convolution"))
    convolution = [c for c in decode.calls if c.path == path and c.label == "causal_conv1d_update"]
    assert sum(c.bytes_read for c in convolution) > 2 * (state + token + weight)
    number = decode.kernels[decode.calls.index(convolution[0])]
    reads = defaultdict(int)
    for call, kernel in zip(decode.calls, decode.kernels, strict=True):
        if kernel == number and call in convolution:
            for position, (_, nbytes, _source) in enumerate(call.reads):
                reads[(call.index, position) in decode._reads] += nbytes
    assert reads[False] == state + token + weight


def test_a_chain_rides_along_with_the_product_before_it_unless_it_needs_whole_rows():
    moved = Moved(trace(build(tiny(), "bf16"), Pass("prefill", 1, 16)))
    inner = 16 * 128 * 2
    assert moved.names("model.layers.1.mlp.gate_proj", "mm") == ["mm", "silu"]
    assert moved.names("model.layers.1.mlp.up_proj", "mm") == ["mm", "mul"]
    # The second product reads its inputs and the activated gate; only the product of both is written.
    assert moved.fused("model.layers.1.mlp.up_proj", "mm") == (16 * 64 * 2 + 128 * 64 * 2 + inner, inner)
    assert moved.names("model.layers.1.mlp.down_proj", "mm") == ["mm"]


def test_the_residual_crosses_products_in_memory():
    moved = Moved(trace(build(tiny(), "bf16"), Pass("prefill", 1, 16)))
    adds = [c for c in moved.calls if c.name == "add" and c.path == "model.layers.1"]
    assert len(adds) == 2
    for call in adds:
        assert [(call.index, i) in moved._reads for i in range(2)] == [False, False]


@pytest.mark.parametrize("model_id", ["gpt2", "gemma-3-1b", "mixtral-8x7b", "deepseek-v3", "bert-base-uncased"])
def test_kernels_have_an_order_in_which_they_can_run(model_id):
    """Nothing is read from a kernel that begins later, and no tensor is read that was never written."""
    model = build(catalogue_model(model_id), "bf16")
    for spec in passes_of(model.kind):
        item = trace(model, spec)
        moved = Moved(item)
        assert len(set(moved.kernels)) < len(item.calls)
        written: dict[int, tuple[int, bool]] = {}
        for call, number in zip(item.calls, moved.kernels, strict=True):
            for position, (uid, nbytes, _) in enumerate(call.reads):
                if not nbytes or uid not in written:
                    continue
                maker, to_memory = written[uid]
                assert maker <= number
                assert to_memory or maker == number
                if maker != number and call.op_class not in ("elementwise", "copy", "reduction"):
                    assert (call.index, position) not in moved._reads
            for position, (uid, _) in enumerate(call.writes):
                written[uid] = number, (call.index, position) not in moved._writes


def test_a_growing_cache_is_appended_to_in_place_when_fused():
    """Keys and values of a step: the new token's are written, and attention reads all of them, from memory."""
    batch, context, heads, width = 2, 50, 2, 16
    item = trace(build(tiny(), "bf16"), Pass("decode", batch, 1, context))
    token = batch * heads * width * 2
    for layer in range(2):
        counted = [w for w in works(item, "fused") if w.call.path == f"model.layers.{layer}.self_attn"]
        appends = [w for w in counted if w.appends]
        assert [(w.cache_read, w.cache_written) for w in appends] == [(0, token), (0, token)]
        (attention,) = (w for w in counted if w.op_class == "attention")
        assert attention.cache_read == 2 * (context + 1) * token
