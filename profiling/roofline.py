"""From counts to time: ceilings of a device, and the roofline model over them. Pure functions, standard library only.

Time of one operator = max(FLOPs / peak, bytes / bandwidth) + overhead, on an accelerator see :mod:`profiling.launching`. Two levels of ceilings: ``datasheet`` (an
optimistic bound: nothing runs faster) and ``measured`` (rates timed on one host, ``HardwareSpec.ceilings``), where products
of one row, of few rows, attention and copies have rates of their own, those of products by the size of their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiling.ceiling_rows import (
    PEAK_UNITS,
    Surface,
    contended_among,
    least_of,
    measured_bandwidth,
    measured_peak,
    measured_rate,
    rate_of,
    shapes_left_out,
    sized_rates,
    skinny,
)
from profiling.demand import Routing
from profiling.product_rates import peak_of_experts, peak_of_rows
from profiling.spec import DTYPE_BYTES, HardwareSpec

#: Which rate stands in, in this order, when a device has none for a format. Never silently: a warning names it. Every step is to a
#: format that holds the values of the one before it (8-bit integers are exact in bf16, whose products are added up in fp32).
LADDER: dict[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "fp32"),
    "fp16": ("fp16", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
    "int4": ("int4", "int8", "bf16", "fp16", "fp32"),
}

#: A matrix product of at most this many rows streams its weights: the matrix-vector bandwidth applies to it.
SKINNY_ROWS = 8


@dataclass(frozen=True)
class Ceilings:
    """Rates of a device for one workload. ``None``: unknown. FLOP/s, bytes/s, seconds.

    ``peak_dtype`` is the format whose rate is used, which differs from ``dtype`` when the ladder was climbed.
    ``peak_flops`` and ``bandwidth`` are the roof: the highest rates that any kernel reached (``bandwidth_from`` names it). Where
    kernels were timed, each kind of operator has its own: ``product`` is the rate of large matrix products, ``skinny`` (rows,
    FLOP/s) that of products with few rows, fewest first, ``attention`` that of an attention kernel, softmax included, ``vector``
    that of element-wise arithmetic (fp32 units); ``stream`` is the bandwidth of skinny products, ``copy`` that of all else.
    ``sized``: rates of products with weights by rows of the left matrix (1: bytes/s, more: FLOP/s), each by the shape of the weights; they
    take the place of ``stream`` and ``skinny`` where they were timed.
    ``quantised``: the ceilings of products in the format of quantised layers, where that is not ``dtype``.
    ``overhead_s``: of calling an operator; ``ahead``: the host calls while an accelerator still works on what came before.
    ``interconnect``: bytes/s that a device sends to others; ``linked``: whether the devices of the workload depend on each other.
    """

    level: str
    dtype: str
    peak_dtype: str | None
    peak_flops: float | None
    bandwidth: float | None
    vector: float | None = None
    stream: float | None = None
    attention: float | None = None
    product: float | None = None
    copy: float | None = None
    skinny: tuple[tuple[int, float], ...] = ()
    sized: tuple[tuple[int, Surface], ...] = ()
    bandwidth_from: str | None = None
    overhead_s: float = 0.0
    ahead: bool = False
    interconnect: float | None = None
    linked: bool = False
    quantised: Ceilings | None = None

    @property
    def low_peak(self) -> float | None:
        """FLOP/s (or OP/s) of products in the format of quantised layers."""
        return self.quantised.peak_flops if self.quantised else self.peak_flops

    @property
    def known(self) -> bool:
        """Can times be computed at all?"""
        return bool(self.peak_flops and self.bandwidth and (self.interconnect or not self.linked))

    def roof(self) -> tuple[float, float]:
        """(FLOP/s, bytes/s); raises :class:`ValueError` where one is unknown: ask ``known`` first."""
        if not self.peak_flops or not self.bandwidth:
            raise ValueError("the peak or the bandwidth is unknown")
        return self.peak_flops, self.bandwidth

    @property
    def shapes(self) -> tuple[float, float, int, int] | None:
        """Weights that products were timed with, where several shapes were: fewest and most elements, shortest and longest rows of them."""
        if not self.sized:
            return None
        surfaces = [surface for _, surface in self.sized]
        sizes = [elements for surface in surfaces for _, curve in surface for elements, _ in curve]
        inner = [inner for surface in surfaces for inner, _ in surface]
        return min(sizes), max(sizes), min(inner), max(inner)

    def least_timed(self, rows: float) -> tuple[float, int]:
        """(elements, length of the sums) of the smallest matrices whose rates decide over products with so many rows: of that many, or of
        the next fewer and the next more. 0 where none was timed with several shapes."""
        counts = [count for count, _ in self.sized if (count > 1) == (rows > 1)]
        nearest = {max((c for c in counts if c <= rows), default=0), min((c for c in counts if c >= rows), default=0)}
        found = [least_of(surface) for count, surface in self.sized if count in nearest]
        return max((few for few, _ in found), default=0.0), max((short for _, short in found), default=0)

    @property
    def ridge(self) -> float | None:
        """Intensity (FLOP/B) above which the peak limits, below which the bandwidth does."""
        return self.peak_flops / self.bandwidth if self.peak_flops and self.bandwidth else None


@dataclass(frozen=True, slots=True)
class Load:
    """What one operator asks of the device; ``rows`` of the left matrix for matrix products, else 0.

    ``network``: bytes sent. ``compute_dtype``: format of the product; "": that of the workload. ``weights``: elements of the matrix of
    weights in a product (of one expert, where it has several), ``inner``: how many of them one result adds up; 0 where none of its inputs
    are weights. ``spread``: how tokens spread over experts whose weights it multiplies, where they are not as many for each; ``narrow``: its
    weights are stored in fewer bytes than the format of the workload has.
    """

    op_class: str
    flops: float
    elementwise_flops: float
    bytes_moved: float
    rows: float = 0
    network: float = 0.0
    compute_dtype: str = ""
    weights: float = 0.0
    inner: int = 0
    spread: Routing | None = None
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one operator: under each roof, and in all; ``bound`` is what decides. What it sends does not overlap with it.

    ``streams``: a product that was timed with few rows, whose FLOP/s are those of its weights coming out of memory: its time under the
    peak is no arithmetic, where its intensity lies left of the ridge.
    """

    compute_s: float
    memory_s: float
    overhead_s: float
    network_s: float = 0.0
    streams: bool = False

    @property
    def time_s(self) -> float:
        return max(self.compute_s, self.memory_s) + self.overhead_s + self.network_s

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by what they go to; they add up to ``time_s``. What is under a roof goes to that roof alone."""
        return {self._roof: max(self.compute_s, self.memory_s), "overhead": self.overhead_s, "network": self.network_s}

    @property
    def _roof(self) -> str:
        return "compute" if self.compute_s > self.memory_s and not self.streams else "memory"

    @property
    def bound(self) -> str:
        """The largest of :attr:`parts`."""
        roof = max(self.compute_s, self.memory_s)
        if self.network_s > max(roof, self.overhead_s):
            return "network"
        if self.overhead_s > roof:
            return "overhead"
        return self._roof


def ceilings(
    hardware: HardwareSpec, dtype: str, level: str | None = None, threads: int | None = None, products: str = ""
) -> tuple[Ceilings, list[dict[str, str]]]:
    """The ceilings of ``hardware`` for ``dtype`` and the warnings that go with them.

    ``level`` None takes measured ceilings where the hardware has them, else the datasheet. ``products``: format in which the products of
    quantised layers run, where that is another one.
    """
    if level is None:
        level = "measured" if hardware.ceilings else "datasheet"

    def of(name: str) -> tuple[Ceilings, list[dict[str, str]]]:
        return _measured(hardware, name, threads) if level == "measured" else _datasheet(hardware, name)

    limits, warnings = of(dtype)
    if products and products != dtype:
        low, more = of(products)
        limits = replace(limits, quantised=low)
        warnings += [warning for warning in more if warning not in warnings]
    return limits, warnings


def _fallback(hardware: HardwareSpec, dtype: str, used: str, source: str) -> dict[str, str]:
    """The warning that names the steps from ``dtype`` down to the rate that is ``used``."""
    steps = LADDER[dtype][: LADDER[dtype].index(used) + 1]
    way = f" ({' → '.join(steps)})" if len(steps) > 2 else ""
    return _warning(
        "dtype_fallback",
        f"{hardware.name} has no {source} {dtype} rate: products in {dtype} are timed at its {used} rate{way}, "
        f"as if {dtype} values were widened for the arithmetic.",
    )


def _datasheet(hardware: HardwareSpec, dtype: str) -> tuple[Ceilings, list[dict[str, str]]]:
    warnings = []
    peaks = hardware.peak_flops
    used = next((name for name in LADDER[dtype] if peaks.get(name)), None)
    if used is None:
        warnings.append(
            _warning(
                "peak_unknown",
                f"{hardware.name} has no known {' or '.join(LADDER[dtype])} rate, so no time can be estimated. "
                "Add the rate to the hardware entry.",
            )
        )
    elif used != dtype:
        warnings.append(_fallback(hardware, dtype, used, "known"))
    if not hardware.memory_bandwidth:
        warnings.append(
            _warning(
                "bandwidth_unknown",
                f"The memory bandwidth of {hardware.name} is unknown, so no time can be estimated. "
                "Add it to the hardware entry.",
            )
        )
    for name in ("memory_bandwidth", f"peak_flops.{used}"):
        if hardware.confidence.get(name) == "unconfirmed":
            warnings.append(
                _warning("unconfirmed_figure", f"The {name} of {hardware.name} is not confirmed by a second source.")
            )
    return (
        Ceilings(
            level="datasheet",
            dtype=dtype,
            peak_dtype=used,
            peak_flops=peaks.get(used) if used else None,
            bandwidth=hardware.memory_bandwidth,
            vector=peaks.get("fp32"),
            bandwidth_from="datasheet",
        ),
        warnings,
    )


def _measured(hardware: HardwareSpec, dtype: str, threads: int | None) -> tuple[Ceilings, list[dict[str, str]]]:
    warnings = []

    def rate(op_class: str, unit: str, name: str | None) -> float | None:
        return measured_rate(hardware, op_class, PEAK_UNITS if unit == "FLOP/s" else (unit,), name, threads)

    used = next((name for name in LADDER[dtype] if rate("gemm", "FLOP/s", name)), None)
    copy = rate("copy", "B/s", dtype) or rate("copy", "B/s", None)
    stream = rate("gemv", "B/s", dtype)
    bandwidth, bandwidth_from = measured_bandwidth(hardware, dtype, threads)
    if used is None:
        warnings.append(
            _warning("peak_unknown", f"No matrix-product rate for {dtype} was measured on {hardware.name}.")
        )
    elif used != dtype:
        warnings.append(_fallback(hardware, dtype, used, "measured"))
    if bandwidth is None:
        warnings.append(_warning("bandwidth_unknown", f"No copy bandwidth was measured on {hardware.name}."))
    sized = sized_rates(hardware, dtype, used, threads)
    stand_on = [
        ("gemm", used, rate("gemm", "FLOP/s", used) if used else None),
        ("copy", "", copy),
        ("gemv", dtype, stream),
    ]
    if shaky := contended_among(hardware.ceilings, stand_on):
        message = (
            f"Ceilings of {hardware.name} that its processes did not agree on, or that were measured beside other work: "
            f"{', '.join(shaky)}. The machine may be faster than these times say. Measure its ceilings again while it is idle."
        )
        warnings.append(_warning("ceilings_contended", message))
    missing, timed = shapes_left_out(hardware, dtype, used, threads)
    if missing:
        message = (
            f"{missing} of {timed} rates of {dtype} products by the shape of their weights were not accepted on {hardware.name} and are "
            "left out: the nearest accepted shape, or the largest matrix, stands for them. Measure its ceilings again while it is idle."
        )
        warnings.append(_warning("shapes_not_accepted", message))
    overhead = [
        float(r["value"])
        for r in hardware.ceilings
        if r.get("op_class") == "overhead" and r.get("value") and r.get("unit") == "s"
    ]
    return (
        Ceilings(
            level="measured",
            dtype=dtype,
            peak_dtype=used,
            peak_flops=measured_peak(hardware, used, threads) if used else None,
            bandwidth=bandwidth,
            vector=rate("elementwise", "FLOP/s", None),
            stream=stream,
            attention=rate("attention", "FLOP/s", used) if used else None,
            product=rate("gemm", "FLOP/s", used) if used else None,
            copy=copy,
            skinny=skinny(hardware, used, threads) if used else (),
            sized=sized,
            bandwidth_from=bandwidth_from,
            overhead_s=min(overhead, default=0.0),
            ahead=hardware.kind != "cpu" and not any(r.get("threads") for r in hardware.ceilings),
        ),
        warnings,
    )


def _warning(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def rates(load: Load, limits: Ceilings) -> tuple[float, float]:
    """(FLOP/s, bytes/s) that hold for an operator; the ceilings must be known."""
    if load.compute_dtype and limits.quantised is not None and limits.quantised.known:
        # The format decides the rate of the arithmetic; bytes come at the same rate whatever they mean.
        plain = replace(load, compute_dtype="")
        return rates(plain, limits.quantised)[0], rates(plain, limits)[1]
    peak, bandwidth = limits.roof()
    bandwidth = limits.copy or bandwidth
    if _in_attention_kernel(load, limits):
        peak = limits.attention or peak
    if load.op_class in ("matmul", "experts"):
        few, stream = _of_shape(load.weights, load.inner, limits)
        large = limits.product or peak
        if load.spread is None:
            peak = peak_of_rows(load.rows, large, few)
        else:
            single = None if load.narrow else 2 * (stream or bandwidth) / DTYPE_BYTES[limits.dtype]
            peak = peak_of_experts(load.spread, large, few, single)
        if stream and 0 < load.rows <= SKINNY_ROWS:
            bandwidth = stream
    return peak, bandwidth


def _of_shape(weights: float, inner: int, limits: Ceilings) -> tuple[Sequence[tuple[int, float]], float | None]:
    """((rows, FLOP/s) of products with few rows, bytes/s of one with a single row) for a matrix of so many ``weights``, of which one result
    adds up ``inner``; 0: no weights, for which the rates of the largest matrix hold."""
    if not weights or not limits.sized:
        return limits.skinny, limits.stream
    found = {rows: rate_of(surface, weights, inner) for rows, surface in limits.sized}
    stream = found.pop(1, None) or limits.stream
    return sorted((dict(limits.skinny) | found).items()), stream


def _in_attention_kernel(load: Load, limits: Ceilings) -> bool:
    return load.op_class == "attention" and bool(limits.attention) and load.rows > SKINNY_ROWS


def timing(load: Load, limits: Ceilings) -> Timing:
    """Time of one operator under ``limits`` (which must be known). What asks for nothing takes nothing."""
    network = load.network / limits.interconnect if load.network and limits.interconnect else 0.0
    if not (load.flops or load.elementwise_flops or load.bytes_moved):
        return Timing(0.0, 0.0, 0.0, network)
    peak, bandwidth = rates(load, limits)
    # What an attention kernel was timed at contains its softmax.
    apart = not _in_attention_kernel(load, limits)
    vector = load.elementwise_flops / limits.vector if apart and limits.vector else 0.0
    roofs = ridge_roofs(load, peak, limits)
    streams = roofs is not None and load.flops / roofs[0] < load.bytes_moved / roofs[1]
    return Timing(load.flops / peak + vector, load.bytes_moved / bandwidth, limits.overhead_s, network, streams)


def ridge_roofs(load: Load, peak: float, limits: Ceilings) -> tuple[float, float] | None:
    """The roofs (FLOP/s, bytes/s) whose ridge says what a product waits for that runs at ``peak`` FLOP/s for its few rows; None for all others."""
    low = limits.quantised if load.compute_dtype and limits.quantised and limits.quantised.known else limits
    roof = low.roof()[0]
    if load.op_class not in ("matmul", "experts") or peak >= (low.product or roof):
        return None
    return roof, limits.roof()[1]
