"""How long an estimate takes through the whole portal: REST request, database row, bell, worker, engine, stored result.

    .venv/bin/python benchmarks/portal_estimate.py

Starts a portal of its own (``manage.py up`` in a new data folder) and estimates Llama-3-70B on an H100: the first one right after the
start, when the worker may still be preparing the machine, then others that differ in their sizes, so that none is remembered.
Prints seconds from sending the request to reading ``done``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "only for this benchmark 1"
ROUNDS = 10


def call(url: str, body: dict | None = None, token: str = "") -> dict:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)


def seconds_to_done(api: str, token: str, input_tokens: int) -> float:
    begin = time.perf_counter()
    run = call(
        f"{api}/runs/",
        {
            "kind": "estimate",
            "model": "llama-3-70b",
            "hardware": "nvidia-h100-sxm5-80gb",
            "input_tokens": input_tokens,
            "output_tokens": 64,
            "dtype": "bf16",
        },
        token,
    )
    while (state := call(f"{api}/runs/{run['id']}/", token=token))["state"] in ("queued", "running"):
        time.sleep(0.05)
    if state["state"] != "done":
        raise SystemExit(f"The estimate ended as {state['state']}: {state.get('error')}")
    return time.perf_counter() - begin


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as data:
        environment = os.environ | {"LLMCOMPARE_DATA": data, "LLMCOMPARE_ADMIN_PASSWORD": PASSWORD}
        with (Path(data) / "up.log").open("wb") as log:
            portal = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            api = f"http://127.0.0.1:{port}/api/v1"
            token = ""
            while not token:
                if portal.poll() is not None:
                    raise SystemExit((Path(data) / "up.log").read_text())
                try:
                    token = call(f"{api}/auth/login/", {"username": "admin", "password": PASSWORD})["token"]
                except OSError:
                    time.sleep(0.2)
            print(f"first, right after the start: {seconds_to_done(api, token, 1024):.2f} s")
            print(f"load average now: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            rest = sorted(seconds_to_done(api, token, 1025 + n) for n in range(ROUNDS))
            print(
                f"then {ROUNDS} others: median {rest[ROUNDS // 2]:.2f} s, fastest {rest[0]:.2f} s, slowest {rest[-1]:.2f} s"
            )
        finally:
            portal.send_signal(signal.SIGTERM)
            portal.wait(timeout=30)


if __name__ == "__main__":
    main()
