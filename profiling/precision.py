"""Formats of weights, activations and the cache, each apart: how many bytes they take, and what unpacking them costs.

Weights can be stored in a *scheme*: a few bits each, with a scale (and a zero point) for a group of them. Weights alone in a
scheme are widened to the workload's ``dtype`` before they are multiplied; with 8-bit activations as well, the product itself runs
in the 8-bit format. ``docs/run-document.md`` and the ``conventions`` of every document say which layers that concerns.

Everything here is linear in the channels of :class:`profiling.demand.Demand`: what holds for one operator holds for a sum of
many and for arrays of coefficients. Standard library only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from profiling.demand import Demand
from profiling.spec import DTYPE_BYTES, WORKLOAD_DTYPES, SpecError, Workload

if TYPE_CHECKING:
    pass

AnyDemand = TypeVar("AnyDemand", bound=Demand)

#: Element-wise operations per value when activations, keys or values are quantised: absolute value, maximum, multiplication with
#: the inverse of the scale, conversion.
QUANTISE_OPERATIONS = 4
#: Per output of a product of 8-bit numbers: multiplication with the scale of the row and with that of the column, both inside
#: the kernel, as CUTLASS and torch's scaled products do.
RESCALE_OPERATIONS = 2
#: Bits of the scale of each token's activations (one fp32 number a token, made anew for every linear layer).
ACTIVATION_SCALE_BITS = 32
#: Bits of scale and zero point of each token's key, and of its value, in each head, where the cache is in int8 or int4: an
#: assumption, serving engines differ. fp8 has one scale for the whole layer, as in vLLM, which counts as nothing.
KV_SCALE_BITS, KV_ZERO_BITS = 16, 16


@dataclass(frozen=True)
class Scheme:
    """How a matrix of weights is stored.

    ``bits`` of one weight. ``group``: weights along the input that share a scale of ``scale_bits`` and a zero point of
    ``zero_bits``; 0: one scale for an output channel; None: no scale. ``outer_bits``: of a second scale, for 256 groups together.
    ``operations``: element-wise ones per weight to widen it: a multiplication, before it a subtraction where there is a zero point.
    """

    name: str
    bits: float
    group: int | None = None
    scale_bits: int = 0
    zero_bits: int = 0
    outer_bits: int = 0

    @property
    def symmetric(self) -> bool:
        return not self.zero_bits

    @property
    def operations(self) -> int:
        return 1 if self.symmetric else 2

    def bits_per_weight(self, in_features: int = 0) -> float:
        """Scales and zero points included. ``in_features``: weights of one output channel; 0: many, in whole groups."""
        overhead = self.scale_bits + self.zero_bits + self.outer_bits / 256
        if self.group is None:
            return self.bits
        if self.group == 0:
            return self.bits + (overhead / in_features if in_features else 0.0)
        groups = math.ceil(in_features / self.group) / in_features if in_features else 1 / self.group
        return self.bits + overhead * groups

    def stored_bytes(self, parameters: float, in_features: int = 0) -> float:
        """Bytes of ``parameters`` weights in rows of ``in_features``."""
        return parameters * self.bits_per_weight(in_features) / 8

    def describe(self) -> str:
        """The scheme in words, with its bits per weight for rows of many weights."""
        if self.group is None:
            return f"{self.name}, {self.bits:g} bits a weight"
        per = "output channel" if self.group == 0 else f"group of {self.group} weights"
        parts = f"a {self.scale_bits}-bit scale" + (f" and a {self.zero_bits}-bit zero point" if self.zero_bits else "")
        outer = f", the scales themselves scaled by {self.outer_bits} bits for 256 of them" if self.outer_bits else ""
        with_scales = f" ({self.bits_per_weight():.4g} with them)" if self.group else ""
        return f"{self.name}, {self.bits:g} bits a weight{with_scales}, {parts} per {per}{outer}"


def _integer(bits: int, group: int) -> Scheme:
    """Weights in groups along the input with an fp16 scale and a zero point of the weights' own width, as GPTQ and AWQ pack them."""
    return Scheme(f"int{bits}-g{group}", bits, group, scale_bits=16, zero_bits=bits)


#: Name → scheme. ``int4``, ``int3`` and ``int2`` stand for the group sizes that are usual. Sources: GPTQ (Frantar 2022) and AWQ (Lin
#: 2023) for the integer groups; QLoRA (Dettmers 2023) for nf4: blocks of 64, their scales in 8 bits with an fp32 scale for 256 of
#: them; OCP Microscaling Formats 1.0 for mxfp4: E2M1 in blocks of 32 with an E8M0 scale; fp8 (E4M3) and int8 with an fp32 scale for
#: each output channel, as llm-compressor and LLM.int8() store them.
SCHEMES: dict[str, Scheme] = {
    "fp32": Scheme("fp32", 32),
    "bf16": Scheme("bf16", 16),
    "fp16": Scheme("fp16", 16),
    "fp8": Scheme("fp8", 8, 0, scale_bits=32),
    "int8": Scheme("int8", 8, 0, scale_bits=32),
    "int4": _integer(4, 128),
    "nf4": Scheme("nf4", 4, 64, scale_bits=8, outer_bits=32),
    "mxfp4": Scheme("mxfp4", 4, 32, scale_bits=8),
    "int3": _integer(3, 128),
    "int2": _integer(2, 64),
}
GROUP_SIZES = (32, 64, 128)
_GROUPED = re.compile(r"int([234])-g(\d+)")

KV_FORMATS = ("fp32", "bf16", "fp16", "fp8", "int8", "int4")
ACTIVATION_FORMATS = ("fp32", "bf16", "fp16", "fp8", "int8")
_QUANTISED_ACTIVATIONS = ("fp8", "int8")


def scheme(name: str) -> Scheme:
    """The scheme called ``name``: one of :data:`SCHEMES` or ``int4-g64``. Raises :class:`SpecError` with the choices."""
    if not isinstance(name, str):
        name = ""
    if name in SCHEMES:
        return SCHEMES[name]
    found = _GROUPED.fullmatch(name)
    if found and int(found[2]) in GROUP_SIZES:
        return _integer(int(found[1]), int(found[2]))
    sizes = ", ".join(str(size) for size in GROUP_SIZES)
    raise SpecError(
        "weights_dtype",
        f"Choose one of {', '.join(SCHEMES)}, or int4-g64 and the like: int2, int3 or int4 in groups of {sizes}.",
    )


def kv_bits(name: str, vector: int) -> float:
    """Bits of one value of a key or value of ``vector`` values per head and token, scales included."""
    bits = 8 * DTYPE_BYTES[name]
    if name == "int8":
        return bits + KV_SCALE_BITS / vector
    return bits + (KV_SCALE_BITS + KV_ZERO_BITS) / vector if name == "int4" else bits


@dataclass(frozen=True)
class Precision:
    """The formats of a workload. ``weights``, ``cache``, ``activations`` are None where they are ``dtype``."""

    dtype: str
    weights: Scheme | None = None
    cache: str | None = None
    activations: str | None = None
    eager: bool = True

    @classmethod
    def of(cls, workload: Workload) -> Precision:
        """Raises :class:`SpecError` like :func:`check_formats`."""
        check_formats(workload)

        def other(name: str | None) -> str | None:
            return None if name in (None, workload.dtype) else name

        weights = other(workload.weights_dtype)
        return cls(
            dtype=workload.dtype,
            weights=scheme(weights) if weights else None,
            cache=other(workload.kv_dtype),
            activations=other(workload.activation_dtype),
            eager=workload.execution == "eager",
        )

    @property
    def plain(self) -> bool:
        """Is everything in ``dtype``?"""
        return not (self.weights or self.cache or self.activations)

    @property
    def base_bytes(self) -> float:
        return DTYPE_BYTES[self.dtype]

    @property
    def product_dtype(self) -> str:
        """Format in which the products of quantised layers run; "": in ``dtype``."""
        return self.activations or ""


def check_formats(workload: Workload) -> None:
    """Raise :class:`SpecError` at the first format of ``workload`` that does not exist or does not go with the others.

    8-bit activations need weights of the same format: the product has one format. Activations of 16 or 32 bits are ``dtype``.
    """
    if workload.weights_dtype is not None:
        scheme(workload.weights_dtype)
    for name, choices in (("activation_dtype", ACTIVATION_FORMATS), ("kv_dtype", KV_FORMATS)):
        if getattr(workload, name) not in (None, *choices):
            raise SpecError(name, f"Choose one of {', '.join(choices)}.")
    activations, weights = workload.activation_dtype, workload.weights_dtype or workload.dtype
    if activations in _QUANTISED_ACTIVATIONS and weights != activations:
        raise SpecError(
            "activation_dtype",
            f"{activations} activations need {activations} weights, with which they are multiplied; the weights are in {weights}.",
        )
    if activations in WORKLOAD_DTYPES and activations != workload.dtype:
        raise SpecError(
            "activation_dtype",
            f"Activations that are not quantised are in the data type of the workload ({workload.dtype}): choose {activations} there, "
            "and the format of the weights apart from it.",
        )


# --- what a format makes of an operator ---------------------------------------------------------------------------------


def reprecise(demand: AnyDemand, precision: Precision, base_bytes: float) -> AnyDemand:
    """``demand``, counted with ``base_bytes`` per value, with weights, activations and cache in the formats of ``precision``.

    ``demand`` must be marked (``profiling.quantised.mark_quantised``); the mark stays where a scheme was applied. Linear in its channels: only what is
    static decides.
    """
    if demand.quantised and precision.weights:
        if precision.activations:
            demand = _low_bit_product(demand, precision.weights, precision.activations, precision.eager, base_bytes)
        else:
            demand = _widened_weights(demand, precision.weights, precision.eager, base_bytes)
    elif demand.quantised:
        demand = replace(demand, quantised=False)
    if demand.cache_vector and precision.cache:
        demand = _reformatted_cache(demand, precision.cache, precision.eager, base_bytes)
    return demand


def _weights(demand: Demand, stored: Scheme, base_bytes: float) -> tuple[Any, Any]:
    """(bytes of the weights that a scheme applies to as they were, ``weight_read`` with them in it)."""
    wide = demand.weight_read * demand.quantised_share
    return wide, demand.weight_read - wide + stored.stored_bytes(wide / base_bytes, demand.in_features)


def _widened_weights(demand: AnyDemand, stored: Scheme, eager: bool, base_bytes: float) -> AnyDemand:
    """Stored weights are read and widened: in registers of the kernel (fused), or (eager) to a copy in memory that the product reads."""
    wide, read = _weights(demand, stored, base_bytes)
    demand = replace(
        demand,
        weight_read=read,
        elementwise_flops=demand.elementwise_flops + stored.operations * (wide / base_bytes),
    )
    return _with_copy(demand, wide) if eager else demand


def _with_copy(demand: AnyDemand, nbytes: Any) -> AnyDemand:
    return replace(demand, other_read=demand.other_read + nbytes, other_written=demand.other_written + nbytes)


def _low_bit_product(demand: AnyDemand, stored: Scheme, activations: str, eager: bool, base_bytes: float) -> AnyDemand:
    """Weights and inputs in one 8-bit format, the output in ``dtype``.

    Inputs are quantised token by token. Eager: by a kernel of its own, which reads them wide and writes them narrow; fused: by the
    operator that made them (whose write still counts in ``dtype``, as others may read it).
    """
    _, read = _weights(demand, stored, base_bytes)
    values = demand.other_read / base_bytes
    narrow = values * (8 * DTYPE_BYTES[activations] + ACTIVATION_SCALE_BITS / demand.in_features) / 8
    outputs = demand.flops / (2 * demand.in_features)  # also of those that never leave the chip
    return replace(
        demand,
        weight_read=read,
        other_read=narrow + demand.other_read if eager else narrow,
        other_written=demand.other_written + narrow if eager else demand.other_written,
        elementwise_flops=demand.elementwise_flops + QUANTISE_OPERATIONS * values + RESCALE_OPERATIONS * outputs,
        compute_dtype=activations,
    )


def _reformatted_cache(demand: AnyDemand, name: str, eager: bool, base_bytes: float) -> AnyDemand:
    """Keys and values in ``name``: quantised when they are added, widened by what computes with them (eager: to a copy in memory)."""
    ratio = kv_bits(name, demand.cache_vector) / 8 / base_bytes
    # Eager execution copies the whole cache to append to it, and only the new values are wide.
    new = demand.other_read if demand.appends and eager else demand.cache_written
    operations = QUANTISE_OPERATIONS * (new / base_bytes)
    wide = demand.cache_read
    if not demand.appends:
        operations = operations + (2 if name == "int4" else 1) * (wide / base_bytes)
    demand = replace(
        demand,
        cache_read=demand.cache_read * ratio,
        cache_written=demand.cache_written * ratio,
        elementwise_flops=demand.elementwise_flops + operations,
    )
    return demand if demand.appends or not eager else _with_copy(demand, wide)
