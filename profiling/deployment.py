"""What each device of a deployment holds and does: weights, cache, activations, work and communication per pipeline stage.

The device with the most of everything stands for its stage; the stage that needs the most memory decides whether a model fits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from profiling.build import Built, block_index
from profiling.execution import Work
from profiling.layouts import Marks
from profiling.parallel import Plan
from profiling.passes import Pass, Trace, trace
from profiling.quantities import say
from profiling.sharding import find_marks
from profiling.shares import (
    WeightShares,
    block_of,
    cache_shares,
    count_layers,
    divided_peak,
    layer_ranges,
    own_bytes,
    stage_index,
    stage_of,
)
from profiling.spec import SpecError, Workload
from profiling.tables import Evaluated

#: Largest tensor parallelism that a suggestion tries: more devices than share one fast interconnect help no further.
MOST_SUGGESTED = 64


@dataclass(frozen=True)
class Needs:
    """Bytes of a whole replica on one device: weights, cache at its largest, constant state, activations at their peak.

    ``widened``: of the largest copy that a device makes of what is stored in another format, its own share already.
    """

    weights: int
    kv_cache: int
    state: int
    activations: int
    widened: int = 0


@dataclass(frozen=True)
class Stage:
    """One device of a pipeline stage: the blocks ``first`` … ``last``, and bytes."""

    first: int
    last: int
    weights: int
    kv_cache: int
    state: int
    activations: int
    widened: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.state + self.activations + self.widened


@dataclass(frozen=True)
class Divided:
    """Passes of a model as devices divide them: ``traces`` by stage (prefill, decode, encode), what was found of each in ``marks``.

    ``form``: of latent attention (:class:`profiling.spec.Counting`). ``shown``: passes that show how weights are divided, so that
    it is the same for every workload; where there are none, ``traces`` do.
    """

    built: Built
    traces: Mapping[str, Trace]
    form: str = "executed"
    shown: Mapping[str, Trace] = field(default_factory=dict)

    @cached_property
    def marks(self) -> dict[str, Marks]:
        return {name: find_marks(trace, self.built, self.form) for name, trace in self.traces.items()}

    @cached_property
    def _shown(self) -> dict[str, Marks]:
        """What shows how weights are divided."""
        if not self.shown:
            return self.marks
        return {name: find_marks(trace, self.built, self.form) for name, trace in self.shown.items()}

    # -- what is possible --------------------------------------------------------------------------------------------

    def heads(self) -> int | None:
        """Attention heads: the most of any layer."""
        traces = self.shown or self.traces
        counts = [
            units
            for name, marks in self._shown.items()
            for index, how in marks.shardings.items()
            for call in (traces[name].calls[index],)
            if call.op_class == "attention" or call.name == "_softmax"
            for units, _ in how.parts.get("f", ())
        ]
        return max(counts, default=None)

    def experts(self) -> int:
        return max((how.experts for marks in self._shown.values() for how in marks.shardings.values()), default=0)

    def check(self, plan: Plan) -> list[dict[str, str]]:
        """Warnings about what does not divide evenly. Raises :class:`SpecError` at the field of a degree that is impossible."""
        if plan.single:
            return []
        heads, experts, layers = self.heads(), self.experts(), count_layers(self.built)
        if plan.tensor > 1 and not any(how.parts for marks in self._shown.values() for how in marks.shardings.values()):
            raise SpecError("tensor_parallel", "No layer of this model can be divided over devices: choose 1.")
        if heads is not None and plan.tensor > heads:
            raise SpecError(
                "tensor_parallel", f"This model has {heads} attention heads: at most {heads} devices can share a layer."
            )
        if plan.expert > 1 and not experts:
            raise SpecError("expert_parallel", "This model has no experts that could be spread over devices: choose 1.")
        if plan.expert > max(experts, 1):
            raise SpecError(
                "expert_parallel", f"This model has {experts} experts: at most {experts} devices can hold them."
            )
        if plan.pipeline > 1 and len(self.built.folds) != 1:
            why = "has an encoder and a decoder" if self.built.folds else "has no list of blocks"
            raise SpecError("pipeline_parallel", f"This model {why}: it is not divided into pipeline stages, choose 1.")
        if plan.pipeline > layers:
            raise SpecError(
                "pipeline_parallel", f"This model has {layers} layers: at most {layers} pipeline stages are possible."
            )
        return self._uneven(plan, experts, layers)

    def _uneven(self, plan: Plan, experts: int, layers: int) -> list[dict[str, str]]:
        found = []
        if plan.pipeline > 1 and layers % plan.pipeline:
            found.append(
                f"{layers} layers over {plan.pipeline} pipeline stages: the largest has {-(-layers // plan.pipeline)}"
            )
        if plan.expert > 1 and experts % plan.expert:
            found.append(
                f"{experts} experts over {plan.expert} devices: the largest share is {-(-experts // plan.expert)}"
            )
        for degree, routed in ((plan.tensor, False), (plan.inside_expert, True)):
            for units in sorted(self._units(routed)):
                if degree > units > 1:
                    found.append(f"{units} heads of keys and values over {degree} devices: some have the same")
                elif degree > 1 and units % degree:
                    found.append(f"{units} over {degree} devices: the largest share is {-(-units // degree)}")
        return [
            {
                "code": "uneven_split",
                "message": f"Not divided evenly: {text}. Figures are those of the device with the most.",
            }
            for text in found
        ]

    def _units(self, routed: bool) -> set[int]:
        """How many heads, columns or channels the weights are divided by."""
        return {
            units
            for marks in self._shown.values()
            for how in marks.weights.values()
            if how.routed == routed and how.name != "vocabulary"
            for units, size in how.parts.get("w", ())
            if units > 1 and size > 1
        }

    # -- memory ------------------------------------------------------------------------------------------------------

    def stages(self, plan: Plan, needs: Needs) -> list[Stage]:
        """What one device of each pipeline stage holds of ``needs``.

        Activations: the peak of the whole pass with every tensor at its share, so at most that in any single stage.
        """
        bounds = layer_ranges(count_layers(self.built), plan.pipeline)
        if plan.single:
            return [Stage(*bounds[0], needs.weights, needs.kv_cache, needs.state, needs.activations, needs.widened)]
        weights = self._weights(plan, bounds)
        scale = Fraction(needs.weights, self.built.weight_bytes) if self.built.weight_bytes else Fraction(1)
        trace, marks = self._longest()
        kv, state = (cache_shares(self.built, trace, marks, plan, bounds, states) for states in (False, True))
        activations = math.ceil(needs.activations * self._activations(plan))
        return [
            Stage(
                first,
                last,
                math.ceil(weights[i] * scale),
                math.ceil(needs.kv_cache * kv[i]),
                math.ceil(needs.state * state[i]),
                activations,
                needs.widened,
            )
            for i, (first, last) in enumerate(bounds)
        ]

    def _weights(self, plan: Plan, bounds: Sequence[tuple[int, int]]) -> list[Fraction]:
        shares = WeightShares(self.built, self._shown, plan)
        executed = self.after_blocks()
        found = [Fraction(0)] * len(bounds)
        owners: set[str] = set()
        for path, own in own_bytes(self.built).items():
            found[stage_of(self.built, path, bounds, executed)] += own * shares.of_module(path)
            owners.add(path)
        if len(bounds) > 1:
            # A head that shares the table of the embedding has a copy of it in the last stage.
            for info in self.built.modules:
                if info.leaf and info.parameters and info.path not in owners and info.path in executed:
                    found[-1] += info.weight_bytes * shares.of_copy(info.path, info.parameters)
        return found

    def after_blocks(self) -> set[str]:
        """Modules outside of the blocks that run after them."""
        found = set()
        for item in self.traces.values():
            inside = False
            for call in item.calls:
                if any(block_index(fold, call.path) is not None for fold in self.built.folds):
                    inside = True
                elif inside:
                    found.add(call.path)
        return found

    def _activations(self, plan: Plan) -> Fraction:
        """Peak of the activations on one device as a part of the peak on one alone: of the pass where that is largest."""
        peaks = {name: trace.recording.activation_peak for name, trace in self.traces.items()}
        highest = max(peaks, key=lambda name: peaks[name])
        if not peaks[highest]:
            return Fraction(1)
        # A front end is not divided, so beside a divided pass it may be the one that needs the most.
        names = [highest, *(name for name, trace in self.traces.items() if trace.spec.front_end and name != highest)]
        most = max(divided_peak(self.traces[name], self.marks[name], plan) for name in names)
        return Fraction(math.ceil(most), peaks[highest])

    def cache_share(self, plan: Plan) -> float:
        """Part of the whole cache, states included, that one device of each pipeline stage holds, of all stages together."""
        if plan.single:
            return 1.0
        trace, marks = self._longest()
        bounds = layer_ranges(count_layers(self.built), plan.pipeline)
        return float(sum(cache_shares(self.built, trace, marks, plan, bounds)))

    def _longest(self) -> tuple[Trace, Marks]:
        """The pass after which the cache is largest."""
        name = "decode" if "decode" in self.traces else next(iter(self.traces))
        return self.traces[name], self.marks[name]

    def suggestion(self, plan: Plan, needs: Needs, capacity: int) -> str:
        """The least tensor parallelism (a power of two that divides the heads) with which it fits, with pipeline stages if need be."""
        heads, layers = self.heads(), count_layers(self.built)
        last = "No number of devices that divides the attention heads, with a stage for each layer, makes it fit."
        stages = [2**n for n in range(11) if 2**n <= layers] if len(self.built.folds) == 1 else [1]
        degrees = [
            2**n for n in range(1, 11) if 2**n <= min(heads or 1024, MOST_SUGGESTED) and (heads or 2**n) % 2**n == 0
        ]
        if not degrees:
            degrees = [1]
        for pipeline in stages:
            for tensor in degrees if pipeline == 1 else degrees[-1:]:
                if tensor * pipeline <= plan.tensor * plan.pipeline:
                    continue
                tried = replace(plan, tensor=tensor, pipeline=pipeline, expert=1, layers=layers)
                most = max(stage.total for stage in self.stages(tried, needs))
                if most <= capacity:
                    how = f"tensor parallelism over {tensor}" + (
                        f" and {pipeline} pipeline stages" if pipeline > 1 else ""
                    )
                    return f"{tensor * pipeline} such devices hold it: with {how}, one needs at most {say(most, 'B')}."
        return last


# --- the document -------------------------------------------------------------------------------------------------------

COMMUNICATION_COLUMNS = ["stage", "collective", "group", "calls", "payload_bytes", "sent_bytes", "steps", "time_s"]


def parallelism(
    plan: Plan, divided: Divided, needs: Needs, items: Mapping[str, Evaluated], bandwidth: float | None
) -> dict[str, Any]:
    """The ``parallelism`` object of the run document. ``bandwidth``: bytes/s that a device sends."""
    bounds = layer_ranges(count_layers(divided.built), plan.pipeline)
    after = divided.after_blocks()
    per_stage = divided.stages(plan, needs)
    work = {name: _work_per_stage(divided.built, item.works, bounds, after) for name, item in items.items()}
    return {
        "tensor_parallel": plan.tensor,
        "pipeline_parallel": plan.pipeline,
        "expert_parallel": plan.expert,
        "data_parallel": plan.data,
        "devices": plan.devices,
        "tensor_parallel_inside_expert": plan.inside_expert if divided.experts() else None,
        "interconnect_bytes_per_s": bandwidth,
        "stages": [
            {
                "layers": [stage.first, stage.last],
                "weights_bytes": stage.weights,
                "kv_cache_bytes": stage.kv_cache,
                "state_bytes": stage.state,
                "activation_peak_bytes": stage.activations,
                "widened_bytes": stage.widened,
                "total_bytes": stage.total,
                "flops": {name: work[name][i][0] for name in items},
                "bytes": {name: work[name][i][1] for name in items},
            }
            for i, stage in enumerate(per_stage)
        ],
        "communication": {
            "columns": COMMUNICATION_COLUMNS,
            "rows": [row for name, item in items.items() for row in _communication(name, item.works, plan, bandwidth)],
        },
    }


def _work_per_stage(
    built: Built, works: Sequence[Work], bounds: Sequence[tuple[int, int]], after: set[str]
) -> list[tuple[float, float]]:
    """(FLOPs, bytes) of one device of each stage in one pass."""
    found = [[0.0, 0.0] for _ in bounds]
    in_block: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for work in works:
        block = block_of(built, work.call.path)
        if block is not None:
            sums = in_block[block]
            times = 1
        else:
            sums = found[stage_of(built, work.call.path, bounds, after)]
            times = work.times
        sums[0] += times * work.flops
        sums[1] += times * work.bytes_moved
    for fold in built.folds:
        for layer, kind in enumerate(fold.kinds):
            stage = found[stage_index(bounds, layer) if len(bounds) > 1 else 0]
            for i, amount in enumerate(in_block.get((fold.path, kind), (0.0, 0.0))):
                stage[i] += amount
    return [(flops, moved) for flops, moved in found]


def _communication(stage: str, works: Sequence[Work], plan: Plan, bandwidth: float | None) -> list[list[Any]]:
    """One row per collective of a pass: ``calls`` and bytes of all of them, ``steps`` of one."""
    moves = {
        "all_reduce": (plan.tensor, 2 * (plan.tensor - 1) / plan.tensor, 2 * (plan.tensor - 1)),
        "all_gather": (plan.tensor, (plan.tensor - 1) / plan.tensor, plan.tensor - 1),
        "all_to_all": (plan.expert, (plan.expert - 1) / plan.expert, plan.expert - 1),
        "p2p": (2, 1.0, 1),
    }
    rows = []
    for name, (group, factor, steps) in moves.items():
        mine = [work for work in works if work.collective == name]
        if not mine:
            continue
        sent = sum(work.times * work.network for work in mine)
        often = Fraction(plan.pipeline - 1, plan.layers) if name == "p2p" else Fraction(1)
        calls = sum(work.times for work in mine) * often
        seconds = sent / bandwidth if bandwidth else None
        rows.append([stage, name, group, int(calls), round(sent / factor), round(sent), steps, seconds])
    return rows


def plan_of(workload: Workload, built: Built) -> Plan:
    """The plan of a workload for a model."""
    return Plan.of(workload, count_layers(built))


def shortest(built: Built) -> dict[str, Trace]:
    """Short passes of every stage that a model has: how its weights are divided depends on no workload."""
    if built.kind in ("encoder", "vision"):
        return {"encode": trace(built, Pass("encode", 1, 2, 0, 2))}
    found = {"prefill": trace(built, Pass("prefill", 1, 2, 0, 2))}
    try:
        return found | {"decode": trace(built, Pass("decode", 1, 1, 2, 2))}
    except SpecError:  # it cannot decode, and an estimate says so where it is asked to
        return found
