"""``python3 manage.py test``: the whole suite. Becomes pytest and returns its exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

SOURCES = ("profiling", "hardware", "llmcompare", "serving")


def command(arguments: list[str], cpus: int | None) -> list[str]:
    """The pytest command. Every argument but these three goes to pytest as it is.

    ``--all`` also runs what is marked slow, ``--exhaustive`` that and what is marked exhaustive: examples without end, and every
    combination of what is tried in pairs. ``--coverage`` counts which lines of our own code run: following every line more than doubles
    the time of analyses, so it is asked for.
    """
    rest = [a for a in arguments if a not in ("--all", "--exhaustive", "--coverage")]
    options = []
    if "--coverage" in arguments:
        options += [f"--cov={name}" for name in SOURCES] + ["--cov-report=term:skip-covered"]
    if not any(a == "-n" or a.startswith(("-n=", "--numprocesses")) for a in rest):
        # loadgroup keeps tests that share something costly (a browser and its portal) in one process. More than four
        # processes do not pay: the slow tests wait for real servers and load real models.
        options += ["-n", str(max(1, min(4, cpus or 1))), "--dist", "loadgroup"]
    if "--exhaustive" not in arguments and not any(a == "-m" or a.startswith("-m=") for a in rest):
        options += ["-m", "not exhaustive" if "--all" in arguments else "not slow and not exhaustive"]
    return [sys.executable, "-m", "pytest", *options, *rest]


def run(root: str, arguments: list[str]) -> NoReturn:
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, command(arguments, os.cpu_count()))  # noqa: S606
