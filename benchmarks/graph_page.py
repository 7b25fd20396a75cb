"""How long the run page of a large model takes until its layer graph is drawn, in a real headless Chromium.

    .venv/bin/python -m benchmarks.graph_page [--layers 100] [--rounds 10] [--out FILE]

Starts a portal of its own (``manage.py up --no-worker`` in a new data folder), stores an estimate of a model whose blocks all differ, so
that no two are folded (20 nodes each), and opens its page. Times count from the start of the navigation to the moment at which the graph
is laid out and painted (the mark ``lc:graph-drawn`` of ``static/graph.js``): cold in a browser without cache, warm in one that has the
scripts. Goal: drawn within 1.5 s, with fewer than 60 nodes. Also what the page weighs, and how long everything opened takes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed.clock import ROOT, Meter, machine, summary, versions
from tests.browser.conftest import CHROMIUM_FLAGS, chromium_path

PASSWORD = "only for this benchmark 1"
GOAL_S, GOAL_NODES = 1.5, 60

STORE = """
import django; django.setup()
from django.contrib.auth import get_user_model
from tests import factories
from tests.run_page import documents
document = documents.unfolded({layers})
owner = get_user_model().objects.get(username="admin")
run = factories.make_run(owner, document=document, kind="estimate")
print("RUN", run.public_id, len(document["graph"]["prefill"]["nodes"]), len(document["graph"]["prefill"]["edges"]))
"""

#: What the page says of itself once the graph is there: seconds since the navigation began, nodes, bytes over the wire.
REPORT = """() => {
  const page = performance.getEntriesByType("navigation")[0], marks = performance.getEntriesByName("lc:graph-drawn");
  const files = performance.getEntriesByType("resource");
  return {
    drawn_s: marks[0].startTime / 1000, first_byte_s: page.responseStart / 1000, document_s: page.responseEnd / 1000,
    nodes: document.querySelector("[data-graph]").cy.nodes().length,
    document_bytes: page.transferSize, other_bytes: files.reduce((sum, file) => sum + file.transferSize, 0),
  };
}"""


@contextmanager
def portal(data: Path) -> Iterator[str]:
    """A portal without worker in ``data``; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"LLMCOMPARE_DATA": str(data), "LLMCOMPARE_ADMIN_PASSWORD": PASSWORD}
    with (data / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--no-worker", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while not _answers(url):
            if process.poll() is not None:
                raise SystemExit((data / "up.log").read_text())
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/accounts/login/", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def store(data: Path, layers: int) -> tuple[str, int, int]:
    """Public id of the stored run, and how many nodes and edges the graph of a stage has."""
    done = subprocess.run(
        [sys.executable, "-c", STORE.format(layers=layers)],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_DATA": str(data), "DJANGO_SETTINGS_MODULE": "llmcompare.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RUN "))
    _, public_id, nodes, edges = line.split()
    return public_id, int(nodes), int(edges)


def wait_until_drawn(page: Any) -> None:
    deadline = time.monotonic() + 60
    while not page.evaluate("performance.getEntriesByName('lc:graph-drawn').length"):
        if time.monotonic() > deadline:
            raise SystemExit("The graph was not drawn within a minute.")
        page.wait_for_timeout(20)


def visit(page: Any, address: str) -> dict[str, Any]:
    """One opening of the page: its own report, and what the machine did meanwhile."""
    with Meter() as meter:
        page.goto(address)
        wait_until_drawn(page)
        page.wait_for_load_state("networkidle")
    report = page.evaluate(REPORT)
    return report | {"load_average": os.getloadavg()[0], "wall_s": meter.wall_s}


def measure(address: str, log_in: str, rounds: int) -> dict[str, list[dict[str, Any]]]:
    from playwright.sync_api import sync_playwright

    found: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": [], "everything open": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        first = browser.new_context(viewport={"width": 1280, "height": 900})
        page = first.new_page()
        page.goto(log_in)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]:has-text('Log in')")
        page.wait_for_load_state("networkidle")
        signed_in = first.storage_state()
        visit(page, address)  # the portal's own first time: templates are read, its memory is warm
        for _ in range(rounds):
            found["warm"].append(visit(page, address))
        for _ in range(rounds):
            fresh = browser.new_context(viewport={"width": 1280, "height": 900}, storage_state=signed_in)
            found["cold"].append(visit(fresh.new_page(), address))
            fresh.close()
        for _ in range(3):
            found["everything open"].append(visit(page, f"{address}?open=*"))
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_page", description=__doc__.split("\n\n")[0])
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the result document here")
    options = parser.parse_args()
    if chromium_path() is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium).")
    with tempfile.TemporaryDirectory() as folder, portal(Path(folder)) as url:
        public_id, nodes, edges = store(Path(folder), options.layers)
        found = measure(f"{url}/runs/{public_id}/", f"{url}/accounts/login/", options.rounds)
    result = {
        "benchmark": "graph_page",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(None),
        "model": {"layers": options.layers, "nodes_of_a_stage": nodes, "edges_of_a_stage": edges},
        "goals": {"drawn_s": GOAL_S, "nodes": GOAL_NODES},
        "drawn_s": {name: summary([visit["drawn_s"] for visit in visits]) for name, visits in found.items()},
        "nodes_drawn": {name: visits[0]["nodes"] for name, visits in found.items()},
        "visits": found,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, visits in found.items():
        times = result["drawn_s"][name]
        print(
            f"{name}: drawn after {times['median']:.2f} s (median of {times['n']}; {times['min']:.2f} to {times['max']:.2f}), "
            f"{visits[0]['nodes']} nodes, {(visits[0]['document_bytes'] + visits[0]['other_bytes']) / 1e3:.0f} kB over the wire"
        )


if __name__ == "__main__":
    main()
