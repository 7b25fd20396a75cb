"""How long a what-if answer takes through the portal: address, rows, stored closed forms, every chart, HTML. In a process without torch.

    .venv/bin/python -m benchmarks.explore [--quick] [--requests 400] [--json FILE]

A data folder of its own; the forms are made by the engine's own process, as a worker makes them. Then slider positions are asked one after
the other through Django (middleware, session, rendering; no network). Each case moves batch, lengths and formats, so that hardly any
answer is asked twice. ``first``: the first answer of a form, which is read and prepared then. Memory: what this process holds more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from benchmarks.speed.clock import Meter, machine, summary, versions

#: The line that the page has to keep, seconds at the 95th percentile on two cores.
GOAL_S = 0.1

H100, L4, A100 = "nvidia-h100-sxm5-80gb", "nvidia-l4-24gb", "nvidia-a100-sxm4-80gb"
HOST = "host:bench"
CASES: tuple[tuple[str, list[str], list[str]], ...] = (
    ("one model, one device", ["llama-3-8b"], [H100]),
    ("one model, three devices", ["llama-3-8b"], [H100, A100, L4]),
    ("four models, three devices", ["llama-3-8b", "qwen3-8b", "mistral-7b-v0-1", "gemma-2-9b"], [H100, A100, L4]),
    ("a mixture of 256 experts, one device", ["deepseek-v3"], [H100]),
    ("a mixture of 256 experts, a measured host", ["deepseek-v3"], [HOST]),
)
FORMATS = ({}, {"weights_dtype": "int4"}, {"weights_dtype": "fp8", "kv_dtype": "fp8"})


def prepare(folder: str) -> Any:
    """Django on a database of its own; returns a client that is logged in."""
    os.environ |= {
        "LLMCOMPARE_DATA": folder,
        "LLMCOMPARE_URL": "http://127.0.0.1:8000",
        "LLMCOMPARE_LOG_LEVEL": "ERROR",
    }
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
    call_command("migrate", interactive=False, verbosity=0)
    call_command("load_catalogue", verbosity=0)
    user = get_user_model().objects.create_superuser("bench", "", "only for this benchmark 1")
    client = Client(headers={"host": "127.0.0.1", "hx-request": "true"})
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def add_host() -> None:
    """A host with rates for every kind of kernel, which are looked up term by term. They are made up: only the time of the answer matters."""
    from django.utils import timezone

    from hardware.models import Hardware, Host
    from profiling.ceiling_rows import shaped_names

    host = Host.objects.create(slug="bench", name="Bench", hardware=Hardware.objects.get(slug=A100), queue="hw.bench")
    rows = [
        ("gemm", "FLOP/s", 2e14, {}),
        ("copy", "B/s", 1.2e12, {}),
        ("gemv", "B/s", 1.3e12, {}),
        ("overhead", "s", 3e-6, {}),
    ]
    rows += [("attention", "FLOP/s", 1e14, {}), ("elementwise", "FLOP/s", 1e13, {})]
    rows += [(f"skinny-{count}", "FLOP/s", count * 1e12, {}) for count in (2, 8, 64)]
    for count in (1, 2, 8, 64):
        for name, (size, inner) in shaped_names(count).items():
            unit, rate = ("B/s", 1e12) if count == 1 else ("FLOP/s", count * 1e12)
            rows.append((name, unit, rate * (0.5 + inner / 9000), {"bytes": size, "inner": inner}))
    for name, unit, rate, detail in rows:
        host.ceilings.create(
            op_class=name, dtype="bf16", unit=unit, value=rate, detail=detail, measured_at=timezone.now()
        )


def query(models: list[str], places: list[str], **more: Any) -> str:
    return urlencode([*(("model", m) for m in models), *(("hardware", p) for p in places), *more.items()])


def make_forms(client: Any, models: list[str], places: list[str]) -> list[dict[str, Any]]:
    from llmcompare.explore.carrying import carry_out
    from llmcompare.explore.models import StoredForm

    client.post("/explore/forms/", {"query": query(models, places)})
    found = []
    for form in StoredForm.objects.filter(state="queued"):
        begin = time.perf_counter()
        carry_out(form_id=form.pk, worker="bench:1", shutdown=threading.Event())
        form.refresh_from_db()
        if form.state != "ready":
            raise SystemExit(f"No form was made: {form.state}, {form.reason}")
        found.append({"seconds": time.perf_counter() - begin, "stored_bytes": len(form.data)})
    return found


def positions(count: int, generator: random.Random) -> list[dict[str, Any]]:
    """Where sliders may stand."""
    return [
        {
            "batch_size": 2 ** generator.randint(0, 7),
            "input_tokens": generator.randint(16, 3000),
            "output_tokens": generator.randint(2, 1000),
            "x_bandwidth": generator.choice(["1", "1.5", "2"]),
            **generator.choice(FORMATS),
        }
        for _ in range(count)
    ]


def ask(client: Any, address: str) -> tuple[float, int]:
    """(seconds, bytes of HTML) of one answer, which must be one."""
    begin = time.perf_counter()
    answer = client.get(address)
    seconds = time.perf_counter() - begin
    if answer.status_code != 200 or b"Time to first token" not in answer.content:
        raise SystemExit(f"{address} has no answer: {answer.status_code}")
    return seconds, len(answer.content)


def case(client: Any, name: str, models: list[str], places: list[str], count: int) -> dict[str, Any]:
    made = make_forms(client, models, places)
    process, generator = psutil.Process(), random.Random(1)
    before = process.memory_info().rss
    first = [ask(client, f"/explore/answer/?{query(models, places, **formats)}")[0] for formats in FORMATS]
    held = process.memory_info().rss - before
    times, sizes = [], []
    with Meter() as meter:
        for position in positions(count, generator):
            seconds, size = ask(client, f"/explore/answer/?{query(models, places, **position)}")
            times.append(seconds)
            sizes.append(size)
    found = summary(times)
    return {
        "case": name,
        "models": models,
        "hardware": places,
        "lines": len(models) * len(places),
        "made": made,
        "first_s": first,
        "answer_s": found,
        "answer_bytes": max(sizes),
        "memory_bytes": held,
        "meter": meter.to_json(),
        "met": found["p95"] is not None and found["p95"] < GOAL_S,
    }


def measure(count: int, quick: bool = False) -> dict[str, Any]:
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        client = prepare(folder)
        add_host()
        rows = [case(client, *item, count) for item in CASES[: 1 if quick else None]]
        from profiling.client import warm_child

        warm_child().close()
    if "torch" in sys.modules:
        raise SystemExit("torch was imported: the web process must answer without it.")
    return {
        "schema": "llmcompare-explore-speed",
        "schema_version": "1.0",
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": machine(),
        "versions": versions(None),
        "load_before": list(load),
        "load_after": list(os.getloadavg()),
        "torch_imported": False,
        "quick": quick,
        "goal_s": GOAL_S,
        "process_bytes": psutil.Process().memory_info().rss,
        "cases": rows,
    }


def text(document: dict[str, Any]) -> str:
    where = document["machine"]
    lines = [
        f"{where['cpu']}, {where['logical_cores']} cores, load {document['load_before'][0]:.1f} to {document['load_after'][0]:.1f}",
        f"{'case':40} {'lines':>5} {'median':>8} {'p95':>8} {'worst':>8} {'first':>8} {'HTML':>8} {'memory':>8}  goal",
    ]
    for row in document["cases"]:
        a = row["answer_s"]
        seconds = [a["median"], a["p95"] or float("nan"), a["max"], max(row["first_s"])]
        figures = " ".join(f"{1000 * s:5.0f} ms" for s in seconds)
        kept = "kept" if row["met"] else "MISSED"
        contended = ", contended" if row["meter"]["contended"] else ""
        lines.append(
            f"{row['case']:40} {row['lines']:5} {figures} {row['answer_bytes'] / 1e3:5.0f} kB {row['memory_bytes'] / 1e6:5.0f} MB  {kept}{contended}"
        )
    lines.append(f"The process holds {document['process_bytes'] / 1e6:.0f} MB; torch was not imported.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a what-if answer takes through the portal.")
    parser.add_argument("--quick", action="store_true", help="the first case alone, 20 requests")
    parser.add_argument("--requests", type=int, default=400, help="of each case (default: 400)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    document = measure(20 if options.quick else max(20, options.requests), options.quick)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(text(document))


if __name__ == "__main__":
    main()
