"""The command line. A module in this folder that has ``add(commands)`` is a sub-command: ``add`` makes its parser with
``commands.add_parser(...)`` and sets ``run`` (a function from the parsed arguments to the exit status) as a default.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from profiling.spec import SpecError


def parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands. Imports neither torch nor transformers: ``--help`` is quick."""
    top = argparse.ArgumentParser(
        prog="python -m profiling",
        description="Analyse language models: estimates without weights, traces of operators, measurements on this machine.",
        epilog="See 'python -m profiling COMMAND --help' for the options of a command.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "add"):
            module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a bad input is one line on stderr and exit status 2."""
    arguments = parser().parse_args(argv)
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
