"""Operators without matrix products: element-wise work, reductions, gathers, copies. Registered on import."""

from __future__ import annotations

import math

from profiling.operators import Cost, numel, operator

#: Operations per element of the output. A transcendental function is one.
ELEMENTWISE = {
    1: """add sub rsub mul div floor_divide true_divide remainder fmod neg abs sign floor ceil round trunc exp exp2 expm1
        log log2 log1p sqrt rsqrt reciprocal sin cos tan tanh sigmoid relu erf erfinv erfc pow maximum minimum clamp clamp_min clamp_max
        eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor
        __and__ __or__ __xor__ where masked_fill isinf isnan isneginf isfinite threshold dropout bernoulli native_dropout
        nan_to_num square atan2 acos asin atan cosh sinh frac triu tril heaviside bitwise_left_shift bitwise_right_shift
        __lshift__ __rshift__ floor_div""",
    2: "addcmul addcdiv lerp softplus log_sigmoid log_sigmoid_forward hardtanh relu6 leaky_relu prelu polar logit",
    3: "upsample_linear1d",
    4: "silu hardswish hardsigmoid elu celu selu mish glu",
    6: "gelu",
    7: "upsample_bilinear2d _upsample_bilinear2d_aa grid_sampler_2d",
    31: "upsample_bicubic2d _upsample_bicubic2d_aa",  # 16 neighbours, weighed and summed
}

#: Operations per element of the input.
REDUCTIONS = {
    1: """sum mean amax amin max min aminmax prod any all argmax argmin cumsum cumprod logsumexp histc bincount count_nonzero norm
        linalg_vector_norm topk sort argsort nonzero unique_consecutive _unique2 cummax logcumsumexp kthvalue median
        searchsorted bucketize is_nonzero equal mode _is_all_true _is_any_true""",
    3: "var std var_mean std_mean",
    5: "_softmax _log_softmax _safe_softmax _fused_rms_norm rms_norm",
    8: "native_layer_norm native_group_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_no_update",
}

COPIES = """_to_copy copy clone contiguous cat stack constant_pad_nd repeat flip roll reflection_pad1d replication_pad1d
    reflection_pad2d replication_pad2d pixel_shuffle tile as_strided_copy view_copy expand_copy _copy_from unfold_copy
    channel_shuffle im2col repeat_interleave upsample_nearest2d upsample_nearest1d resize resize_as pixel_unshuffle block_diag"""

#: Made from nothing: written, not read.
FILLS = """arange full full_like zeros zeros_like ones ones_like new_zeros new_ones new_full scalar_tensor linspace eye fill
    zero rand rand_like randn randn_like randint randint_like randperm uniform normal exponential tril_indices triu_indices
    """

#: Reserve memory, touch none of it.
EMPTY = "empty empty_like new_empty empty_strided new_empty_strided empty_permuted"


def _elementwise(per_element: int):
    def formula(inputs, outputs, args, kwargs) -> Cost:
        return Cost(elementwise_flops=per_element * numel(outputs[0]))

    return formula


def _reduction(per_element: int):
    def formula(inputs, outputs, args, kwargs) -> Cost:
        return Cost(elementwise_flops=per_element * numel(inputs[0]))

    return formula


for _count, _names in ELEMENTWISE.items():
    operator(*_names.split(), op_class="elementwise")(_elementwise(_count))
for _count, _names in REDUCTIONS.items():
    operator(*_names.split(), op_class="reduction")(_reduction(_count))


@operator(*COPIES.split(), op_class="copy")
def copy(inputs, outputs, args, kwargs) -> Cost:
    """Bytes only. ``copy_`` overwrites its first tensor without reading it."""
    in_place = len(inputs) > 1 and kwargs.get("in_place")
    return Cost(reads={0: 0}) if in_place else Cost()


@operator(*FILLS.split(), op_class="copy")
def fill(inputs, outputs, args, kwargs) -> Cost:
    """Written, not read: a tensor among the inputs gives its shape only."""
    return Cost(reads=dict.fromkeys(range(len(inputs)), 0))


@operator(*EMPTY.split(), op_class="other")
def empty(inputs, outputs, args, kwargs) -> Cost:
    """Memory is reserved, nothing is moved."""
    return Cost(reads=dict.fromkeys(range(len(inputs)), 0), writes=dict.fromkeys(range(len(outputs)), 0))


@operator("_local_scalar_dense", "item", op_class="other")
def scalar(inputs, outputs, args, kwargs) -> Cost:
    """One element is read."""
    return Cost(reads={0: inputs[0].itemsize} if inputs else {})


@operator(
    "avg_pool1d", "avg_pool2d", "max_pool2d_with_indices", "max_pool1d", "_adaptive_avg_pool2d", op_class="reduction"
)
def pool(inputs, outputs, args, kwargs) -> Cost:
    """One operation per element of a window, at every position of the output."""
    size = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    window = math.prod(size) if size else numel(inputs[0]) // max(numel(outputs[0]), 1)
    return Cost(elementwise_flops=window * numel(outputs[0]))


@operator("_fft_c2c", "_fft_r2c", "_fft_c2r", op_class="other")
def fft(inputs, outputs, args, kwargs) -> Cost:
    """Fast Fourier transform over n points: 5·n·log2(n) operations (Cooley–Tukey), none of them a matrix product."""
    shape = inputs[0].shape
    dims = args[1] if len(args) > 1 else (-1,)
    points = math.prod(shape[d] for d in dims)
    return Cost(elementwise_flops=round(5 * numel(inputs[0]) * math.log2(max(points, 2))))


@operator("linalg_solve_triangular", op_class="other")
def solve_triangular(inputs, outputs, args, kwargs) -> Cost:
    """(n, n) triangular system with k right-hand sides: n²·k, by substitution; not a matrix product."""
    return Cost(elementwise_flops=numel(outputs[0]) * inputs[0].shape[-1])


# --- gathers and scatters: what is picked is moved, not the table ----------------------------------------------------


@operator("embedding", "index_select", "gather", "take", op_class="gather")
def gather(inputs, outputs, args, kwargs) -> Cost:
    """Of the table, the rows gathered are read: as many bytes as come out."""
    return Cost(reads={0: outputs[0].nbytes})


@operator("_embedding_bag", "_embedding_bag_forward_only", "embedding_bag", op_class="gather")
def embedding_bag(inputs, outputs, args, kwargs) -> Cost:
    """One row of the table per index is read and summed."""
    table, indices = inputs[0], inputs[1]
    elements = numel(indices) * table.shape[-1]
    return Cost(elementwise_flops=elements, reads={0: elements * table.itemsize})


@operator("index", "_unsafe_index", op_class="gather")
def index(inputs, outputs, args, kwargs) -> Cost:
    """Advanced indexing: as many bytes of the first tensor as come out, and the indices."""
    return Cost(reads={0: outputs[0].nbytes})


@operator("index_put", "_unsafe_index_put", op_class="gather")
def index_put(inputs, outputs, args, kwargs) -> Cost:
    """The values are written where the indices say. In place, the rest of the tensor is left alone."""
    values = inputs[-1]
    if kwargs.get("in_place"):
        return Cost(reads={0: 0}, writes={0: values.nbytes})
    return Cost()


@operator("index_copy", op_class="gather")
def index_copy(inputs, outputs, args, kwargs) -> Cost:
    """The source is written where the indices say. In place (a cache of fixed length), the rest of the tensor is left alone."""
    if kwargs.get("in_place"):
        return Cost(reads={0: 0}, writes={0: inputs[-1].nbytes})
    return Cost()


@operator("index_add", "scatter_add", "scatter_reduce", op_class="gather")
def index_add(inputs, outputs, args, kwargs) -> Cost:
    """Read-modify-write of as many elements as the source has; out of place, a copy of the whole as well."""
    source = inputs[-1]
    flops = numel(source)
    if kwargs.get("in_place"):
        return Cost(elementwise_flops=flops, reads={0: source.nbytes}, writes={0: source.nbytes})
    return Cost(elementwise_flops=flops)


@operator("scatter", "masked_scatter", "slice_scatter", "select_scatter", op_class="gather")
def scatter(inputs, outputs, args, kwargs) -> Cost:
    """In place: the source (or one element per index) is written; out of place the whole tensor is copied too."""
    if kwargs.get("in_place"):
        moved = numel(inputs[1]) * inputs[0].itemsize
        return Cost(reads={0: 0}, writes={0: moved})
    return Cost()
