"""What an operator asks of a device: operations, and bytes by what they belong to. Standard library only.

The channels are kept apart because options act on them differently: quantised weights shrink ``weight_read``, a smaller format
of the cache ``cache_read`` and ``cache_written``, parallelism divides some of them by the number of devices. All of these
are linear, so the same functions serve one operator (numbers) and a closed form of many points (arrays of coefficients).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

#: The channels of a :class:`Demand`, in the order in which closed forms store them.
CHANNELS = (
    "flops",
    "elementwise_flops",
    "weight_read",
    "cache_read",
    "other_read",
    "cache_written",
    "other_written",
    "network",
    "rows",
)

#: Facts of a :class:`Demand` that are the same whatever the batch and the lengths.
STATIC = (
    "op_class",
    "collective",
    "quantised",
    "quantised_share",
    "in_features",
    "compute_dtype",
    "cache_vector",
    "appends",
    "sharding",
    "inner",
)


@dataclass(frozen=True, slots=True)
class Routing:
    """Experts of a mixture: each of ``tokens`` tokens is sent to ``top_k`` of ``experts``."""

    experts: int
    top_k: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One operator on one device. FLOPs (one multiply-add is 2), operations, bytes.

    ``weight_read``: bytes of parameters; ``cache_read`` and ``cache_written``: of keys, values and states; ``other_…``: of
    activations, inputs and buffers. ``rows``: of the left matrix of a product, queries of attention, else 0.
    ``network``: bytes that a device contributes to ``collective`` (``all_reduce``, ``all_gather``, ``all_to_all``, ``p2p``) right
    after the operator; nothing is sent where it runs on one device.
    ``quantised``: whether a quantisation scheme applies to its weights (``profiling.precision``): to ``quantised_share`` of
    ``weight_read`` (a bias stays as it is), along rows of ``in_features`` weights. ``compute_dtype``: format of its product where
    that is not the workload's. ``cache_vector``: values of a token's key or value in one head, where its cache traffic is of keys and
    values; 0 for states. ``appends``: it only adds new tokens to that cache. ``sharding``: how tensor and expert
    parallelism divide it (``profiling.parallel``); "" is computed in full on every device. ``inner``: weights that one result of a
    product adds up (the row length of a linear layer's matrix); 0 where none of its inputs are weights. ``routed_share``: rows that a device
    computes, by those that ``routing`` sends to experts. ``spread``: see :func:`spread_of`.
    """

    op_class: str
    flops: Any
    elementwise_flops: Any
    weight_read: Any
    cache_read: Any
    other_read: Any
    cache_written: Any
    other_written: Any
    rows: Any
    network: Any = 0
    routing: Routing | None = None
    collective: str = ""
    quantised: bool = False
    quantised_share: float = 1.0
    in_features: int = 0
    compute_dtype: str = ""
    cache_vector: int = 0
    appends: bool = False
    sharding: str = ""
    inner: int = 0
    routed_share: float = 1.0
    spread: Routing | None = None

    @property
    def bytes_read(self) -> Any:
        return self.weight_read + self.cache_read + self.other_read

    @property
    def bytes_written(self) -> Any:
        return self.cache_written + self.other_written

    @property
    def bytes_moved(self) -> Any:
        return self.bytes_read + self.bytes_written

    @property
    def weight_bytes(self) -> Any:
        return self.weight_read


def weights_in_product(routing: Routing | None, flops: float, rows: float, share: float = 1.0) -> int:
    """Elements of the matrix of weights in a product of ``flops`` (2 for each of them and row); where there is a ``routing``, those of one
    expert: each of its tokens is a row of ``top_k`` of them, and a device has the part ``share`` of those rows."""
    rows = routing.tokens * routing.top_k * share if routing else rows
    return round(flops / (2 * rows)) if rows else 0


def experts_touched(experts: int, top_k: float, tokens: float) -> float:
    """Expected number of experts that at least one of ``tokens`` uses, under uniform routing: E·(1 − (1 − k/E)^tokens)."""
    return experts * (1.0 - (1.0 - min(1.0, top_k / experts)) ** tokens)


def experts_read(routing: Routing, convention: str) -> float:
    """How many experts' weights one step reads.

    ``uniform``: expected under uniform routing; ``topk``: every token chooses the same experts; ``all``: every expert is chosen.
    """
    if convention == "all":
        return routing.experts
    if convention == "topk":
        return min(routing.experts, routing.top_k)
    return experts_touched(routing.experts, routing.top_k, routing.tokens)


def expert_share(routing: Routing, convention: str) -> float:
    """Part (0–1) of the experts' weights that one step reads (:func:`experts_read`)."""
    return experts_read(routing, convention) / routing.experts


def rows_of_expert(routing: Routing, convention: str) -> float:
    """Rows of the left matrix for each expert that is read, on average: the fewer are read, the more of the rows each of them has. At
    least one, or it would not be read."""
    read = experts_read(routing, convention)
    # The experts of one token are k but for rounding: 8/7.999999999999998 is one row.
    return max(1.0, round(routing.tokens * routing.top_k / read, 9)) if read and routing.tokens else 0.0


def spread_of(routing: Routing | None, convention: str, replicas: int = 1) -> Routing | None:
    """How tokens spread over the experts where some have more of them than others; None where all that are read have as many.

    Tokens of ``replicas`` meet at the experts.
    """
    if routing is None or convention != "uniform":
        return None
    return replace(routing, tokens=routing.tokens * replicas)


def visible_pairs(queries: int, keys: int, *, halved: bool, window: int | None = None, chunk: int | None = None) -> int:
    """Query-key pairs of one sequence and head of causal attention, the queries being the last of ``keys`` positions.

    ``halved``: a query sees the keys up to its own position. ``window``: and at most so many of them. ``chunk``: and only those of
    its own chunk of so many tokens; where some keys are cached, the place of a query in its chunk is unknown, and the chunk counts
    as a window, which is at least as much.
    """
    if chunk and halved and keys == queries:
        return queries // chunk * (chunk * (chunk + 1) // 2) + (queries % chunk) * (queries % chunk + 1) // 2
    window = min((w for w in (window, chunk) if w), default=None)
    if not halved:
        return queries * (min(keys, window) if window else keys)
    before = keys - queries
    if not window:
        return queries * keys - queries * (queries - 1) // 2
    growing = min(max(window - before, 0), queries)  # queries that the window does not limit yet
    return growing * before + growing * (growing + 1) // 2 + (queries - growing) * window


def pairs_within(queries: int, keys: int, distance: int) -> int:
    """Query-key pairs of one sequence and head that are at most ``distance`` tokens apart, the queries being as many as the keys.

    Where they are not as many, every query has the 2·``distance`` + 1 keys around it, or all.
    """
    if queries != keys:
        return queries * min(keys, 2 * distance + 1)
    near = min(distance, keys - 1)
    return keys * (2 * near + 1) - near * (near + 1)
