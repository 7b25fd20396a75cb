"""What the options of a workload make of the demand of its operators: formats first, then the split over devices.

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
from profiling.sharding import mark_sharding
from profiling.spec import Workload


def demands(works: Sequence[Work], built: Built, workload: Workload) -> list[Work]:
    """The operators of one pass as ``workload`` asks for them."""
    return list(works)


def operators(trace: Trace, built: Built, workload: Workload) -> list[Work]:
    """The operators of a traced pass as ``workload`` asks for them, of one device (of each pipeline stage) where there are several."""
    counted = works(trace, workload.counting)
    plan = plan_of(workload, built)
    if plan.single:
        return demands(counted, built, workload)
    marked = mark_sharding(counted, trace, built, workload.mla)
    return [shard(work, plan) for work in demands(marked, built, workload)]
