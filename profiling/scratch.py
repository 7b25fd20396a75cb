"""Memory that kernels take for themselves and that no estimate here has in it: said, because its size is unknown. Standard library only."""

from __future__ import annotations

from profiling.spec import HardwareSpec, Workload

#: Formats that processors with matrix units compute in after they have rearranged the operands.
REARRANGED = ("bf16", "fp16")


def scratch_warnings(hardware: HardwareSpec, workload: Workload) -> list[dict[str, str]]:
    """The warning that a processor's peak in half precision is a lower bound, where it is one.

    Kernels for matrix units (AMX, SME) copy operands into the order that the units read. In allocator peaks of small models in bf16 with
    AMX that was up to 12 % of the peak; without such units (oneDNN held to AVX-512) the same peaks are met exactly
    (``tests/profiling/test_peaks.py``).
    """
    if hardware.kind != "cpu" or workload.dtype not in REARRANGED:
        return []
    message = (
        f"Processors with matrix units (such as AMX) rearrange operands in {workload.dtype} into memory that is not counted here: on them "
        "the peak of memory is a lower bound."
    )
    return [{"code": "scratch_not_counted", "message": message}]
