"""What-if questions: a stored closed form under any formats, on any devices, at any points. numpy and the standard library only.

Nothing here makes a form or traces a model, so a web process may ask: where the form does not reach, the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from profiling import scaling
from profiling.cautions import cautions
from profiling.forms.evaluate import COLUMNS, Evaluator, Points
from profiling.forms.terms import NoForm
from profiling.limits import check_context
from profiling.parallel import Plan, link
from profiling.precision import Precision
from profiling.roofline import Ceilings, ceilings
from profiling.scratch import scratch_warnings
from profiling.small_products import warning
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload

#: Options that no closed form holds: what they add is traced for every estimate.
UNHELD = ("images", "audios")

#: (batch size, input tokens, output tokens).
Point = tuple[int, int, int]


@dataclass(frozen=True)
class Device:
    """What limits a workload on a device. ``notes``: what to keep in mind. ``suspicious``: rates that cannot be right, in sentences."""

    limits: Ceilings
    capacity: int | None
    notes: tuple[str, ...]
    suspicious: tuple[str, ...]

    @classmethod
    def of(cls, hardware: HardwareSpec, workload: Workload) -> Device:
        """With measured ceilings where ``hardware`` has them, else on its datasheet."""
        limits, warnings = ceilings(
            hardware, workload.dtype, None, workload.threads, Precision.of(workload).product_dtype
        )
        warnings = warnings + scratch_warnings(hardware, workload)
        plan = Plan.of(replace(workload, batch_size=max(workload.batch_size, workload.data_parallel)))
        interconnect, unlinked = link(hardware, plan)
        limits = replace(limits, interconnect=interconnect, linked=plan.communicates)
        said = [w["message"] for w in warnings + unlinked]
        if limits.level == "measured":
            said += scaling.notes(hardware, _formats(limits), workload.threads)
        suspicious = tuple(_above_datasheet(hardware, limits))
        return cls(limits, hardware.memory_bytes, tuple(dict.fromkeys(said)), suspicious)


def _formats(limits: Ceilings) -> set[str]:
    """Formats whose rates are used: of the weights, of the arithmetic, and of products in the format of quantised layers."""
    found = {limits.dtype, limits.peak_dtype or limits.dtype}
    return found | _formats(limits.quantised) if limits.quantised else found


def _above_datasheet(hardware: HardwareSpec, limits: Ceilings) -> list[str]:
    """Measured rates above the datasheet's: a wrong specification or cached data, and no ground for a verdict."""
    if limits.level != "measured":
        return []
    sheet = hardware.peak_flops.get(limits.peak_dtype or "")
    pairs = (
        (f"{limits.peak_dtype} arithmetic", limits.peak_flops, sheet),
        ("memory bandwidth", limits.bandwidth, hardware.memory_bandwidth),
    )
    return [
        f"The {what} measured on {hardware.name} is {measured / given:.2f} times that of its datasheet: the specification is wrong, or "
        "the kernels were fed from a cache."
        for what, measured, given in pairs
        if measured and given and measured > 1.02 * given
    ]


def notes_of(model: ModelSpec, workload: Workload, facts: Mapping[str, Any]) -> list[str]:
    """What to keep in mind about the model under the workload, whatever the device."""
    of_model = cautions(model, workload, facts["architecture"], facts["kind"], facts["attention"], facts["unknown"])
    return list(dict.fromkeys(w["message"] for w in [*facts["uneven"], *of_model]))


def small_products(evaluator: Evaluator, device: Device, point: Point) -> list[str]:
    """What an estimate at the point says of products smaller than any that were timed on the device; [] where there are none, or no answer.
    The evaluator has that device alone."""
    try:
        shares = evaluator.small_shares(as_points([point]))
    except NoForm:
        return []
    found = warning({stage: float(share[0]) for stage, share in shares.items()}, device.limits)
    return [w["message"] for w in found]


def evaluate(
    evaluator: Evaluator, facts: Mapping[str, Any], workload: Workload, points: Sequence[Point]
) -> tuple[dict[str, np.ndarray], list[str | None]]:
    """(columns of :data:`COLUMNS` at every point, why a point has no answer or None). The evaluator has one device.

    A point that makes no sense, or that the form does not cover, is nan in every column.
    """
    reasons = [_problem(facts, replace(workload, batch_size=b, input_tokens=i, output_tokens=o)) for b, i, o in points]
    columns = {name: np.full(len(points), np.nan) for name in COLUMNS}
    rows = np.array([n for n, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    if not len(rows):
        return columns, reasons
    at = as_points([points[n] for n in rows])
    covered = evaluator.covered(at)
    for n in rows[~covered]:
        reasons[n] = "The closed form does not reach this point: run an estimate, which traces the model there."
    if covered.any():
        for name, values in evaluator(at.at(covered)).items():
            columns[name][rows[covered]] = values
    return columns, reasons


def as_points(points: Sequence[Point]) -> Points:
    """The points as the evaluator takes them, all of them on its first device."""
    array = np.array(points, dtype=np.int64).reshape(len(points), 3)
    return Points(array[:, 0], array[:, 1], array[:, 2], np.zeros(len(points), dtype=np.int64))


def _problem(facts: Mapping[str, Any], workload: Workload) -> str | None:
    """Why a point makes no sense, in one sentence, or None."""
    try:
        workload.check()
        Plan.of(workload)
        check_context(facts["kind"], facts["max_context"], workload)
    except SpecError as error:
        return str(error)
    return None
