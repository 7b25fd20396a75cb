"""What is elsewhere, for the furnished portal: a server of models, a connection to a cloud with something deployed, and a run of that.

Nobody outside of this process is asked for anything. The run's document is the engine's own, of a sweep over users against a server of the
tests on this machine; what Cloud Monitoring says of its time goes through the worker's code, with a stand-in for the cloud.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any

WORKLOAD: dict[str, Any] = {"input_tokens": 32, "output_tokens": 8, "warmup": 1, "time_limit_s": 60.0}
LOAD = {"load_mode": "sweep", "load_levels": "1, 2, 4", "load_requests": 4, "load_ttft_s": 0.5}
#: How many requests the server answers at a time, and seconds between two tokens.
SLOTS, TOKEN_S = 2, 0.005
#: Which request, of all in their order, meets a rate limit: one of the second level.
LIMITED = 7
#: Minutes that the run is said to have taken: monitoring has a point a minute.
MINUTES = 5
#: Metric of the cloud → its unit there, and a value for each minute.
MONITORED = {
    "accelerator_duty_cycle": ("share", (0.42, 0.87, 0.91, 0.93, 0.9)),
    "accelerator_memory": ("B", (6.1e9, 6.4e9, 6.4e9, 6.4e9, 6.4e9)),
    "latency_p99": ("ms", (41.0, 52.0, 77.0, 81.0, 80.0)),
}


def elsewhere(owner: Any) -> dict[str, str]:
    """Page name → path. Needs the model ``tiny`` and the catalogue."""
    from django.utils import timezone

    from hardware.models import Hardware
    from llmcompare.catalog.models import LanguageModel
    from tests import factories

    now = timezone.now()
    server = factories.make_endpoint(owner, name="Our server", key="not a real key")
    project = factories.make_connection(
        owner, name="Our project", project="project-alpha", allowed_at=now, read_at=now,
        endpoints_found=[{"id": "5", "name": "e/5", "title": "theirs", "ours": False, "dedicated": True, "deployed": []}],
    )  # fmt: skip
    behind = factories.make_endpoint(
        owner, name="running", kind="vertex", url="", model="tiny", api="completions",
        hardware=Hardware.objects.get(slug="nvidia-l4-24gb"), language_model=LanguageModel.objects.get(slug="tiny"),
    )  # fmt: skip
    deployed = factories.make_deployment(
        project, name="running", expires_at=now + timedelta(hours=2), price="0.706832",
        price_words="Compute Engine list price, dated 2026-10-04", endpoint=behind, ready_at=now - timedelta(hours=1),
    )  # fmt: skip
    here = f"/cloud/{project.public_id}/"
    return {
        "endpoint": f"/endpoints/{server.public_id}/",
        "endpoint-edit": f"/endpoints/{server.public_id}/edit/",
        "run-endpoint": f"/runs/{swept(owner, behind).public_id}/",
        "connection": here,
        "connection-deploy": f"{here}deploy/",
        "connection-upload": f"{here}upload/",
        "connection-garden": f"{here}garden/",
        "deployment": f"/cloud/deployments/{deployed.public_id}/",
    }


def swept(owner: Any, endpoint: Any) -> Any:
    """A run of the endpoint as a worker leaves it, with monitoring of its time and an estimate to set beside it."""
    from llmcompare.runs import lifecycle
    from llmcompare.runs.models import Run
    from llmcompare.runs.services import launch_endpoint_run

    run = launch_endpoint_run(
        owner=owner, endpoint=endpoint, workload=WORKLOAD, load=LOAD, profile=True, title="More users, until it is full"
    )
    claimed = lifecycle.claim(run_id=run.pk, worker="here:1")
    assert claimed is not None
    document = document_of(endpoint.name)
    assert lifecycle.finish(run=claimed, document=document)
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(started=run.finished - timedelta(minutes=MINUTES))
    run.refresh_from_db()
    monitored(run)
    beside(owner, run, document)
    return run


def document_of(name: str) -> dict[str, Any]:
    """What the engine writes of a sweep against a server of ours, which has few slots and says what it measured of its own layers."""
    from profiling.load import Load
    from profiling.remote.endpoint import Endpoint, measure_endpoint
    from profiling.remote.levels import levels
    from profiling.remote.packed import pack
    from profiling.remote.sweep import Sweep
    from profiling.spec import Workload
    from tests.profiling.remote.serving import Request, client, running
    from tests.run_page.documents import measured

    slots, asked = asyncio.Semaphore(SLOTS), itertools.count()

    async def answer(request: Request) -> None:
        if next(asked) == LIMITED:
            await request.whole({"error": {"message": "slow down"}}, 429, Retry_After="2")
            return
        async with slots:
            await request.head()
            for number in range(WORKLOAD["output_tokens"]):
                await asyncio.sleep(TOKEN_S)
                await request.text(f"word{number} ")
        usage = {"prompt_tokens": 40, "completion_tokens": WORKLOAD["output_tokens"]}
        await request.event({"choices": [{"delta": {}, "finish_reason": "length"}], "usage": usage})
        if "llmcompare" in request.body:
            times = {
                "ttft_s": 0.9 * TOKEN_S,
                "tpot_s": 0.9 * TOKEN_S,
                "e2e_s": 0.9 * TOKEN_S * WORKLOAD["output_tokens"],
            }
            ours = {"server": times, "profile": pack(measured(), 10**6)}
            await request.event({"object": "llmcompare.profile", "choices": [], "llmcompare": ours})
        await request.event("[DONE]")
        await request.end()

    with running(answer) as (base, _):
        return measure_endpoint(
            Endpoint(name, base, "tiny", api="completions", profile=True),
            Workload(**WORKLOAD),
            Load(requests=LOAD["load_requests"], ttft_s=LOAD["load_ttft_s"]),
            client,
            sweep=Sweep(levels(LOAD["load_levels"])),
        )


def monitored(run: Any) -> None:
    """Have a worker read the monitoring of the run's time."""
    from django.utils import timezone

    from llmcompare.cloud import operations, series
    from llmcompare.cloud.google.resources import Series
    from llmcompare.cloud.models import Operation

    class Cloud:
        """Answers as a connection's :meth:`series` does."""

        def series(self, metric: str, endpoint_id: str, since: datetime, until: datetime) -> list[Series]:
            unit, values = MONITORED.get(metric, ("", ()))
            times = (since + timedelta(minutes=n) for n in range(1, len(values) + 1))
            points = tuple((at.isoformat(), value) for at, value in zip(times, values, strict=True))
            return [Series(metric, unit, {"replica_id": "0"}, points)] if points else []

    assert series.series_of(run) is None, "the first look asks for it"
    Operation.objects.filter(kind="series").update(due_at=timezone.now())
    operation = operations.claim(operation_id=Operation.objects.get(kind="series").pk, worker="here:1")
    assert operation is not None
    series.read(operation, Cloud())  # type: ignore[arg-type]


def beside(owner: Any, run: Any, document: dict[str, Any]) -> None:
    """The engine's estimate of what the run asked for, on the hardware that the endpoint names."""
    from llmcompare.runs.endpointestimate import estimate_beside
    from llmcompare.runs.results import summarise
    from profiling.estimate import estimate
    from profiling.spec import Workload
    from tests import factories

    asked = (estimate_beside(run, owner, document) or {})["asked"]
    found = estimate(run.model.to_spec(), run.hardware.to_spec(), Workload(**asked))
    times = summarise(found).columns
    factories.make_run(
        owner,
        document=found,
        model=run.model,
        hardware=run.hardware,
        workload=asked,
        **{name: times[name] for name in ("ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s")},
    )
