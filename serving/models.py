"""From the settings to the model in memory: where it lies, what it is, on which device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from profiling import folders, host
from profiling.failures import EngineError
from profiling.safety import check_config, parse_constant
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from serving import scratch, storage
from serving.settings import Settings

Progress = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Source:
    """A model that can be loaded. ``tokenizer_folder``: of one with random weights."""

    model: ModelSpec
    tokenizer_folder: str | None = None


def load(settings: Settings, progress: Progress) -> Any:
    """A :class:`profiling.resident.Resident`. Imports torch. Raises :class:`EngineError` and :class:`SpecError`."""
    found = source(settings, progress)
    import torch

    from profiling.resident import load_resident

    found_here, cuda = host.detect(), torch.cuda.is_available()
    hardware = host.hardware(found_here, accelerator=cuda)
    if cuda and hardware.kind == "cpu":  # the tool that lists accelerators is not in this image
        properties = torch.cuda.get_device_properties(0)
        hardware = HardwareSpec(name=properties.name, vendor="NVIDIA", memory_bytes=int(properties.total_memory))
    workload = Workload(dtype=settings.dtype, threads=settings.threads, time_limit_s=settings.profile_seconds)
    return load_resident(found.model, hardware, workload, tokenizer_folder=found.tokenizer_folder, progress=progress)


def source(settings: Settings, progress: Progress = lambda stage, fraction, message: None) -> Source:
    """The model that the settings name, fetched if it lies in Cloud Storage. Raises :class:`EngineError` and :class:`SpecError`."""
    if settings.storage_uri.startswith("gs://"):
        folder = scratch.make()
        try:
            storage.fetch(settings.storage_uri, folder, settings.max_model_bytes, progress)
        except BaseException:
            scratch.remove(folder)
            raise
        return _folder(folder, settings, settings.storage_uri.rstrip("/").rsplit("/", 1)[-1])
    if settings.storage_uri:
        return _folder(_path(settings.storage_uri), settings)
    if Path(settings.model).is_dir():
        return _folder(Path(settings.model), settings)
    return _catalogue(settings)


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        message = f"AIP_STORAGE_URI is {uri!r}: a folder, file:///folder or gs://bucket/folder was expected."
        raise EngineError(phase="fetch", kind="spec", field="AIP_STORAGE_URI", message=message)
    return Path(unquote(parts.path)) if parts.scheme else Path(uri)


def _folder(folder: Path, settings: Settings, name: str | None = None) -> Source:
    """A folder as transformers writes it. Its weights are safetensors; no code of it is run."""
    if not folder.is_dir():
        raise EngineError(phase="load", kind="missing", field="model", message=f"There is no folder {folder.name!r}.")
    root = folder.resolve()
    if settings.random_weights:
        return _random(root, name or root.name)
    found = folders.look(root, ".")
    if found.problem or found.config is None:
        raise SpecError("model", f"{name or found.name} cannot be used. {found.problem}")
    model = ModelSpec(
        name=name or found.name,
        config=found.config,
        kind=_kind(found.config),
        source="folder",
        weights="local",
        weights_path=str(root),
        weights_root=str(root),
        weights_digest=found.digest,
    )
    return Source(model)


def _random(root: Path, name: str) -> Source:
    try:
        config = check_config(json.loads((root / "config.json").read_text(), parse_constant=parse_constant))
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError("model", f"{name} has no config.json that can be used. {error}") from error
    has_tokenizer = any((root / one).exists() for one in ("tokenizer.json", "tokenizer_config.json"))
    model = ModelSpec(name=name, config=config, kind=_kind(config), source="folder")
    return Source(model, str(root) if has_tokenizer else None)


def _kind(config: dict[str, Any]) -> str:
    """What sort of model writes text by the class that the configuration names. Raises :class:`SpecError` for one that does not."""
    architecture = str((config.get("architectures") or [""])[0])
    if config.get("is_encoder_decoder") or config.get("model_type") in ("t5", "mt5", "bart", "mbart", "pegasus"):
        return "encdec"
    if not architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise SpecError("model", f"{architecture or 'The model'} writes no text, so it cannot be served.")
    return "ssm" if "mamba" in str(config.get("model_type")) else "decoder"


def _catalogue(settings: Settings) -> Source:
    """A model by its name: one that comes as a package with its weights, or one of the catalogue, which has none."""
    from profiling.cli import inputs
    from profiling.cli.measure import with_weights

    name = settings.model
    asked = argparse.Namespace(model=name, config=None, hub=None, weights=None, architecture=None, kind=None)
    model = inputs.model_spec(asked) if settings.random_weights else with_weights(asked)
    if model.weights == "random" and not settings.random_weights:
        message = (
            f"There are no weights of {name} here. Name a folder that has them, or set LLMCOMPARE_RANDOM_WEIGHTS=1."
        )
        raise SpecError("model", message)
    return Source(model)
