"""A cold analysis inside of an engine process: ``profiling.child`` with one operation more.

``closed_form`` finds the closed forms of a model that the process has never seen, stores them, and evaluates one point.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from profiling import child, client
from profiling.spawn import spawn
from profiling.spec import HardwareSpec, ModelSpec, Workload


@child.operation("closed_form")
def closed_form(request: dict[str, Any], report: child.Reporter) -> dict[str, Any]:
    """``parts``: seconds of the imports that the process had still to do, of finding the forms, of the point, of storing."""
    model, workload = ModelSpec.from_json(request["model"]), Workload.from_json(request["workload"])
    device = HardwareSpec.from_json(request["hardware"])
    warm = "torch" in sys.modules
    times = [time.perf_counter()]
    import numpy as np

    from profiling.forms.evaluate import Evaluator, Points
    from profiling.forms.make import make_form
    from profiling.forms.store import FormStore
    from profiling.roofline import ceilings

    times.append(time.perf_counter())
    form = make_form(model, workload)
    times.append(time.perf_counter())
    limits, _ = ceilings(device, workload.dtype)
    numbers = (workload.batch_size, workload.input_tokens, workload.output_tokens, 0)
    at = Points(*(np.array([number]) for number in numbers))
    columns = Evaluator(form, workload, [limits], [device.memory_bytes])(at)
    times.append(time.perf_counter())
    FormStore(Path(request["folder"])).put(form)
    times.append(time.perf_counter())
    names = ("imports_s", "forms_s", "point_s", "store_s")
    return {
        "warm": warm,
        "parts": {name: after - before for name, before, after in zip(names, times, times[1:], strict=False)},
        "ttft_s": float(columns["ttft_s"][0]),
    }


@contextmanager
def engine_child(*, warm: bool) -> Iterator[client.EngineChild]:
    """An engine process as the portal starts it, that knows the operation above."""

    def spawned(arguments: list[str], **options: Any) -> Any:
        return spawn([__spec__.name if a == "profiling.child" else a for a in arguments], **options)

    with mock.patch.object(client, "spawn", spawned), client.EngineChild(warm=warm) as engine:
        yield engine


if __name__ == "__main__":
    child.main()
