#!/usr/bin/env python3
"""The one entry point: ``python3 manage.py up`` starts the portal, ``python3 manage.py test`` runs the tests.

Any supported Python will do: what is missing is installed into ``.venv`` first. This file must stay readable for every Python
that somebody may start it with, or they would get a syntax error in place of the reason.
"""

# ruff: noqa: UP031  (a format that Python 2 and early Python 3 can read)

import os
import sys

OLDEST, NEWEST = (3, 11), (3, 14)


def python_problem(version, os_name=os.name):
    """Why this interpreter cannot be used, as sentences; None when it can."""
    found = "This is Python %d.%d. " % tuple(version[:2])
    need = "llmcompare needs Python %d.%d to %d.%d." % (OLDEST + NEWEST)
    if os_name == "nt":
        return "llmcompare does not run on Windows itself. Use WSL2 (see README.md): install Ubuntu there and start it inside."
    if tuple(version[:2]) < OLDEST:
        return found + "It is too old: " + need
    if tuple(version[:2]) > NEWEST:
        return (
            found
            + "It is too new: from 3.15 on the standard library has a package named profiling, which cProfile imports; "
            "the engine's folder of the same name would take its place and break it. " + need
        )
    return None


def other_python(path=None):
    """The name of a supported interpreter on this machine, the newest first; None when there is none."""
    folders = (os.environ.get("PATH", "") if path is None else path).split(os.pathsep)
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        name = "python3.%d" % minor
        if any(os.access(os.path.join(folder, name), os.X_OK) for folder in folders if folder):
            return name
    return None


def main():
    root = os.path.dirname(os.path.abspath(__file__))
    problem = python_problem(sys.version_info)
    if problem:
        better = other_python()
        if better and os.name != "nt":
            problem += "\nThere is one here: %s manage.py %s" % (better, " ".join(sys.argv[1:]) or "up")
        sys.exit(problem)

    from llmcompare import bootstrap

    bootstrap.ensure_or_exit(root, sys.argv)  # comes back only inside the project's own environment

    if sys.argv[1:2] == ["test"]:
        from llmcompare import testing

        testing.run(root, sys.argv[2:])

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
    from django.core.management import execute_from_command_line

    from llmcompare.env import ConfigurationError

    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        sys.exit("A setting cannot be used. %s" % error)


if __name__ == "__main__":
    main()
