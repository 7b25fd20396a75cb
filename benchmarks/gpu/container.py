"""The serving container on this device: a process of its own, asked over HTTP for an answer with its profile."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.speed.clock import ROOT
from profiling.quantities import say
from profiling.remote.packed import unpack

READY_S, ANSWER_S = 120, 200
TOKENS = 16
NEEDED = ("starlette", "uvicorn")


class NotHere(Exception):
    """A package of the container is not installed."""


def served(config: dict[str, Any], dtype: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the answer's first prediction without its profile, the profile's run document) of a model with random weights.

    Raises :class:`NotHere`, and :class:`RuntimeError` with what the container said where it did not become ready.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise NotHere(f"{' and '.join(missing)} of requirements/serving.txt not installed")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        Path(folder, "config.json").write_text(json.dumps(config))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = Path(folder, "log.txt")
        variables = {"LLMCOMPARE_MODEL": folder, "LLMCOMPARE_RANDOM_WEIGHTS": "1", "LLMCOMPARE_DTYPE": dtype}
        with log.open("w") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving"],
                cwd=ROOT,
                env=os.environ | variables | {"AIP_HTTP_PORT": str(port)},
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _ready(f"{address}/health", process, log)
            parameters = {"max_tokens": TOKENS, "ignore_eos": True, "profile": True}
            asked = {"instances": [{"prompt": "What is the capital of France? " * 8}], "parameters": parameters}
            answer = _call(f"{address}/predict", asked)["predictions"][0]
        finally:
            process.terminate()
            process.wait(timeout=30)
    packed = answer.pop("profile")
    if packed is None:
        raise RuntimeError(f"no profile: {answer.get('profile_error')}")
    return answer, unpack(packed)


def check(config: dict[str, Any], dtype: str, device: str) -> tuple[bool, str, dict[str, Any]]:
    """(whether it was served on ``device`` with a profile of the same pass; in words; the answer). ``device``: ``cpu`` or ``cuda``."""
    answer, document = served(config, dtype)
    server, usage = answer["server"], answer["usage"]
    peak, estimated = document["metrics"]["peak_memory"]["value"], document["memory"]["estimate"]["total_bytes"]
    words = [
        f"on {server['device']}, {usage['completion_tokens']} tokens",
        f"ttft {say(server['ttft_s'], 's')}, tpot {say(server['tpot_s'], 's')} by the container's clock",
        f"profile of {', '.join(document['instrumentation'])}, peak {say(peak, 'B')}, estimated {say(estimated, 'B')}",
    ]
    good = str(server["device"]).startswith(device) and usage["completion_tokens"] == TOKENS
    good &= set(document["instrumentation"]) == {"prefill", "decode"} and bool(document["modules"]["rows"])
    return good, ", ".join(words), answer


def _ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise RuntimeError(f"the container did not become ready: {log.read_text(errors='replace')[-300:]}")


def _call(address: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
