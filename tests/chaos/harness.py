"""A portal without pages: its database and broker, real worker processes, and a control process to launch runs and read rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
LEASE_S, SWEEP_S = 4, 1


def await_that(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """The first true value of ``condition``, asked ten times a second; fails with ``what`` after the time limit."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"After {timeout_s} s still not true: {what}")
        time.sleep(0.1)
    return value


class Worker:
    """One Celery worker process with its log."""

    def __init__(self, portal: Portal, host: str) -> None:
        self.host = host
        self.log_path = portal.folder / f"worker-{len(portal.workers)}.log"
        queues = f"estimate,hw.{host}"
        arguments = ["worker", "-P", "threads", "-c", "1", "-Q", queues, "-n", f"{len(portal.workers)}@%h"]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "llmcompare", *arguments],
                cwd=ROOT,
                env=portal.environment | {"LLMCOMPARE_HOST": host},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def name(self) -> str:
        return f"{self.host}:{self.process.pid}"

    def engines(self) -> list[psutil.Process]:
        """Its engine processes that are alive."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if _is_engine(child)]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> list[psutil.Process]:
        """kill -9; returns the engines that it had."""
        engines = self.engines()
        self.process.kill()
        self.process.wait(10)
        return engines

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()


def _is_engine(process: psutil.Process) -> bool:
    try:
        return "profiling.child" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


class Portal:
    """A data folder, a database and a broker of its own. A context manager: at the end no process is left."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str = "",
        broker_url: str = "",
        hosts: tuple[str, ...] = ("chaos", "second"),
        control: str = "tests.chaos.control",
        settings: dict[str, str] | None = None,
    ) -> None:
        """``hosts`` count as prepared: their workers measure no ceilings, so that nothing else runs beside a test. ``control``: the module of
        the control process, ``settings``: further variables."""
        self.folder = folder
        self.workers: list[Worker] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("LLMCOMPARE_", "PYTEST_"))},
            "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
            "LLMCOMPARE_DATA": str(folder / "data"),
            "LLMCOMPARE_LEASE_S": str(LEASE_S),
            "LLMCOMPARE_SWEEP_S": str(SWEEP_S),
            "LLMCOMPARE_MAX_ACTIVE_RUNS": "100",
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "OMP_NUM_THREADS": "1",
            **(settings or {}),
        }
        self.manage("migrate", "-v", "0")
        self._control = subprocess.Popen(
            [sys.executable, "-m", control],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.call("setup", hosts=hosts)

    def __enter__(self) -> Portal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_workers()
        self._control.stdin.close()
        self._control.wait(20)

    def manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments, "--skip-checks"]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def call(self, name: str, **arguments: Any) -> Any:
        self._control.stdin.write(json.dumps({"call": name} | arguments) + "\n")
        self._control.stdin.flush()
        answer = json.loads(self._control.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    # --- workers ---

    def start_worker(self, host: str = "chaos") -> Worker:
        """A worker that has registered its machine."""
        worker = Worker(self, host)
        self.workers.append(worker)

        def up() -> bool:
            assert worker.process.poll() is None, worker.log
            return "This machine is" in worker.log

        await_that(up, f"the worker is up: {worker.log_path}")
        return worker

    def stop_workers(self) -> None:
        for worker in self.workers:
            worker.stop()

    # --- runs ---

    def estimate(self, count: int = 1) -> list[int]:
        return self.call("launch", kind="estimate", workload={"output_tokens": 4}, count=count)["ids"]

    def measure(self, seconds: float = 8, host: str = "chaos") -> int:
        """A measurement of the tiny model that takes at most about so long on a busy machine, and a third of it on an idle one."""
        iterations = max(1, int(seconds * ITERATIONS_PER_S))
        workload = {"dtype": "fp32", "input_tokens": 16, "output_tokens": 32, "iterations": iterations}
        return self.call("launch", kind="measure", workload=workload, host=host)["ids"][0]

    def row(self, run_id: int) -> dict[str, Any]:
        return self.call("rows", ids=[run_id])[0]

    def await_state(self, run_id: int, *states: str, timeout_s: float = 90) -> dict[str, Any]:
        def look():
            row = self.row(run_id)
            return row if row["state"] in states else None

        return await_that(look, f"run is {' or '.join(states)}; it is {self.row(run_id)}", timeout_s)

    def await_work(self, run_id: int, worker: Worker) -> dict[str, Any]:
        """Wait until the engine of ``worker`` is in the middle of the run's timed iterations."""

        def look():
            row = self.row(run_id)
            assert row["state"] in ("queued", "running"), row
            return row if row["worker"] == worker.name and row["stage"] in WORKING_STAGES else None

        return await_that(look, f"{worker.name} works on the run; it is {self.row(run_id)}\n{worker.log}", 60)


#: Stages of a measurement in which its engine computes; and how many iterations of the tiny model that takes.
WORKING_STAGES = ("iterations",)
ITERATIONS_PER_S = 8
