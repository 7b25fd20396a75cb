"""``python3 manage.py test``: the whole suite with the coverage of our own code. Becomes pytest and returns its exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

SOURCES = ("profiling", "hardware", "llmcompare")


def command(arguments: list[str], cpus: int | None) -> list[str]:
    """The pytest command. ``--all`` also runs what is marked slow; every other argument goes to pytest as it is."""
    rest = [a for a in arguments if a != "--all"]
    options = [f"--cov={name}" for name in SOURCES] + ["--cov-report=term:skip-covered"]
    if not any(a == "-n" or a.startswith(("-n=", "--numprocesses")) for a in rest):
        # loadgroup keeps tests that share something costly (a browser and its portal) in one process. More than four
        # processes do not pay: the slow tests wait for real servers and load real models.
        options += ["-n", str(max(1, min(4, cpus or 1))), "--dist", "loadgroup"]
    if "--all" not in arguments and not any(a == "-m" or a.startswith("-m=") for a in rest):
        options += ["-m", "not slow"]
    return [sys.executable, "-m", "pytest", *options, *rest]


def run(root: str, arguments: list[str]) -> NoReturn:
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, command(arguments, os.cpu_count()))  # noqa: S606
