"""``python -m profiling ceilings``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from profiling.cli.answers import deliver
from profiling.cli.measure import show


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ceilings",
        help="the rates that plain kernels reach on this machine: the roofs of measured runs",
        description="Measure matrix products, matrix-vector products, copies, attention and the cost of calling an operator on this "
        "machine in several fresh processes. A ceiling is accepted when the processes agree within 10 %; what disagrees is asked again "
        "and marked contended when it still does.",
        epilog="example: python -m profiling ceilings --quick --json ceilings.json",
    )
    parser.add_argument(
        "--quick", action="store_true", help="shorter timings and without kernels that take seconds on most processors"
    )
    parser.add_argument("--threads", type=int, help="default: one per physical core, and one")
    parser.add_argument(
        "--processes", type=int, default=3, help="fresh processes that must agree (default %(default)s)"
    )
    parser.add_argument("--cpu", action="store_true", help="measure the processor even where there is an accelerator")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the rows to FILE; - or nothing: to standard output"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from profiling.ceiling_processes import measure_ceilings_in_processes
    from profiling.client import EngineError

    try:
        document = measure_ceilings_in_processes(
            quick=arguments.quick,
            threads=arguments.threads,
            kind="cpu" if arguments.cpu else None,
            processes=arguments.processes,
            on_progress=show,
            timeout_s=1200,
        )
    except EngineError as error:
        print(f"error: {error.field or error.phase}: {error}", file=sys.stderr)
        return 1
    return deliver(document, arguments.json, table(document))


def table(document: dict[str, Any]) -> list[str]:
    """One line per ceiling: class, dtype, threads, best, median, how far the processes are apart, and whether they agree."""
    head = f"{'kernel':<20} {'dtype':<6} {'threads':>7} {'best':>14} {'median':>14}  {'unit':<8} {'spread':>8}  quality"
    lines = [head]
    for row in document["rows"]:
        best, median = (_scaled(row[key], row["unit"]) for key in ("value", "median"))
        threads, spread = row["threads"] or "-", row["detail"]["spread_pct"]
        lines.append(
            f"{row['op_class']:<20} {row['dtype']:<6} {threads:>7} {best:>14} {median:>14}  {row['unit']:<8} {spread:>6.1f} %  "
            f"{row['quality']} ({agreement(row['detail'])})"
        )
    for item in document["skipped"]:
        lines.append(f"not here: {item['op_class']} {item['dtype']}: {item['reason']}")
    return lines


def agreement(detail: dict[str, Any]) -> str:
    """How many processes reached the best rate, in words."""
    text = f"{detail['agreed']} of {len(detail['values'])} processes agree"
    disturbed = detail["agreed"] - detail["undisturbed"]
    return f"{text}, {disturbed} of them disturbed" if disturbed else text


def _scaled(value: float, unit: str) -> str:
    return f"{value * 1e6:.3f} µ" if unit == "s" else f"{value / 1e9:,.1f} G"
