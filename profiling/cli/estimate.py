"""``python -m profiling estimate``."""

from __future__ import annotations

import argparse
from typing import Any

from profiling.cli import inputs
from profiling.cli.answers import deliver
from profiling.quantities import say

_MEMORY = (
    "weights_bytes",
    "kv_cache_bytes",
    "state_bytes",
    "activation_peak_bytes",
    "widened_bytes",
    "total_bytes",
)


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "estimate",
        help="times and memory of a model on a device, from its configuration alone",
        description="Estimate time to first token, time per output token and memory of a model on a device. Needs neither "
        "weights nor the device: the real model code is traced without data, and every operator is put under the roofline.",
        epilog="example: python -m profiling estimate -m llama-3-70b -d nvidia-h100-sxm5-80gb --input-tokens 2048 "
        "--output-tokens 256",
    )
    inputs.add_model(parser)
    inputs.add_hardware(parser)
    inputs.add_workload(parser)
    inputs.add_front_ends(parser)
    inputs.add_parallelism(parser)
    inputs.add_conventions(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the whole run document to FILE; - or nothing: to standard output",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    model, hardware = inputs.model_spec(arguments), inputs.hardware_spec(arguments)
    workload = inputs.workload(arguments)
    from profiling.estimate import estimate

    document = estimate(model, hardware, workload)
    return deliver(with_figures(document), arguments.json, summary(document))


def with_figures(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the sizes that scripts ask for where they look first: bytes of keys and values (``cache_bytes``) and of states after
    the last step, and those of ``memory.estimate`` in ``memory`` itself."""
    memory = document["memory"]
    sizes = memory["estimate"]
    return {
        **document,
        "kv_cache_bytes_per_token": memory["kv_cache_bytes_per_token"],
        "cache_bytes": sizes["kv_cache_bytes"],
        "state_bytes": sizes["state_bytes"],
        "memory": {**{name: sizes[name] for name in (*_MEMORY, "capacity_bytes", "fits")}, **memory},
    }


def summary(document: dict[str, Any]) -> list[str]:
    """The document in a screenful of text."""
    from profiling.units import DEFINITIONS

    model, memory = document["model"], document["memory"]["estimate"]
    lines = [
        f"{model['name']} ({model['architecture']}, {model['parameters']:,} parameters) on {document['hardware']['name']}",
        f"  ceilings: {document['conventions']['ceilings']}",
        *([f"  {note}"] if (note := document["conventions"].get("front_ends")) else []),
        "",
    ]
    for metric in document["metrics"].values():
        definition = DEFINITIONS[metric["definition"]]
        lines.append(f"  {definition.name:<36} {say(metric['value'], metric['unit'])}")
    lines += ["", "  memory"]
    for key in _MEMORY:
        if key == "widened_bytes" and not memory[key]:
            continue
        lines.append(f"    {key.removesuffix('_bytes').replace('_', ' '):<34} {say(memory[key], 'B')}")
    verdict = {
        True: "fits",
        False: f"does not fit: {say(memory['shortfall_bytes'], 'B')} too much",
        None: "unknown",
    }
    lines.append(f"    {'fits':<34} {verdict[memory['fits']]}")
    lines += [f"      {text}" for text in memory["suggestions"]]
    for stage, values in document["stages"].items():
        intensity = values["arithmetic_intensity"]
        lines.append(
            f"  {stage}: {values['flops']:,.0f} FLOP, {values['bytes']:,.0f} B, "
            f"{intensity:.1f} FLOP/B, bound by {values['bound'] or 'unknown'}"
        )
    lines += _devices(document.get("parallelism"))
    lines += [f"  note: {warning['message']}" for warning in document["warnings"]]
    return lines


def _devices(parallelism: dict[str, Any] | None) -> list[str]:
    """How several devices share the work, and what they send each other."""
    if parallelism is None:
        return []
    degrees = ", ".join(
        f"{word} {parallelism[f'{word}_parallel']}" for word in ("tensor", "pipeline", "expert", "data")
    )
    lines = [f"  {parallelism['devices']} devices ({degrees}); figures above but throughput are those of one"]
    table = parallelism["communication"]
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        lines.append(
            f"    {row['stage']}: {row['calls']} {row['collective']} in groups of {row['group']}: each device sends "
            f"{say(row['sent_bytes'], 'B')} in {say(row['time_s'], 's')}"
        )
    return lines
