"""One process with the portal's own Django, told by JSON lines what to do: the chaos tests' hand in the database.

``python -m tests.chaos.control``: a line ``{"call": name, ...arguments}`` on stdin, a line ``{"result": ...}`` or ``{"error": ...}`` back.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
django.setup()

from django.db import transaction  # noqa: E402
from django.db.models import Count  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402

from hardware import measurements  # noqa: E402
from hardware.models import CeilingMeasurement, Hardware, Host  # noqa: E402
from hardware.services import register_host, set_ceilings_state  # noqa: E402
from llmcompare.accounts.models import User  # noqa: E402
from llmcompare.catalog.models import LanguageModel  # noqa: E402
from llmcompare.endpoints.models import PrivateNetwork  # noqa: E402
from llmcompare.explore import making  # noqa: E402
from llmcompare.explore.models import StoredForm  # noqa: E402
from llmcompare.runs import services  # noqa: E402
from llmcompare.runs.models import Run, RunDocument, RunEvent, RunMetric  # noqa: E402
from profiling.host import detect  # noqa: E402
from profiling.spec import Workload  # noqa: E402
from tests import factories  # noqa: E402


def setup(hosts: list[str]) -> None:
    """A user, a tiny model that runs for as long as it is asked to, a device to estimate for, and hosts that need no preparation."""
    factories.make_user("chaos")
    factories.make_model(slug="tiny", name="Tiny", parameters=200_000)
    factories.make_hardware(slug="device", name="Device")
    for slug in hosts:
        set_ceilings_state(host=register_host(detected=detect(), queue=f"hw.{slug}"), state="done")


def add_model(slug: str, config: dict[str, Any]) -> None:
    factories.make_model(
        slug=slug, name=slug, config=config, architecture=config["architectures"][0], model_type=config["model_type"]
    )


def launch(
    kind: str,
    workload: dict[str, Any],
    host: str | None = None,
    count: int = 1,
    model: str = "tiny",
    processes: int = 1,
    frozen: dict[str, Any] | None = None,
    replay: bool = False,
) -> dict[str, Any]:
    """Ids of new runs, and the seconds that the slowest launch took. ``frozen``: what their workload says besides, past every check that a
    launch makes: as from a worker that can do less than the portal thought."""
    where = {"host": Host.objects.get(slug=host)} if host else {"hardware": Hardware.objects.get(slug="device")}
    ids, slowest = [], 0.0
    for _ in range(count):
        began = time.monotonic()
        with transaction.atomic():
            run = services.launch_run(
                owner=User.objects.get(username="chaos"),
                kind=kind,
                model=LanguageModel.objects.get(slug=model),
                workload=workload,
                protocol={"processes": processes} if kind == "measure" else None,
                replay=replay,
                **where,
            )
            if frozen:
                run.spec["workload"] |= frozen
                run.save(update_fields=["spec"])
        slowest = max(slowest, time.monotonic() - began)
        ids.append(run.pk)
    return {"ids": ids, "slowest_s": slowest}


def ask_endpoint(base: str, key: str, load: dict[str, Any], **workload: Any) -> int:
    """A run of an endpoint on this machine, whose network is opened for it."""
    owner = User.objects.get(username="chaos")
    PrivateNetwork.objects.get_or_create(name="here", network="127.0.0.0/8")
    endpoint = factories.make_endpoint(owner, url=base, private=True, key=key, model="tiny")
    run = services.launch_endpoint_run(
        owner=owner, endpoint=endpoint, workload={"input_tokens": 5, "output_tokens": 4} | workload, load=load
    )
    return run.pk


def rows(ids: list[int]) -> list[dict[str, Any]]:
    fields = (
        "pk",
        "state",
        "attempt",
        "claim",
        "worker",
        "stage",
        "message",
        "error",
        "error_phase",
        "rung_at",
        "cancel_requested",
    )
    found = {row["pk"]: row for row in Run.objects.filter(pk__in=ids).values(*fields)}
    return [found[pk] | {"rung_at": str(found[pk]["rung_at"])} for pk in ids]


def kept(run_id: int) -> dict[str, Any]:
    """What a run left in the database: documents, metrics, metrics that are there twice, begun attempts, log."""
    events = list(RunEvent.objects.filter(run=run_id).values_list("message", flat=True))
    metrics = RunMetric.objects.filter(run=run_id)
    return {
        "documents": RunDocument.objects.filter(run=run_id).count(),
        "metrics": metrics.count(),
        "twice": metrics.values("key", "origin").annotate(n=Count("pk")).filter(n__gt=1).count(),
        "begun": sum(text.startswith("Attempt ") for text in events),
        "done": events.count("Done."),
        "log": events,
    }


def cancel(run_id: int) -> None:
    services.cancel_run(run=Run.objects.get(pk=run_id))


def prepared(host: str, model: str) -> dict[str, Any]:
    """How far the worker's preparation of its machine is; empty before the machine is known."""
    row = Host.objects.filter(slug=host).first()
    if row is None:
        return {}
    return {
        "ceilings": row.ceilings_state,
        "rates": {f"{c.op_class} {c.dtype}".strip(): c.value for c in row.ceilings.all()},
        "hardware": str(row.hardware),
        "weights": LanguageModel.objects.get(slug=model).weights,
    }


def document(run_id: int) -> dict[str, Any]:
    return RunDocument.objects.get(run=run_id).data


def press(host: str) -> int:
    """The button on the host's page, pressed by a member of staff in a browser; returns the answer's status."""
    staff, _ = User.objects.get_or_create(username="staff", defaults={"is_staff": True})
    browser = Client(headers={"host": "127.0.0.1"})
    browser.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    return browser.post(reverse("hardware:host-ceilings", args=[host]), {"quick": "1"}).status_code


def ceilings(host: str) -> dict[str, Any]:
    """The measurements of the host's ceilings, newest first, and its rows."""
    found = CeilingMeasurement.objects.filter(host__slug=host)
    fields = ("pk", "state", "progress", "message", "error", "worker", "outcome")
    row = Host.objects.get(slug=host)
    return {
        "measurements": [
            values | {"started": str(values["started"]), "finished": str(values["finished"])}
            for values in found.values(*fields, "started", "finished")
        ],
        "rows": [f"{c.op_class} {c.dtype} {c.threads} {c.quality}" for c in row.ceilings.all()],
        "details": [c.detail for c in row.ceilings.all()],
        "state": row.ceilings_state,
    }


def cancel_ceilings(host: str) -> None:
    found = measurements.active(Host.objects.get(slug=host))
    if found is not None:
        measurements.cancel(measurement=found)


def when(run_id: int) -> dict[str, str]:
    run = Run.objects.get(pk=run_id)
    return {"started": str(run.started), "finished": str(run.finished), "log": kept(run_id)["log"]}


def ask_form(model: str) -> int:
    """Have the closed form of a model made; its id."""
    spec = LanguageModel.objects.get(slug=model).to_spec()
    user = User.objects.get(username="chaos")
    return making.ask(user=user, model=spec, workload=Workload(), kernel_threads=None).pk


def form(form_id: int) -> dict[str, Any]:
    found = StoredForm.objects.get(pk=form_id)
    size = len(found.data) if found.data else 0
    return {name: getattr(found, name) for name in ("state", "attempt", "worker", "reason", "claim")} | {"size": size}


def cancel_form(form_id: int) -> None:
    making.cancel(form=StoredForm.objects.get(pk=form_id))


CALLS = {
    call.__name__: call
    for call in (
        setup,
        add_model,
        launch,
        ask_endpoint,
        rows,
        kept,
        cancel,
        prepared,
        document,
        press,
        ceilings,
        cancel_ceilings,
        when,
        ask_form,
        form,
        cancel_form,
    )
}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": CALLS[request.pop("call")](**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
