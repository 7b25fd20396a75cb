"""The container of a deployment, as a process on a free port: Vertex AI's variables, health checks until it is ready, its last lines."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Images that are scripts of the tests; every other image is the real serving container.
SCRIPTS = {"tests/echo": "tests.standins.vertex.echo"}
STOP_S = 5.0
HEALTH_S = 0.1


class Died(Exception):
    """The process ended, or was not ready in time; the text is Google's way of saying it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(image: str, given: Sequence[str]) -> list[str]:
    """``given``: the command of the container's specification, which replaces that of the image."""
    if given:
        return [sys.executable if given[0] == "python" else given[0], *given[1:]]
    return [sys.executable, "-m", SCRIPTS.get(image.split(":")[0], "serving")]


class Container:
    """One running container of a deployed model. ``spec``: google.cloud.aiplatform.v1.ModelContainerSpec."""

    def __init__(
        self, spec: Any, *, endpoint_id: str, deployed_id: str, storage: str, local_storage: Path | None
    ) -> None:
        self.port = free_port()
        self.health, self.predict = spec.health_route or "/health", spec.predict_route or "/predict"
        self.invoke = bool(spec.invoke_route_prefix)
        self._log = tempfile.NamedTemporaryFile(prefix="vertex-container-", suffix=".log", delete=False)  # noqa: SIM115
        own = {one.name: one.value for one in spec.env}
        aip = {
            "AIP_HTTP_PORT": str(self.port),
            "AIP_HEALTH_ROUTE": self.health,
            "AIP_PREDICT_ROUTE": self.predict,
            "AIP_STORAGE_URI": _local(storage, local_storage),
            "AIP_MODE": "PREDICTION",
            "AIP_ENDPOINT_ID": endpoint_id,
            "AIP_DEPLOYED_MODEL_ID": deployed_id,
            "LLMCOMPARE_BIND": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            command(spec.image_uri, [*spec.command, *spec.args] if spec.command else []),
            env=_inherited() | own | aip,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait_ready(self, timeout_s: float, stopped: threading.Event) -> None:
        """Ask for health until it is 200. Raises :class:`Died`."""
        end = time.monotonic() + timeout_s
        while not stopped.is_set():
            if self.process.poll() is not None:
                raise Died(
                    "Model server exited unexpectedly. Model server logs can be found at the Cloud Logging page."
                )
            if time.monotonic() > end:
                raise Died("Model server never became ready. Please validate that your model file or container works.")
            if self._healthy():
                return
            stopped.wait(HEALTH_S)
        raise Died("The deployment was cancelled.")

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def lines(self) -> list[str]:
        with open(self._log.name, errors="replace") as file:
            return [line for line in file.read().splitlines() if line.strip()]

    def stop(self) -> None:
        """The way the service does it: politely, then not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log.name)


def _local(storage: str, folder: Path | None) -> str:
    """``gs://local/NAME`` is a folder here; what a real bucket's address would be is passed on as it is."""
    prefix = "gs://local/"
    return str(folder / storage.removeprefix(prefix)) if folder is not None and storage.startswith(prefix) else storage


def _inherited() -> Mapping[str, str]:
    """A container has nothing of the portal's environment: no database, no keys, no settings."""
    kept = ("PATH", "HOME", "PYTHONPATH", "TMPDIR", "LANG", "VIRTUAL_ENV", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in kept if name in os.environ}
