"""What the options of a workload make of the demand of its operators: the split over devices, then the formats.

Every step takes the operators of a pass and returns as many in the same order, each a linear map of the channels of
:class:`profiling.demand.Demand`, so the steps compose and hold for a line of decode steps as they hold for one.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiling.build import Built
from profiling.deployment import plan_of
from profiling.execution import Work, works
from profiling.parallel import shard
from profiling.passes import Trace
from profiling.precision import Precision, reprecise
from profiling.quantised import mark_quantised
from profiling.sharding import mark_sharding
from profiling.spec import Workload


def demands(works: Sequence[Work], built: Built, workload: Workload) -> list[Work]:
    """The operators of one pass, or what one device has of them, in the formats that ``workload`` asks for."""
    precision = Precision.of(workload)
    if precision.plain:
        return list(works)
    return [reprecise(work, precision, precision.base_bytes) for work in mark_quantised(works, built)]


def operators(trace: Trace, built: Built, workload: Workload) -> list[Work]:
    """The operators of a traced pass as ``workload`` asks for them, of one device (of each pipeline stage) where there are several."""
    counted = works(trace, workload.counting)
    plan = plan_of(workload, built)
    if plan.single:
        return demands(counted, built, workload)
    marked = mark_sharding(counted, trace, built, workload.mla)
    # Devices unpack the weights that they hold, so the formats act on what each of them has.
    return demands([shard(work, plan) for work in marked], built, workload)
