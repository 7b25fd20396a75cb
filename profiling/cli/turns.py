"""``python -m profiling turns``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from profiling.cli.answers import deliver
from profiling.cli.measure import add_load, add_options, asked, load_of, show
from profiling.quantities import say
from profiling.spec import SpecError, Workload

#: What may differ between the two sides: the rest would be another question, to which times give no answer.
CHANGES = ("dtype", "threads", "attn_implementation", "logits", "seed")


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "turns",
        help="measure two settings in turns, and say whether one is faster",
        description="Measure a model on this machine as it is (A) and with --other settings (B), in turns: A B, B A, A B, each in a fresh "
        "process, so that a drift of the machine meets both alike. Says for each metric whether B is faster, slower, or no difference "
        "was shown, and which module moved.",
        epilog="example: python -m profiling turns -m gpt2 --dtype fp32 --processes 5 --other threads=1",
    )
    add_options(parser)
    add_load(parser)
    parser.add_argument(
        "--other",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help=f"a setting of B; of {', '.join(CHANGES)}; several times for several; none: B is the same program as A",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the document of B, with that of A in it, to FILE; - or nothing: to standard output",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from profiling.client import EngineError
    from profiling.turns import measure_in_turns

    changes = changed(arguments.other)
    load = load_of(arguments)
    base, protocol = asked(arguments)
    base |= {"load": load.to_json() if load else None}
    workload = Workload.from_json(base["workload"] | changes)
    workload.check()
    other = base | {"workload": workload.to_json()}
    try:
        document = measure_in_turns(base, other, protocol, on_progress=show, timeout_s=arguments.time_limit)
    except EngineError as error:
        print(f"error: {error.field or error.phase}: {error.message}", file=sys.stderr)
        return 1
    return deliver(document, arguments.json, summary(document, changes))


def changed(settings: list[str]) -> dict[str, Any]:
    """The settings of B from ``name=value``. Raises :class:`SpecError` for a name that is none, or a value that is missing."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if name not in CHANGES:
            raise SpecError("other", f"{name!r} is not a setting of B: choose of {', '.join(CHANGES)}.")
        if not equals or not text.strip():
            raise SpecError("other", f"Give {name} a value: --other {name}=VALUE.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text.strip()
    return found


def summary(document: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    """A line and its reasons for each metric."""
    from profiling.judgements import where_text
    from profiling.units import DEFINITIONS

    turns = document["in_turns"]
    settings = ", ".join(f"{name} {value}" for name, value in changes.items()) or "the same program"
    lines = [f"{document['model']['name']}: B ({settings}) against A, {turns['order']}", ""]
    for key, verdict in turns["verdicts"].items():
        definition = DEFINITIONS[f"{key}/1"]
        a, b = (say(side["metrics"][key]["value"], definition.unit) for side in (turns["base"], document))
        lines.append(f"  {definition.name:<36} A {a}, B {b}: {verdict['verdict']}")
        lines += [f"      {reason}" for reason in verdict["reasons"]]
        if text := where_text(verdict["modules"]):
            lines.append(f"      {text}")
    lines += [f"  note: {warning['message']}" for warning in document["warnings"]]
    return lines
