"""The command line. A module in this folder that has ``add(commands)`` is a sub-command: ``add`` makes its parser with
``commands.add_parser(...)`` and sets ``run`` (a function from the parsed arguments to the exit status) as a default.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

from profiling.plugins import VARIABLE
from profiling.spec import SpecError


def parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands. Imports neither torch nor transformers: ``--help`` is quick."""
    top = argparse.ArgumentParser(
        prog="python -m profiling",
        description="Analyse language models: estimates without weights, traces of operators, measurements on this machine.",
        epilog="See 'python -m profiling COMMAND --help' for the options of a command.",
    )
    _add_plugin(top)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "add"):
            module.add(commands)
    return top


def _add_plugin(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--plugin",
        metavar="MODULE",
        action="append",
        default=[],
        help="installed Python module that adds operators or model classes (docs/extending.md); may be given several times",
    )


def _use_plugins(argv: Sequence[str] | None) -> list[str]:
    """Take ``--plugin`` out of the arguments, wherever it stands, and tell this process and its children."""
    alone = argparse.ArgumentParser(prog="python -m profiling", add_help=False, allow_abbrev=False)
    _add_plugin(alone)
    found, rest = alone.parse_known_args(argv)
    if found.plugin:
        os.environ[VARIABLE] = ",".join([*filter(None, [os.environ.get(VARIABLE)]), *found.plugin])
    return rest


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a bad input is one line on stderr and exit status 2."""
    arguments = parser().parse_args(_use_plugins(argv))
    try:
        return arguments.run(arguments) or 0
    except SpecError as error:
        print(f"error: {error.field}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
