"""What one operator costs: a registry of small pure functions, one per operator or family of operators.

A formula sees the tensors that went in and came out (anything with ``shape``, ``itemsize`` and ``nbytes``) and the call's
plain arguments, and returns a :class:`Cost`. Unless a formula says otherwise, every input is read once and every output
is written once. Views never reach this registry: they move nothing. An operator without a formula is reported by name
(``unknown_operators`` of the run document), it never counts as a silent zero.

One multiply-add is 2 FLOPs. ``flops`` are those of matrix products and convolutions alone; everything else is in
``elementwise_flops``, where one transcendental function counts as one operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from profiling import workspace
from profiling.workspace import Workspace

OP_CLASSES = (
    "matmul",
    "attention",
    "experts",
    "convolution",
    "elementwise",
    "reduction",
    "gather",
    "copy",
    "scan",
    "other",
)


class Tensor(Protocol):
    """What a formula may know of a tensor: logical shape, bytes per element, bytes that lie in memory behind it."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of one call, and where its traffic differs from "each input read once, each output written once".

    ``reads`` maps the position of an input tensor to the bytes read of it, ``writes`` likewise for outputs.
    ``hidden_bytes`` is traffic of intermediate tensors that a kernel written as a chain of operators adds in ``eager``
    execution. ``workspace``: memory that the kernel takes while it runs, beyond its inputs and outputs; None for none.
    """

    flops: int = 0
    elementwise_flops: int = 0
    reads: Mapping[int, int] = field(default_factory=dict)
    writes: Mapping[int, int] = field(default_factory=dict)
    hidden_bytes: int = 0
    workspace: Workspace | None = None


Formula = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Any], Mapping[str, Any]], Cost]


@dataclass(frozen=True, slots=True)
class Operator:
    """A registered operator: its class (one of :data:`OP_CLASSES`) and its formula."""

    name: str
    op_class: str
    formula: Formula


REGISTRY: dict[str, Operator] = {}


def operator(*names: str, op_class: str) -> Callable[[Formula], Formula]:
    """Register a formula under the names of operators (``mm``, not ``aten.mm.default``). Twice the same name is an error."""
    if op_class not in OP_CLASSES:
        raise ValueError(f"{op_class!r} is no operator class")

    def register(formula: Formula) -> Formula:
        for name in names:
            if name in REGISTRY:
                raise ValueError(f"operator {name!r} is registered twice")
            REGISTRY[name] = Operator(name, op_class, formula)
        return formula

    return register


def lookup(name: str) -> Operator | None:
    """The operator called ``name``; an in-place variant (``add_``) is found under the name of its plain one."""
    return REGISTRY.get(name) or REGISTRY.get(name.rstrip("_"))


def numel(tensor: Tensor) -> int:
    """Logical number of elements."""
    return math.prod(tensor.shape)


# --- matrix products and convolutions ---------------------------------------------------------------------------------


@operator("mm", op_class="matmul")
def mm(inputs, outputs, args, kwargs) -> Cost:
    """(m, k) × (k, n): 2·m·k·n."""
    (m, k), (_, n) = inputs[0].shape, inputs[1].shape
    return Cost(flops=2 * m * k * n)


@operator("addmm", op_class="matmul")
def addmm(inputs, outputs, args, kwargs) -> Cost:
    """Bias + (m, k) × (k, n): the product counts as FLOPs, the bias addition as element-wise."""
    (m, k), (_, n) = inputs[1].shape, inputs[2].shape
    return Cost(flops=2 * m * k * n, elementwise_flops=m * n)


@operator("mv", op_class="matmul")
def mv(inputs, outputs, args, kwargs) -> Cost:
    """(m, k) × (k): 2·m·k."""
    m, k = inputs[0].shape
    return Cost(flops=2 * m * k)


@operator("dot", "vdot", op_class="matmul")
def dot(inputs, outputs, args, kwargs) -> Cost:
    """(k) · (k): 2·k."""
    return Cost(flops=2 * numel(inputs[0]))


@operator("bmm", op_class="matmul")
def bmm(inputs, outputs, args, kwargs) -> Cost:
    """(b, m, k) × (b, k, n): 2·b·m·k·n."""
    (b, m, k), (_, _, n) = inputs[0].shape, inputs[1].shape
    return Cost(flops=2 * b * m * k * n)


@operator("baddbmm", op_class="matmul")
def baddbmm(inputs, outputs, args, kwargs) -> Cost:
    """Addend + (b, m, k) × (b, k, n). With ``beta=0`` the addend is not read."""
    (b, m, k), (_, _, n) = inputs[1].shape, inputs[2].shape
    flops = 2 * b * m * k * n
    if kwargs.get("beta", 1) == 0:
        return Cost(flops=flops, reads={0: 0})
    return Cost(flops=flops, elementwise_flops=b * m * n)


@operator("convolution", "_convolution", op_class="convolution")
def convolution(inputs, outputs, args, kwargs) -> Cost:
    """2 · outputs · (input channels per group) · kernel size; transposed: by input positions instead."""
    weight, out = inputs[1], outputs[0]
    transposed = bool(args[6]) if len(args) > 6 else False
    positions = numel(inputs[0]) if transposed else numel(out)
    # weight: (out, in/groups, *kernel); transposed: (in, out/groups, *kernel). Either way, all but the first dimension
    # is what one position costs.
    bias = numel(out) if len(inputs) > 2 else 0
    return Cost(flops=2 * positions * math.prod(weight.shape[1:]), elementwise_flops=bias)


# --- fused operators, caught at function level (profiling.fused) ------------------------------------------------------


@operator("sdpa", op_class="attention")
def sdpa(inputs, outputs, args, kwargs) -> Cost:
    """Scaled dot-product attention as one kernel: Q, K, V (and the mask) read once, O written once.

    ``kwargs["pairs"]``: query-key pairs per sequence and head. Both products are counted for each pair, so causal
    attention counts in full: 2·pairs·(d_qk + d_v) per head. Softmax: scale, maximum, subtract, exp, sum, divide.
    """
    query, value = inputs[0], inputs[2]
    batch_heads = math.prod(query.shape[:-2])
    pairs = batch_heads * kwargs["pairs"]
    masked = 1 if len(inputs) > 3 else 0
    causal, gqa = bool(kwargs.get("causal")) and kwargs.get("queries", 0) > 1, bool(kwargs.get("gqa"))
    return Cost(
        flops=2 * pairs * (query.shape[-1] + value.shape[-1]),
        elementwise_flops=(6 + masked) * pairs,
        workspace=workspace.attention(inputs, outputs[0], causal=causal, gqa=gqa),
    )


@operator("grouped_mm", op_class="experts")
def grouped_mm(inputs, outputs, args, kwargs) -> Cost:
    """Rows sorted by expert × the weights of their expert: (rows, k) × (experts, k, n) gives 2·rows·k·n.

    Which experts' weights are read depends on the routing: ``kwargs["tokens"]`` tokens choose rows/tokens experts each. That is
    a convention (:func:`profiling.execution.expert_share`), so the whole table stands here.
    """
    rows, k = inputs[0].shape
    _, _, n = inputs[1].shape
    return Cost(flops=2 * rows * k * n)


@operator("selective_scan", op_class="scan")
def selective_scan(inputs, outputs, args, kwargs) -> Cost:
    """State-space scan over S steps, h ← Ā·h + B̄·x, y = C·h, of ``channels`` × ``state`` per sequence.

    y = C·h is a matrix product (2·B·S·d·n, as the reference loop executes it). Element-wise, per step, channel and
    state: Ā (multiply, exp), B̄ (multiply), B̄·x, Ā·h, sum. In eager execution the loop keeps Ā, B̄ and B̄·x of all steps
    in fp32 and moves them and the state through memory.
    """
    batch, channels, steps, state = kwargs["batch"], kwargs["channels"], kwargs["steps"], kwargs["state"]
    cells = batch * channels * steps * state
    per_step = batch * channels * steps
    fp32 = 4
    # Written once: Ā, B̄, B̄·x; read once: B̄, then Ā and B̄·x by the loop. The state: read for Ā·h, product written and
    # read, sum written, cast copy, read by C·h.
    hidden = cells * fp32 * (3 + 3) + cells * (fp32 * 5 + kwargs["itemsize"])
    return Cost(
        flops=2 * cells,
        elementwise_flops=6 * cells + 4 * per_step,
        hidden_bytes=hidden,
        workspace=workspace.selective_scan(
            batch=batch,
            channels=channels,
            steps=steps,
            state=state,
            itemsize=kwargs["itemsize"],
            skips=bool(kwargs.get("skips")),
        ),
    )


@operator("rwkv_scan", op_class="scan")
def rwkv_scan(inputs, outputs, args, kwargs) -> Cost:
    """RWKV's recurrence: per token and channel 13 operations for the output and 12 for the state, 4 of the 25 exponentials.

    No matrix product. In eager execution the reference loop moves each operand and result in fp32 (21 operations of two
    operands, 4 of one); its casts are not counted.
    """
    cells = numel(outputs[0])
    return Cost(elementwise_flops=25 * cells, hidden_bytes=4 * cells * (21 * 3 + 4 * 2))
