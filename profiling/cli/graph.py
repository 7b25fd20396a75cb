"""``python -m profiling graph``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from profiling.cli import inputs
from profiling.graph_exports import EXPORTERS
from profiling.spec import SpecError


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "graph",
        help="the layer graph of an estimate, as a file for Graphviz or Google's Model Explorer",
        description="Write the layer graph of a model: modules with identical blocks folded, the tensors that flow between them "
        "with shapes and bytes, and FLOPs, bytes, memory, time and bound of each part on a device.",
        epilog="example: python -m profiling graph -m gpt2 -d nvidia-h100-sxm5-80gb --stage decode --format dot | dot -Tsvg > gpt2.svg",
    )
    inputs.add_model(parser)
    inputs.add_hardware(parser)
    inputs.add_workload(parser)
    inputs.add_front_ends(parser)
    group = parser.add_argument_group("graph")
    group.add_argument(
        "--stage", choices=("prefill", "decode", "encode", "encode_audio"), help="default: every stage of the model"
    )
    group.add_argument("--format", "-f", choices=sorted(EXPORTERS), default="dot", help="default %(default)s")
    group.add_argument("--file", "-o", metavar="FILE", default="-", help="default: standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    model, hardware = inputs.model_spec(arguments), inputs.hardware_spec(arguments)
    workload = inputs.workload(arguments)
    from profiling.estimate import estimate

    text = write(estimate(model, hardware, workload), arguments.format, arguments.stage)
    if arguments.file == "-":
        sys.stdout.write(text)
    else:
        try:
            Path(arguments.file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise SpecError("file", f"{arguments.file} cannot be written: {error.strerror}.") from error
    return 0


def write(document: dict[str, Any], form: str, stage: str | None) -> str:
    """The graph of ``document`` in a format of :data:`EXPORTERS`; of one stage, or of all when ``stage`` is None."""
    graphs = document["graph"]
    if stage is not None:
        if stage not in graphs:
            raise SpecError("stage", f"This run has no stage {stage}: it has {', '.join(graphs)}.")
        graphs = {stage: graphs[stage]}
    return EXPORTERS[form].write(graphs, f"{document['model']['name']} on {document['hardware']['name']}")
