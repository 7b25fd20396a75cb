"""``python -m profiling ceilings``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from profiling.cli import inputs
from profiling.cli.measure import show


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "ceilings",
        help="the rates that plain kernels reach on this machine: the roofs of measured runs",
        description="Measure matrix products, matrix-vector products, copies, attention and the cost of calling an operator on this "
        "machine, each as the best of several calls with the median beside it.",
        epilog="example: python -m profiling ceilings --quick --json ceilings.json",
    )
    parser.add_argument("--quick", action="store_true", help="about 5 s on a quiet machine, instead of half a minute")
    parser.add_argument("--threads", type=int, help="default: one per physical core, and one")
    parser.add_argument("--cpu", action="store_true", help="measure the processor even where there is an accelerator")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE, or - for standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from profiling.client import EngineChild, EngineError

    options = {"quick": arguments.quick, "threads": arguments.threads, "kind": "cpu" if arguments.cpu else None}
    try:
        with EngineChild() as engine:
            document = engine.request("ceilings", options, on_progress=show, timeout_s=600)
    except EngineError as error:
        print(f"error: {error.field or error.phase}: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        inputs.write_json(document, arguments.json)
    if arguments.json != "-":
        print("\n".join(table(document)))
    return 0


def table(document: dict[str, Any]) -> list[str]:
    """One line per ceiling: class, dtype, threads, best, median, and whether anything disturbed it."""
    lines = [f"{'kernel':<12} {'dtype':<6} {'threads':>7} {'best':>14} {'median':>14}  unit     quality"]
    for row in document["rows"]:
        best, median = (_scaled(row[key], row["unit"]) for key in ("value", "median"))
        threads = row["threads"] or "-"
        lines.append(
            f"{row['op_class']:<12} {row['dtype']:<6} {threads:>7} {best:>14} {median:>14}  {row['unit']:<8} {row['quality']}"
        )
    lines += [f"not here: {item['op_class']} {item['dtype']}: {item['reason']}" for item in document["skipped"]]
    return lines


def _scaled(value: float, unit: str) -> str:
    return f"{value * 1e6:.3f} µ" if unit == "s" else f"{value / 1e9:,.1f} G"
