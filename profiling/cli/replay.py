"""``python -m profiling replay``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from profiling.cli import inputs
from profiling.cli.answers import deliver
from profiling.cli.measure import show
from profiling.quantities import say


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "replay",
        help="predict a model's times on this machine from its operators, each timed alone",
        description="Time every different operator of a model alone on this machine's GPU or processor, weights and cache read from memory as "
        "in the model, and put its passes together. Nothing of the model is loaded, so it may be larger than the memory. What was timed is "
        "kept in a table of this machine and device; operators that it has are not timed again, and with --stored none is.",
        epilog="example: python -m profiling replay --model gpt2 --input-tokens 128 --output-tokens 32 --dtype fp32",
    )
    inputs.add_model(parser)
    group = parser.add_argument_group("workload")
    group.add_argument("--batch", type=int, default=1, help="sequences at once (default %(default)s)")
    inputs.add_input_tokens(group, 128, "prompt tokens per sequence (default %(default)s)")
    group.add_argument(
        "--output-tokens",
        "--output",
        dest="output",
        metavar="N",
        type=int,
        default=32,
        help="generated tokens per sequence (default %(default)s)",
    )
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="bf16", help="default %(default)s")
    group.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="default %(default)s")
    group.add_argument("--logits", choices=("last", "all"), default="last", help="default %(default)s")
    group = parser.add_argument_group("replay")
    group.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="the processor or the first CUDA GPU (default: the GPU if torch sees one, else the processor)",
    )
    group.add_argument("--threads", type=int, help="of the processor (default: one per physical core)")
    group.add_argument(
        "--table", metavar="FILE", help="table of this machine and device (default: a file in the user's cache)"
    )
    group.add_argument("--stored", action="store_true", help="time nothing: predict from what the table has")
    group.add_argument(
        "--cap", metavar="BYTES", type=int, help="largest memory of one operator; larger ones are interpolated"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the prediction to FILE; - or nothing: to standard output",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from profiling import host
    from profiling.client import EngineChild, EngineError
    from profiling.replay import table as tables
    from profiling.spec import SpecError, Workload

    model = inputs.model_spec(arguments)
    workload = Workload(
        batch_size=arguments.batch,
        input_tokens=arguments.input,
        output_tokens=0 if model.kind == "encoder" else arguments.output,
        dtype=arguments.dtype,
        attn_implementation=arguments.attention,
        logits=arguments.logits,
    )
    workload.check()
    for name in ("threads", "cap"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise SpecError(name, "Enter a whole number from 1, or leave it out.")
    found = host.detect()
    request: dict[str, Any] = {
        "model": model.to_json(),
        "workloads": [workload.to_json()],
        "timed": not arguments.stored,
        **({"cap_bytes": arguments.cap} if arguments.cap else {}),
    }
    try:
        with EngineChild() as engine:
            device = engine.request("replay_device", {"device": arguments.device}, timeout_s=300)["device"]
            if device != tables.CPU and arguments.threads:
                raise SpecError("threads", "Threads play no part on a GPU: leave them out, or choose --device cpu.")
            threads = 0 if device != tables.CPU else arguments.threads or host.cores()[0]
            fingerprint = found["fingerprint"]
            path = Path(arguments.table) if arguments.table else tables.default_path(fingerprint, threads, device)
            table = tables.read(path, fingerprint, found["packages"]["torch"] or "", threads, device)
            request["table"] = table.to_json()
            answer = engine.request("replay", request, on_progress=show, timeout_s=1800)
    except EngineError as error:
        print(f"error: {error.field or error.phase}: {error}", file=sys.stderr)
        return 1
    (document,) = answer["predictions"]
    status = 0
    if not arguments.stored:
        try:
            tables.write(tables.Table.from_json(answer["table"]), path)
        except OSError as error:
            print(
                f"error: table: {path} cannot be written: {error}. What it had before is still there.", file=sys.stderr
            )
            status = 1
    return deliver(document, arguments.json, summary(document)) or status


def summary(document: dict[str, Any]) -> list[str]:
    """The prediction in a screenful: each stage with its parts, what was interpolated, and what is not known."""
    from profiling.replay.names import METRICS
    from profiling.units import DEFINITIONS

    device, threads = document["host"]["device"], document["host"]["threads"]
    where_on = f"on this host ({threads} threads)" if device == "cpu" else f"on {device}"
    lines = [f"{document['model']['name']} {where_on}, predicted by operator replay", ""]
    for stage, parts in document["stages"].items():
        metric = document["metrics"][METRICS[stage]]
        value = (
            say(metric["value"], "s")
            if metric["value"] is not None
            else f"unknown, at least {say(parts['known_s'], 's')}"
        )
        bounds = ""
        if metric["value"] is not None and metric["high"] > metric["low"]:
            bounds = f"  ({say(metric['low'], 's')} to {say(metric['high'], 's')})"
        lines.append(f"  {DEFINITIONS[metric['definition']].name:<24} {value}{bounds}")
        counts = parts["operators"]
        lines.append(f"    {counts['own']} operators timed as they are: {say(parts['own_s'], 's')}")
        if counts["interpolated"] or counts["extrapolated"]:
            beyond = f", {counts['extrapolated']} of them beyond the timed shapes" if counts["extrapolated"] else ""
            total = counts["interpolated"] + counts["extrapolated"]
            lines.append(f"    {total} operators interpolated{beyond}: {say(parts['interpolated_s'], 's')}")
        where = {"twin": "of its narrow twin", "other models": "as in other models", "unknown": "unknown"}
        beside = "between operators" if parts["combined"] == "sum" else "the host's work for the pass"
        lines.append(f"    {beside} ({where[parts['glue_from']]}): {say(parts['glue_s'], 's')}")
        if parts["combined"] == "larger":
            slower = {"host": ": the host's", "device": ": the device's", None: ""}[parts["bound"]]
            lines.append(f"    host and device work at the same time, so the larger counts{slower}")
        if parts["unknown_operators"]:
            lines.append(f"    without a time: {', '.join(parts['unknown_operators'])}")
    lines += [f"  not timed: {item['operator'][:80]}: {item['reason']}" for item in document["not_replayed"][:8]]
    if document["conditions"]["contended"]:
        lines.append("  note: other work disturbed this. " + " ".join(document["conditions"]["reasons"]))
    return lines
