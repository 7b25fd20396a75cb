"""Options that several commands share: which model, which hardware, which workload. Standard library only."""

from __future__ import annotations

import argparse
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profiling.folders import gguf_note
from profiling.kinds import kind_of
from profiling.precision import ACTIVATION_FORMATS, KV_FORMATS, SCHEMES
from profiling.safety import parse_constant
from profiling.spec import (
    CHOICES,
    DTYPE_BYTES,
    MODEL_KINDS,
    WORKLOAD_DTYPES,
    HardwareSpec,
    ModelSpec,
    SpecError,
    Workload,
)

_ROOT = Path(__file__).resolve().parents[2]
MODELS = _ROOT / "llmcompare" / "catalog" / "data" / "model_configs.json"
DEVICES = _ROOT / "hardware" / "data" / "hardware_facts.json"


_DEGREES = (
    ("--tp", "tensor_parallel", "devices that share every layer"),
    ("--pp", "pipeline_parallel", "stages that the layers are split into, each on devices of its own"),
    ("--ep", "expert_parallel", "devices that the experts are spread over, of those of --tp and --dp"),
    ("--dp", "data_parallel", "replicas that share the batch"),
)


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model",
        "-m",
        metavar="ID",
        help="id in the model catalogue (gpt2, llama-3-70b), path of a config.json or of a GGUF file",
    )
    which.add_argument("--config", metavar="FILE", help="a config.json of transformers, or the folder that holds one")
    which.add_argument(
        "--hub",
        metavar="ORG/NAME[@REVISION]",
        help="model of the Hugging Face Hub at a commit, branch or tag; needs LLMCOMPARE_HUB=on. A measurement downloads its weights",
    )
    group.add_argument("--architecture", help="transformers class; default: the one that the configuration names")
    group.add_argument("--kind", choices=MODEL_KINDS, help="default: the catalogue's, or what the configuration says")


def add_hardware(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hardware",
        "-d",
        required=True,
        metavar="SLUG",
        help="device in the hardware catalogue by slug (nvidia-h100-sxm5-80gb), name or part of a name that only one has; "
        "or path of a hardware JSON file",
    )


def add_workload(parser: argparse.ArgumentParser) -> None:
    default = Workload()
    group = parser.add_argument_group("workload")
    group.add_argument("--batch", type=int, default=default.batch_size, help="sequences at once (default %(default)s)")
    add_input_tokens(group, default.input_tokens, "prompt tokens per sequence (default %(default)s)")
    group.add_argument(
        "--output-tokens",
        "--output",
        dest="output",
        metavar="N",
        type=int,
        default=default.output_tokens,
        help="generated tokens per sequence (default %(default)s)",
    )
    group.add_argument("--dtype", choices=WORKLOAD_DTYPES, default=default.dtype, help="default %(default)s")
    group.add_argument(
        "--weights-dtype",
        metavar="SCHEME",
        help=f"format of the weights of linear layers: {', '.join(SCHEMES)}, or int4-g64 and the like (default: as --dtype)",
    )
    group.add_argument(
        "--activation-dtype",
        choices=ACTIVATION_FORMATS,
        help="format of the inputs of quantised layers; fp8 and int8 need weights of the same format (default: as --dtype)",
    )
    group.add_argument("--kv-dtype", choices=KV_FORMATS, help="format of cached keys and values (default: as --dtype)")
    group.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="default %(default)s")
    group.add_argument(
        "--logits",
        choices=("last", "all"),
        default="last",
        help="positions of the prompt that get logits (default last)",
    )


#: Options that only estimates have: how a workload is counted, and what serving engines do to it. Fields and help.
_COUNTING = (
    ("execution", "eager: every operator goes to memory; fused: element-wise chains ride along"),
    ("causal", "full: causal attention computes every pair of tokens; halved: those that its mask lets through"),
    (
        "window",
        "executed: a sliding window limits the cache alone; windowed: the attention kernel knows it (default: by --execution)",
    ),
    (
        "mla",
        "form of latent attention: as transformers executes it, keys and values in the cache, or absorbed into queries and output",
    ),
    ("experts", "weights of experts read in a step: uniform routing, topk (the fewest) or all (the most)"),
)
_SERVING = (
    ("decoder_tokens", int, "tokens that the decoder of an encoder-decoder model begins with"),
    ("prefix_tokens", int, "tokens of the prompt that lie in the cache already"),
    ("draft_tokens", int, "tokens guessed by a draft before every step (speculative decoding)"),
    ("draft_acceptance", float, "probability, 0 to 1, that a guess is right"),
    ("draft_cost", float, "time of one guess as a fraction of a step (default: not counted)"),
)


#: What front ends encode beside the text, per sequence.
_FRONT_ENDS = (("images", "images"), ("audios", "audio clips"))


def add_front_ends(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("beside the text, for models that have a front end for it")
    for field, words in _FRONT_ENDS:
        group.add_argument(
            f"--{field}",
            metavar="N",
            type=int,
            default=0,
            help=f"{words} per sequence, of the size that the model takes; their tokens are in the prompt beside --input-tokens "
            "(default 0)",
        )


def add_conventions(parser: argparse.ArgumentParser) -> None:
    """What is counted, and what of the workload is done before or beside the model; read by :func:`workload`."""
    default = Workload()
    group = parser.add_argument_group("conventions")
    for field, text in _COUNTING:
        chosen, choices = getattr(default, field), [c for c in CHOICES[field] if c is not None]
        group.add_argument(
            f"--{field}", choices=choices, default=chosen, help=text + (f" (default {chosen})" if chosen else "")
        )
    group = parser.add_argument_group("serving")
    for field, kind, text in _SERVING:
        chosen = getattr(default, field)
        shown = f" (default {chosen})" if chosen is not None else ""
        group.add_argument(
            f"--{field.replace('_', '-')}",
            metavar="N" if kind is int else "X",
            type=kind,
            default=chosen,
            help=text + shown,
        )


def add_parallelism(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several devices")
    for option, field, text in _DEGREES:
        group.add_argument(option, dest=field, metavar="N", type=int, default=1, help=f"{text} (default 1)")


def add_tensor_parallelism(parser: argparse.ArgumentParser) -> None:
    """The one degree that a measurement has."""
    option, field, _ = _DEGREES[0]
    text = "GPUs of this host that share every layer, one process each; on processors, processes that share the machine (default 1)"
    group = parser.add_argument_group("several devices")
    group.add_argument(option, dest=field, metavar="N", type=int, default=1, help=text)


def add_input_tokens(group: Any, default: int, text: str) -> None:
    """``--input-tokens N``, and ``--input`` for short."""
    group.add_argument("--input-tokens", "--input", dest="input", metavar="N", type=int, default=default, help=text)


def model_spec(arguments: argparse.Namespace) -> ModelSpec:
    """The model that ``--config`` or ``--model`` names. Raises :class:`SpecError` when there is none."""
    if getattr(arguments, "hub", None):
        return hub_spec(hub_look(arguments.hub))
    given = getattr(arguments, "config", None)
    field, name = ("config", given) if given else ("model", arguments.model)
    path = Path(name)
    if path.is_dir():
        path = path / "config.json"
    if given and not path.is_file():
        raise SpecError("config", f"There is no file {name!r}.")
    if path.is_file() and path.suffix == ".gguf":
        return gguf_spec(path, field)
    if path.is_file():
        config = _json(path, field, parse_constant)
        if not isinstance(config, dict):
            raise SpecError(field, f"{path} holds no configuration: a JSON object was expected.")
        return ModelSpec(
            name=path.parent.name or path.stem,
            config=config,
            architecture=arguments.architecture,
            kind=arguments.kind or kind_of(config, arguments.architecture),
        )
    entries = _json(MODELS, "model")["models"] if MODELS.is_file() else []
    entry = next((e for e in entries if name in (e["id"], e.get("hf_id"))), None)
    if entry is None:
        known = ", ".join(e["id"] for e in entries)
        raise SpecError("model", f"There is no file and no catalogue model {name!r}. Models: {known}.")
    config = {"model_type": entry["model_type"], "architectures": [entry["model_class"]], **entry["config_kwargs"]}
    return ModelSpec(
        name=entry["id"],
        config=config,
        architecture=arguments.architecture or entry["model_class"],
        kind=arguments.kind or entry["kind"],
        source="catalogue",
    )


def hub_look(text: str) -> dict[str, Any]:
    """What the Hub has under ``text`` (:class:`profiling.hub.Look` as JSON). Raises :class:`SpecError`."""
    from profiling import hub
    from profiling.client import EngineError

    repo, revision = hub.parse(text)
    try:
        return hub.ask("hub_look", repo=repo, revision=revision, timeout_s=120)
    except EngineError as error:
        raise SpecError("hub", error.message) from None


def hub_spec(look: dict[str, Any]) -> ModelSpec:
    """The model of a ``look``, with its commit, without weights."""
    return ModelSpec(
        name=look["name"],
        config=look["config"],
        architecture=look["architecture"],
        kind=kind_of(look["config"], look["architecture"]),
        source="hub",
        weights_note=f"Hub, commit {look['commit']}",
    )


def gguf_spec(path: Path, field: str) -> ModelSpec:
    """The model of a GGUF file, with its weights; read in a process of its own. Raises :class:`SpecError`."""
    from profiling.client import EngineChild, EngineError

    try:
        with EngineChild() as engine:
            found = engine.request("gguf", {"source": str(path.resolve())}, timeout_s=120)
    except EngineError as error:
        raise SpecError(field, error.message) from None
    return ModelSpec(
        name=path.stem,
        config=found["config"],
        architecture=found["architecture"],
        source="gguf",
        weights="local",
        weights_path=str(path.resolve()),
        weights_note=gguf_note(found["stored"]),
    )


def hardware_spec(arguments: argparse.Namespace) -> HardwareSpec:
    """The device that ``--hardware`` names. Raises :class:`SpecError` when there is none, or more than one."""
    return find_hardware(arguments.hardware)


def find_hardware(name: str) -> HardwareSpec:
    """The device of the catalogue called ``name``, or that of a JSON file. Raises :class:`SpecError` as :func:`hardware_spec`."""
    if Path(name).is_file():
        return HardwareSpec.from_json(_json(Path(name), "hardware"))
    devices = _json(DEVICES, "hardware")["devices"] if DEVICES.is_file() else []
    wanted = name.lower()
    exact = [d for d in devices if wanted in (d["name"].lower(), slug(d))]
    found = exact or [d for d in devices if wanted in f"{d['vendor']} {d['name']}".lower() or wanted in slug(d)]
    if len(found) != 1:
        close = found or [d for d in devices if any(word in slug(d) for word in wanted.replace("-", " ").split())]
        names = ", ".join(slug(d) for d in close[:12]) or "see hardware/data/hardware_facts.json"
        raise SpecError("hardware", f"{len(found) or 'No'} devices match {name!r}; name one of: {names}.")
    return _device(found[0])


def slug(entry: dict[str, Any]) -> str:
    """The identifier of a device, as the portal's catalogue makes it from vendor and name: ``nvidia-h100-sxm5-80gb``."""
    words = (
        unicodedata.normalize("NFKD", f"{entry['vendor']} {entry['name']}").encode("ascii", "ignore").decode().lower()
    )
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words)).strip("-_")


def _device(entry: dict[str, Any]) -> HardwareSpec:
    def scaled(value: float | None, factor: float) -> float | None:
        return None if value is None else value * factor

    memory = scaled(entry.get("memory_gb"), 1e9)
    cache = scaled(entry.get("cache_mb"), 1e6)
    unconfirmed = {
        "bandwidth_gb_s": "memory_bandwidth",
        "memory_gb": "memory_bytes",
        **{f"peak.{d}": f"peak_flops.{d}" for d in DTYPE_BYTES},
    }
    return HardwareSpec(
        name=entry["name"],
        slug=slug(entry),
        vendor=entry["vendor"],
        kind=entry["kind"],
        memory_bytes=None if memory is None else int(memory),
        memory_bandwidth=scaled(entry.get("memory_bandwidth_gb_s"), 1e9),
        peak_flops={name: scaled(value, 1e12) for name, value in entry["peak_dense_tflops"].items()},
        cache_bytes=None if cache is None else int(cache),
        interconnect_bandwidth=scaled(entry.get("interconnect_gb_s"), 1e9),
        tdp_w=entry.get("tdp_w"),
        confidence={
            unconfirmed[field]: "unconfirmed" for field in entry.get("unconfirmed", []) if field in unconfirmed
        },
    )


def workload(arguments: argparse.Namespace, **extra: Any) -> Workload:
    """The workload of the options; checked."""
    value = Workload(
        batch_size=arguments.batch,
        input_tokens=arguments.input,
        output_tokens=arguments.output,
        dtype=arguments.dtype,
        weights_dtype=arguments.weights_dtype,
        activation_dtype=arguments.activation_dtype,
        kv_dtype=arguments.kv_dtype,
        attn_implementation=arguments.attention,
        logits=arguments.logits,
        tensor_parallel=getattr(arguments, "tensor_parallel", 1),
        pipeline_parallel=getattr(arguments, "pipeline_parallel", 1),
        expert_parallel=getattr(arguments, "expert_parallel", 1),
        data_parallel=getattr(arguments, "data_parallel", 1),
        **{
            name: getattr(arguments, name)
            for name, *_ in (*_COUNTING, *_SERVING, *_FRONT_ENDS)
            if hasattr(arguments, name)
        },
        **extra,
    )
    value.check()
    return value


def write_json(document: Any, target: str) -> None:
    """To a file, or to standard output for ``-``."""
    text = json.dumps(document, allow_nan=False, indent=1)
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n", encoding="utf-8")


def _json(path: Path, field: str, constant: Callable[[str], Any] | None = None) -> Any:
    """``constant``: what stands for ``Infinity``, ``-Infinity`` and ``NaN``, which JSON does not have."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=constant)
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(field, f"{path} cannot be read as JSON: {error}.") from error
