"""How long the comparison of 20 runs takes whose models have 2,000 layers each: through Django, in a real SQLite database.

    .venv/bin/python -m benchmarks.compare_page [--runs 20] [--layers 2000] [--times 20] [--json FILE]

Each run has a document of its own: that of a real estimate, its block repeated, with other times. Prints the first opening of the page, how
long it takes to prepare all runs (which ended before extracts were kept), and the median and 95th percentile of later ones, the bytes of the page, and the same of its JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

GOAL_S = 1.0


def deep(document: dict[str, Any], layers: int, seed: int) -> dict[str, Any]:
    """The GPT-2 document with ``layers`` blocks that all differ a little in time, so that nothing folds but by hand of the page."""
    chance, found = random.Random(seed), copy.deepcopy(document)
    table = found["modules"]
    at = {name: n for n, name in enumerate(table["columns"])}
    block = [row for row in table["rows"] if row[at["path"]].startswith("transformer.h.0")]
    others = [
        row
        for row in table["rows"]
        if not row[at["path"]].startswith("transformer.h.") and row[at["path"]] != "transformer.h"
    ]
    lists = [row for row in table["rows"] if row[at["path"]] == "transformer.h"]
    rows = [*others, *lists]
    for number in range(layers):
        prefix = f"transformer.h.{number}"
        for row in block:
            own = list(row)
            for name in ("path", "parent", "fold"):
                if isinstance(own[at[name]], str):
                    own[at[name]] = own[at[name]].replace("transformer.h.0", prefix)
            own[at["estimate_s"]] = (own[at["estimate_s"]] or 0.0) * chance.uniform(0.9, 1.1)
            rows.append(own)
    table["rows"] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--layers", type=int, default=2000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "LLMCOMPARE_DATA": folder,
            "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
            "LLMCOMPARE_LOG_LEVEL": "ERROR",
        }
        os.environ.pop("DATABASE_URL", None)
        import django

        django.setup()
        result = measure(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from django.core.management import call_command
    from django.test import Client
    from django.test.utils import override_settings
    from django.urls import reverse

    from benchmarks.speed.clock import ROOT, machine, versions
    from llmcompare.runs.models import RunDocument
    from tests import factories

    call_command("migrate", verbosity=0)
    document = json.loads((ROOT / "tests/data/documents/estimate_gpt2.json").read_text())
    owner = factories.make_user("benchmark")
    runs = [factories.make_run(owner, document=deep(document, options.layers, seed)) for seed in range(options.runs)]
    size = len(json.dumps(RunDocument.objects.get(run=runs[0]).data))
    query = "?runs=" + ",".join(run.public_id for run in runs)
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    storages = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }

    def timed(name: str) -> tuple[float, int]:
        begin = time.perf_counter()
        answer = client.get(reverse(name) + query)
        seconds = time.perf_counter() - begin
        assert answer.status_code == 200, answer.status_code
        return seconds, len(answer.content)

    with override_settings(STORAGES=storages, ALLOWED_HOSTS=["*"]):
        first, _ = timed("runs:compare")
        prepared, _ = timed("runs:compare-json")  # an export waits for all extracts
        pages = [timed("runs:compare") for _ in range(options.times)]
        exports = [timed("runs:compare-json") for _ in range(options.times)]
    result = {
        "machine": machine(),
        "versions": versions(None),
        # Above the number of cores the machine had other work, and times are upper bounds.
        "load_average_1_min": os.getloadavg()[0],
        "runs": options.runs,
        "layers": options.layers,
        "document_bytes": size,
        "first_s": first,
        "prepared_s": first + prepared,
        "page_bytes": pages[0][1],
        **summary("page", pages),
        **summary("json", exports),
        "goal_s": GOAL_S,
        "met": percentile(pages) <= GOAL_S,
    }
    print(f"{options.runs} runs of {options.layers:,} layers, {size / 1e6:.1f} MB a document")
    print(f"first opening {first:.2f} s; all extracts made after {first + prepared:.2f} s")
    print(
        f"page:  median {result['page_median_s']:.3f} s, 95th percentile {result['page_p95_s']:.3f} s, {pages[0][1] / 1e3:.0f} kB"
    )
    print(f"JSON:  median {result['json_median_s']:.3f} s, 95th percentile {result['json_p95_s']:.3f} s")
    print(f"{'met' if result['met'] else 'NOT met'}: the page in at most {GOAL_S:g} s")
    return result


def percentile(found: list[tuple[float, int]]) -> float:
    ordered = sorted(seconds for seconds, _ in found)
    return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def summary(name: str, found: list[tuple[float, int]]) -> dict[str, float]:
    return {f"{name}_median_s": median(seconds for seconds, _ in found), f"{name}_p95_s": percentile(found)}


if __name__ == "__main__":
    main()
