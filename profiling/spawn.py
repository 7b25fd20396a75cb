"""How an engine process is started: from which thread, with which environment, in which folder. Standard library only."""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

FOLDER_PREFIX = "llmcompare-engine-"

#: How long OpenMP's threads spin at a barrier before they sleep. With libgomp's own 300,000, a thread that waits for a partner which
#: the system has taken off its core burns the core that the partner needs: beside one busy process on two cores, a prefill took
#: 1.3 s instead of 0.04 s. 2,000 cost nothing on a quiet machine. The value is in each document's environment.
SPIN_COUNT = "2000"

#: What a child may know of its surroundings. Everything else stays behind, above all credentials and proxy addresses.
KEPT_VARIABLES = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF",
    "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    "KMP_AFFINITY", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "ONEDNN_MAX_CPU_ISA", "MALLOC_ARENA_MAX",
    "LLMCOMPARE_PLUGINS", "LLMCOMPARE_PLUGIN_SCHEMA",
)  # fmt: skip


def child_environment(*, folder: str, result_fd: int) -> dict[str, str]:
    """The child's whole environment: the kept variables, offline switches, and its own folder for everything it writes."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & kept.keys():
        kept["GOMP_SPINCOUNT"] = SPIN_COUNT
    return kept | {
        "HOME": folder,
        "TMPDIR": folder,
        "HF_HOME": folder,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "KINETO_LOG_LEVEL": "99",  # or torch's profiler says in every run's log that it starts and stops
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "LLMCOMPARE_RESULT_FD": str(result_fd),
        "LLMCOMPARE_PARENT_PID": str(os.getpid()),
    }


class _Spawner:
    """Starts processes from one thread that lives as long as this process.

    Linux sends the parent-death signal when the *thread* that started a process ends, not only its process. A child started
    from a request's thread would therefore die with that request.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], list[str], dict[str, Any]]] = queue.SimpleQueue()
        self.pid = os.getpid()
        threading.Thread(target=self._serve, name="engine-spawner", daemon=True).start()

    def _serve(self) -> None:
        while True:
            future, arguments, options = self._jobs.get()
            try:
                future.set_result(subprocess.Popen(arguments, **options))  # noqa: S603 - our own interpreter
            except BaseException as error:
                future.set_exception(error)

    def spawn(self, arguments: list[str], options: dict[str, Any]) -> subprocess.Popen[bytes]:
        future: Future[Any] = Future()
        self._jobs.put((future, arguments, options))
        return future.result()


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def spawn(arguments: list[str], **options: Any) -> Any:
    """``subprocess.Popen`` from the spawner thread, which is started at the first call and again after a fork."""
    global _spawner
    with _spawner_lock:
        if _spawner is None or _spawner.pid != os.getpid():
            _spawner = _Spawner()
    return _spawner.spawn(arguments, options)


def die_with_parent() -> None:
    """Linux: this process is killed, even while it is stopped or held up in a driver, when the thread that started it ends."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def temporary_folder_name() -> str:
    """Prefix of the child's folder: it carries our pid, so that a later process can see that we are gone."""
    return f"{FOLDER_PREFIX}{os.getpid()}-"


def remove_stale_folders() -> None:
    """Remove folders of engine processes whose parent no longer exists (it was killed and could not clean up)."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        try:
            if not owner.isdigit() or folder.stat().st_uid != os.getuid():
                continue
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
