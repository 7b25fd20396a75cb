"""Several devices: how the degrees of parallelism divide what an operator asks for. Pure arithmetic, standard library only.

Conventions, those of Megatron-LM (arXiv 1909.08053, 2104.04473) and vLLM: ``tensor_parallel`` devices share every layer,
``pipeline_parallel`` groups of them hold the layers in stages, ``data_parallel`` replicas of all that each serve a part of the batch.
``expert_parallel`` takes no devices of its own: it spreads the experts over the devices of a replica first and then over those of
other replicas, so it divides tensor_parallel or is a multiple of it, up to tensor_parallel · data_parallel.

What an operator asks for is divided by factors that depend on its static :class:`Sharding` and the plan alone, so :func:`shard` holds
for one operator as for arrays of coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

from profiling.demand import Demand, Routing, expert_share
from profiling.spec import HardwareSpec, SpecError, Workload

AnyDemand = TypeVar("AnyDemand", bound=Demand)

#: ((units, size of each), …): what is divided, in units that stay in one piece (heads, columns, experts).
Parts = tuple[tuple[int, int], ...]

#: Channels of a demand by the letter under which a sharding names them.
_CHANNELS = {
    "flops": "f",
    "elementwise_flops": "e",
    "weight_read": "w",
    "other_read": "a",
    "other_written": "o",
    "cache_read": "c",
    "cache_written": "c",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Degrees of parallelism. ``layers``: of the model, over which transfers between pipeline stages are averaged.

    ``routing``: the convention for expert weights read in one step (:func:`profiling.demand.expert_share`).
    """

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1
    layers: int = 1
    routing: str = "uniform"

    @classmethod
    def of(cls, workload: Workload, layers: int | None = None) -> Plan:
        """Raises :class:`SpecError` for degrees that do not go together, whatever the model."""
        plan = cls(
            tensor=workload.tensor_parallel,
            pipeline=workload.pipeline_parallel,
            expert=workload.expert_parallel,
            data=workload.data_parallel,
            layers=layers or 1,
            routing=workload.experts,
        )
        if plan.data > workload.batch_size:
            raise SpecError(
                "data_parallel",
                f"A batch of {workload.batch_size} has no work for {plan.data} replicas: at most {workload.batch_size}.",
            )
        whole = plan.tensor * plan.data
        if whole % plan.expert or (plan.expert % plan.tensor and plan.tensor % plan.expert):
            # A multiple of the tensor degree that divides all devices, or a divisor of it.
            possible = sorted({*_divisors(plan.tensor), *(plan.tensor * n for n in _divisors(plan.data))})
            raise SpecError(
                "expert_parallel",
                f"Experts are spread over the {whole} devices of tensor and data parallelism, first over those of one replica: "
                f"choose {_listed(possible)}.",
            )
        return plan

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def single(self) -> bool:
        return self.devices == 1

    @property
    def communicates(self) -> bool:
        """Do devices depend on each other? Replicas with experts of their own do not."""
        return self.tensor * self.pipeline * self.expert > 1

    @property
    def local(self) -> int:
        """Devices of one replica over which the experts are spread."""
        return math.gcd(self.tensor, self.expert)

    @property
    def inside_expert(self) -> int:
        """Devices that share each expert: what tensor parallelism has left."""
        return self.tensor // self.local

    @property
    def gathered(self) -> int:
        """Replicas whose tokens meet at the same experts."""
        return self.expert // self.local

    def batch(self, batch_size: int) -> int:
        """Sequences of the replica with the most."""
        return -(-batch_size // self.data)


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{', '.join(map(str, values[:-1]))} or {values[-1]}"


# --- what is divided ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sharding:
    """How one operator is divided. ``name``: ``column``, ``row``, ``divided``, ``vocabulary`` or ``whole``.

    ``parts``: by letter of a channel (f FLOPs, e element-wise operations, w weights, a activations read, o written, c cache) what is
    divided; a channel without is the same on every device. ``routed``: it works on rows of experts: expert parallelism divides the
    rows, tensor parallelism only what is left of it. ``experts``: how many the weights belong to, 0 for others.
    """

    name: str
    parts: Mapping[str, Parts] = field(default_factory=dict)
    routed: bool = False
    experts: int = 0

    def text(self) -> str:
        """The sharding as one word list, for :attr:`Demand.sharding`: ``column f=64x128 w=64x128 o=64x128``."""
        words = [self.name]
        words += [f"{key}={'+'.join(f'{u}x{s}' for u, s in parts)}" for key, parts in self.parts.items()]
        words += ["routed"] if self.routed else []
        words += [f"experts={self.experts}"] if self.experts else []
        return " ".join(words)

    def share(self, letter: str, plan: Plan) -> Fraction:
        """Part (0–1) of a channel that the device with the most has."""
        parts = self.parts.get(letter)
        if self.routed:
            inside = largest_share(parts, plan.inside_expert)
            if letter == "w":
                return inside * largest_share(((self.experts, 1),), plan.expert) if self.experts else inside
            return inside / plan.local
        return largest_share(parts, plan.tensor)


@lru_cache(maxsize=4096)
def parse(text: str) -> Sharding:
    """The inverse of :meth:`Sharding.text`; "" is an operator that every device computes in full."""
    name, *words = text.split() or ["whole"]
    parts: dict[str, Parts] = {}
    routed, experts = False, 0
    for word in words:
        key, _, value = word.partition("=")
        if key == "routed":
            routed = True
        elif key == "experts":
            experts = int(value)
        else:
            pairs = (item.split("x") for item in value.split("+"))
            parts[key] = tuple((int(units), int(size)) for units, size in pairs)
    return Sharding(name, parts, routed, experts)


def largest_share(parts: Parts | None, devices: int) -> Fraction:
    """Part of a whole that the device with the most of it has: ⌈units/devices⌉ units, so one where there are fewer than devices."""
    if not parts or devices == 1:
        return Fraction(1)
    most = sum(-(-units // devices) * size for units, size in parts)
    return Fraction(most, sum(units * size for units, size in parts))


def shard(demand: AnyDemand, plan: Plan) -> AnyDemand:
    """What the device with the most asks for. ``demand`` is marked (:func:`profiling.sharding.mark_sharding`) and of one replica.

    ``network`` becomes the bytes that the device sends (:func:`sent`), ``collective`` the primitive that sends them. Linear in all
    channels; only the expert weights read depend on the tokens of the routing as well, where replicas share experts.
    """
    if plan.single:
        return replace(demand, network=0 * demand.network, collective="")
    how = parse(demand.sharding)
    changes: dict[str, Any] = {}
    for channel, letter in _CHANNELS.items():
        share = how.share(letter, plan)
        if share != 1:
            changes[channel] = getattr(demand, channel) * float(share)
    if how.name == "row" and demand.inner:
        # Each device adds up its part of a sum.
        part = largest_share(how.parts.get("f"), plan.inside_expert if how.routed else plan.tensor)
        changes["inner"] = max(1, round(demand.inner * part))
    if how.routed:
        changes["routed_share"] = 1 / plan.local
    if demand.routing is not None and plan.gathered > 1:
        more = _more_experts(demand.routing, plan)
        changes["weight_read"] = changes.get("weight_read", demand.weight_read) * more
        changes["rows"] = demand.rows * (plan.gathered / more)
        changes["spread"] = demand.spread and replace(demand.spread, tokens=demand.spread.tokens * plan.gathered)
    move = sent(demand.collective, plan)
    return replace(demand, **changes, network=demand.network * move.factor, collective=move.primitive)


def _more_experts(routing: Routing, plan: Plan) -> float:
    """By how much more of the experts' weights is read when the tokens of several replicas meet."""
    met = replace(routing, tokens=routing.tokens * plan.gathered)
    alone = expert_share(routing, plan.routing)
    return expert_share(met, plan.routing) / alone if alone else 1.0


# --- what is sent -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Move:
    """A collective under a plan: ``primitive`` ("" where nothing is sent), ``factor``: bytes that a device sends per byte of the
    operator's payload, ``group``: devices that take part, ``steps``: messages one after the other, ``calls``: per operator."""

    primitive: str
    factor: float
    group: int
    steps: int
    calls: Fraction = Fraction(1)


_NOTHING = Move("", 0.0, 1, 0)


def sent(collective: str, plan: Plan) -> Move:
    """What a marked collective becomes.

    Ring algorithms (Patarasu & Yuan 2009, as NCCL runs them): an all-reduce sends 2·(t−1)/t of its payload in 2·(t−1) steps, an
    all-gather (t−1)/t in t−1. ``dispatch`` and ``combine`` of routed rows are all-to-alls: each device sends its own tokens' rows,
    (e−1)/e of them to others. ``expert_reduce`` adds up what the experts made of a token: an all-reduce, or an all-gather where no two
    devices share an expert and each has finished its own tokens. ``p2p``: one block in layers/(pp−1) hands its output to a next stage.
    """
    t, e = plan.tensor, plan.expert
    if collective == "expert_reduce":
        collective = "all_gather" if e > 1 and plan.inside_expert == 1 else "all_reduce"
    if collective == "all_reduce" and t > 1:
        return Move("all_reduce", 2 * (t - 1) / t, t, 2 * (t - 1))
    if collective == "all_gather" and t > 1:
        return Move("all_gather", (t - 1) / t, t, t - 1)
    if collective in ("dispatch", "combine") and e > 1:
        return Move("all_to_all", (e - 1) / e / plan.local, e, e - 1)
    if collective == "p2p" and plan.pipeline > 1:
        often = Fraction(plan.pipeline - 1, plan.layers)
        return Move("p2p", float(often), 2, 1, often)
    return _NOTHING


#: What every marked collective is called where it is listed.
COLLECTIVES = ("all_reduce", "all_gather", "dispatch", "combine", "expert_reduce", "p2p")


def link(hardware: HardwareSpec, plan: Plan) -> tuple[float | None, list[dict[str, str]]]:
    """(bytes/s that a device sends to others, warnings). Vendors quote the sum of both directions, so half of it."""
    if not plan.communicates:
        return None, []
    if not hardware.interconnect_bandwidth:
        message = (
            f"The interconnect of {hardware.name} is unknown, so no time of {plan.devices} devices can be estimated: "
            "bytes sent are given. Add its bandwidth to the hardware entry."
        )
        return None, [{"code": "interconnect_unknown", "message": message}]
    return hardware.interconnect_bandwidth / 2, []
