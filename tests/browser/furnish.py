"""A portal with something to show on every page: ``python -m tests.browser.furnish`` fills the data folder of ``LLMCOMPARE_DATA``.

Prints one line of JSON: page name → path of everything that somebody who is signed in as the administrator can open
(``signed_in``), and of what opens without an account (``visitor``). Runs are stored documents, so that nothing is measured here and no
worker is needed; only a tiny model's closed form and a run of an endpoint are made by the engine, in this process.
"""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from django.urls import URLPattern, URLResolver, get_resolver

from tests.browser.furnish_elsewhere import elsewhere

STORED = Path(__file__).parents[1] / "data" / "documents"
#: Address of a page → its name; pages with parameters that are only looked at in one of their states.
QUERIES = {
    "new-measurement": "/runs/new/?kind=measure",
    "runs-none-match": "/runs/?q=nothing-is-called-this",
    "history-estimates": "/history/?kind=estimate",
    "not-found": "/no-such-page/",
}
#: What a run was asked for, as its document says it.
ASKED = ("batch_size", "input_tokens", "output_tokens", "dtype")
#: The page of whoever is not signed in yet, and the one that signs out.
NOT_SIGNED_IN = ("accounts-login", "accounts-logout")


def plain_addresses() -> dict[str, str]:
    """Name → address of every page without parameters that the URL configuration has, whoever added it."""
    found: dict[str, str] = {}

    def walk(resolver: URLResolver, prefix: str, space: str) -> None:
        for item in resolver.url_patterns:
            route = prefix + str(item.pattern)
            if isinstance(item, URLResolver):
                if item.namespace not in ("admin", "api"):
                    walk(item, route, f"{space}{item.namespace}-" if item.namespace else space)
            elif isinstance(item, URLPattern) and item.name and "<" not in route:
                found[f"{space}{item.name}"] = f"/{route}"

    walk(get_resolver(), "", "")
    return {name: address for name, address in found.items() if name not in NOT_SIGNED_IN}


def answering(user: Any, addresses: dict[str, str]) -> dict[str, str]:
    """Those that answer a GET with a whole page: what only takes a POST, redirects or makes a fragment is none."""
    from django.test import Client

    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    found = {}
    for name, address in addresses.items():
        answer = client.get(address, secure=False)
        if (
            answer.status_code == 200
            and answer["Content-Type"].startswith("text/html")
            and b"<!doctype html" in answer.content[:200].lower()
        ):
            found[name] = address
    return found


def document(name: str, **parts: Any) -> dict[str, Any]:
    return json.loads((STORED / f"{name}.json").read_text()) | parts


def under_load() -> dict[str, Any]:
    """A measurement with a load of requests beside its passes."""
    from tests.runs.test_load import document as load

    made, sent = document("measure_smollm2"), load()
    return made | {"load": sent["load"], "requests": sent["requests"], "metrics": made["metrics"] | sent["metrics"]}


def runs(owner: Any, team: Any) -> dict[str, str]:
    """Runs of every kind and state, their comparisons, links and history."""
    from django.utils import timezone

    from hardware.models import Hardware
    from llmcompare.catalog.models import LanguageModel
    from llmcompare.history import notices
    from llmcompare.history.models import Comment, Mark, Notice, SavedView
    from llmcompare.runs.models import RunMetric
    from tests import factories
    from tests.run_page.documents import breakdown, in_processes, unfolded
    from tests.runs.replays import BUSY, QUIET, with_replay

    now = timezone.now()
    h100 = Hardware.objects.get(slug="nvidia-h100-sxm5-80gb")
    box = factories.make_hardware(slug="lab-box", name="Lab box", kind="cpu", vendor="Maker")
    host = factories.make_host(slug="lab-box", name="Lab box", hardware=box)
    model = {slug: LanguageModel.objects.get(slug=slug) for slug in ("gpt2", "smollm2-135m-instruct", "llama-3-70b")}
    here = {"model": model["smollm2-135m-instruct"], "hardware": box, "host": host}

    def make(made: dict[str, Any] | None, **fields: Any):
        told = {"kind": made["kind"], "workload": {name: made["workload"][name] for name in ASKED}} if made else {}
        run = factories.make_run(owner, document=made, **(told | fields))
        for key, metric in (made or {}).get("metrics", {}).items():
            RunMetric.objects.create(
                run=run, key=key, origin=metric["origin"], value=metric["value"], unit=metric["unit"],
                definition=metric["definition"], detail={},
            )  # fmt: skip
        return run

    base = document("measure_smollm2")
    base["conditions"] = (base.get("conditions") or {}) | {"contended": False, "reasons": []}
    base["memory"] |= {"breakdown": breakdown(base["memory"]["estimate"])}
    measured = [
        make(
            in_processes(base, factor=f),
            title=t,
            finished=now - timedelta(hours=2),
            started=now - timedelta(hours=3),
            **here,
        )
        for f, t in ((1.0, "Before the new driver"), (1.3, "With the new driver"), (1.01, "The old driver again"))
    ]
    estimates = [
        make(document("estimate_gpt2"), model=model["gpt2"], hardware=h100),
        make(document("estimate_llama3_70b_h100"), model=model["llama-3-70b"], hardware=h100),
    ]
    on_box = {"model": model["gpt2"], "hardware": box, "host": host}
    replayed = [
        make(with_replay(document("estimate_gpt2"), conditions), title=title, **on_box)
        for conditions, title in ((QUIET, "Replayed on the lab box"), (BUSY, "Replayed on a busy box"))
    ]
    deep = make(unfolded(100), model=model["gpt2"], hardware=h100, title="A hundred layers that all differ")
    loaded = make(under_load(), title="Under load", **here)
    states = {
        "failed": make(
            None,
            state="failed",
            error="Out of memory: 12 GB are needed, 8 GB are free.",
            error_phase="load",
            finished=now,
            title="Too large",
            **here,
        ),
        "cancelled": make(None, state="cancelled", finished=now, title="Not wanted any more", **here),
        "running": make(
            None,
            state="running",
            progress=0.4,
            started=now,
            claim="somebody",
            lease_until=now + timedelta(days=1),
            title="Under way",
            **here,
        ),
        "queued": make(None, state="queued", kind="measure", queue="hw.lab-box", title="Waits for its host", **here),
    }
    series = [
        make(None, kind="measure", state="done", e2e_s=value, finished=now - timedelta(days=20 - n), started=now - timedelta(days=20 - n, minutes=5),
             contended=n == 4, title=f"Nightly {n}", model=model["gpt2"], hardware=box, host=host, visibility="team", team=team)
        for n, value in enumerate((1 + 0.01 * (n % 3)) * (1.25 if n > 8 else 1) for n in range(16))
    ]  # fmt: skip
    for run in series:
        RunMetric.objects.create(
            run=run, key="e2e_latency", origin="measured", value=run.e2e_s, unit="s", definition="e2e_latency/1",
            detail={"ci95": [run.e2e_s * 0.98, run.e2e_s * 1.03], "processes": [run.e2e_s * 0.99, run.e2e_s, run.e2e_s * 1.01]},
        )  # fmt: skip
    Mark.objects.create(run=series[2], by=owner, kind="note", text="Somebody used the machine.")
    Comment.objects.create(run=series[0], by=owner, text="A comment.")
    series[0].tags.create(name="nightly", by=owner)
    SavedView.objects.create(owner=owner, name="Measurements", query="kind=measure")
    notices.choose(user=owner, page=True, mail=False, at_least_s=1)
    Notice.objects.create(run=measured[0], user=owner)

    def address(*compared: Any, more: str = "") -> str:
        return f"/compare/?runs={','.join(run.public_id for run in compared)}{more}"

    found = {f"run-{name}": f"/runs/{run.public_id}/" for name, run in states.items()}
    found |= {
        "run-measured": f"/runs/{measured[0].public_id}/",
        "run-estimate": f"/runs/{estimates[1].public_id}/",
        "run-beside": f"/runs/{estimates[0].public_id}/?beside=1&by=bound&per=module&view=icicle",
        "run-replay": f"/runs/{replayed[1].public_id}/",
        "compare-replay": address(*replayed),
        "new-replay": f"/runs/new/?kind=estimate&model=gpt2&hardware=host:{host.slug}&replay=on",
        "run-deep": f"/runs/{deep.public_id}/",
        "run-load": f"/runs/{loaded.public_id}/",
        "run-share": f"/runs/{measured[0].public_id}/share/",
        "compare-measured": address(*measured),
        "compare-estimates": address(*estimates),
        "compare-mixed": address(estimates[0], measured[0]),
        "compare-graphs": address(*estimates, more="&graphs=1"),
        "compare-rows": address(*measured, more="&transpose=1"),
        "comparison-share": f"/compare/share/?runs={measured[0].public_id},{estimates[0].public_id}",
        "series-measured": f"/history/{series[0].series}/",
        "series-estimated": f"/history/{estimates[0].series}/",
        "host": "/hardware/hosts/lab-box/",
        "hardware-item": f"/hardware/{h100.slug}/",
        "hardware-delete": f"/hardware/{mine(owner).slug}/delete/",
        "model": "/models/smollm2-135m-instruct/",
        "model-rename": f"/models/{uploaded(owner).slug}/rename/",
        "model-delete": f"/models/{uploaded(owner).slug}/delete/",
        "new-estimate": "/runs/new/?kind=estimate&model=llama-3-70b&hardware=nvidia-h100-sxm5-80gb",
    }
    ceilings(host)
    return found | {"_measured": measured, "_estimates": estimates}


def mine(owner: Any) -> Any:
    from tests import factories

    return factories.make_hardware(slug="my-device", name="My device", owner=owner, source="private")


_uploaded: list[Any] = []


def uploaded(owner: Any) -> Any:
    from tests import factories

    if not _uploaded:
        _uploaded.append(factories.make_model(slug="my-model", name="My model", owner=owner, source="upload"))
    return _uploaded[0]


def ceilings(host: Any) -> None:
    """Rates of every kind that the page of a host shows, among them one on which processes disagree."""
    from hardware.services import store_ceilings

    shared = {"threads": 2, "median": None}
    rows: list[dict[str, Any]] = [
        {"op_class": "gemm", "dtype": "fp32", "value": 6.1e10, "unit": "FLOP/s"},
        {"op_class": "gemm", "dtype": "bf16", "value": 2e11, "unit": "FLOP/s"},
        {"op_class": "gemm-sustained", "dtype": "fp32", "value": 5.5e10, "unit": "FLOP/s", "quality": "contended"},
        {"op_class": "copy", "dtype": "fp32", "value": 2.1e10, "unit": "B/s"},
        {"op_class": "read", "dtype": "fp32", "value": 1.9e10, "unit": "B/s"},
        {"op_class": "overhead", "dtype": "fp32", "value": 3e-6, "unit": "s"},
    ]
    for dtype in ("fp32", "bf16"):
        for rows_of_product in (1, 2, 8):
            for inner in (768, 4096):
                for size in (1, 4, 16, 64):
                    name = "gemv" if rows_of_product == 1 else f"skinny-{rows_of_product}"
                    unit = "B/s" if rows_of_product == 1 else "FLOP/s"
                    value = 1.8e10 * (1 + 0.05 * size / 64) * (1 if rows_of_product == 1 else rows_of_product / 2)
                    rows.append({"op_class": f"{name}-{size}MiB-{inner}", "dtype": dtype, "value": value, "unit": unit,
                                 "bytes": size << 20, "inner": inner})  # fmt: skip
    store_ceilings(host=host, rows=[shared | row for row in rows])


def what_if(owner: Any) -> dict[str, str]:
    """The what-if page with answers for a tiny model, and a sweep that was saved from it."""
    from django.http import QueryDict

    from llmcompare.explore import making
    from llmcompare.explore.answers import Exploration
    from llmcompare.explore.asked import read
    from llmcompare.explore.carrying import carry_out
    from llmcompare.explore.services import save_sweep
    from profiling.spec import Workload
    from tests import factories
    from tests.explore.conftest import EngineHere

    tiny = factories.make_model(slug="tiny", name="Tiny")
    form = making.ask(user=owner, model=tiny.to_spec(), workload=Workload(), kernel_threads=None)
    carry_out(form_id=form.pk, worker="here:1", shutdown=threading.Event(), engine=EngineHere())
    asked = (
        "model=tiny&hardware=nvidia-h100-sxm5-80gb&hardware=nvidia-l4-24gb&input_tokens=64&output_tokens=16"
        "&batches=1..64*4&lengths=16..256*2&price.nvidia-l4-24gb=0.8"
    )
    question = read(QueryDict(asked), owner)
    sweep = save_sweep(owner=owner, exploration=Exploration(question), query=asked, name="Two devices")
    return {
        "explore": f"/explore/?{asked}",
        "explore-changed": f"/explore/?{asked}&x_bandwidth=2&heat=bound",
        "sweep": f"/explore/sweeps/{sweep.public_id}/",
    }


def links(owner: Any, measured: list[Any], estimates: list[Any]) -> dict[str, str]:
    from llmcompare.sharing.services import create_link

    shared = {"run": measured[:1], "comparison": [*measured[:2]], "mixed": [estimates[0], measured[0]]}
    return {f"shared-{name}": f"/s/{create_link(owner=owner, runs=runs)[1]}/" for name, runs in shared.items()}


def furnish() -> dict[str, dict[str, str]]:
    from llmcompare.accounts.models import User
    from tests import factories

    owner = User.objects.get(username="admin")
    team = factories.make_team("Lab", editors=[owner])
    factories.add_member(team, factories.make_user("colleague"))
    pages = runs(owner, team)
    measured, estimates = pages.pop("_measured"), pages.pop("_estimates")
    visitor = {"login": "/accounts/login/", "gone": "/s/unknown/"} | links(owner, measured, estimates)
    pages |= what_if(owner) | elsewhere(owner)
    return {"signed_in": answering(owner, plain_addresses()) | QUERIES | pages, "visitor": visitor}


def main() -> None:
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
    django.setup()
    print("FURNISHED " + json.dumps(furnish()), flush=True)


if __name__ == "__main__":
    main()
