"""The part of a model that one rank holds, divided by the tensor-parallel plan of transformers; and which models have one that fits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from profiling import host
from profiling.build import TORCH_DTYPES, Built
from profiling.failures import EngineError, describe
from profiling.gguf_files import is_gguf
from profiling.loading import check_files, load_folder, own_memory, resolved, tame
from profiling.spec import ModelSpec, SpecError, Workload

FIELD = "tensor_parallel"


def check_divisible(model: ModelSpec, built: Built, workload: Workload, device: torch.device) -> None:
    """Refuse what transformers cannot run on that many devices here, before anything is started. Raises :class:`SpecError` at the field."""
    size = workload.tensor_parallel
    if size == 1:
        return
    if device.type == "cuda" and torch.cuda.device_count() < size:
        count = torch.cuda.device_count()
        raise SpecError(FIELD, f"GPUs of this host: {count}. Choose at most as many.")
    if device.type == "cuda" and len(names := {torch.cuda.get_device_name(index) for index in range(size)}) > 1:
        raise SpecError(FIELD, f"The GPUs of this host are of different kinds ({', '.join(sorted(names))}): choose 1.")
    if device.type == "mps" or (device.type == "cpu" and torch.accelerator.is_available()):
        raise SpecError(FIELD, f"Measurements on {device.type.upper()} of this host run on one device: choose 1.")
    if device.type == "cpu" and host.cores()[0] < size:
        cores = host.cores()[0]
        message = f"The measurement may use {cores} cores here, and each process needs one at least: choose fewer."
        raise SpecError(FIELD, message)
    if is_gguf(model.weights_path):
        raise SpecError(FIELD, "GGUF files are loaded on one device: choose 1, or a folder of safetensors.")
    if not getattr(built.module, "supports_tp_plan", False) or not built.module.tp_plan:
        raise SpecError(
            FIELD, f"transformers has no tensor-parallel plan for {built.architecture}: choose 1, or run an estimate."
        )
    config = built.config.get_text_config()
    for name in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(config, name, None)
        if isinstance(heads, int) and heads % size:
            what = "attention heads" if name == "num_attention_heads" else "key/value heads"
            raise SpecError(FIELD, f"The {heads} {what} of this model cannot be divided among {size} devices.")


def load_shard(model: ModelSpec, workload: Workload, device: torch.device) -> Any:
    """This rank's part of the model in evaluation mode on ``device``; every rank calls it, after :func:`profiling.ranks.join`.

    Random weights are the same numbers in every rank's part, which costs nothing and changes no time; what is not divided is that of
    rank 0 everywhere, or ranks would choose different tokens. Raises :class:`EngineError` (phase ``load``).
    """
    size = workload.tensor_parallel
    config, model_class = resolved(model)
    options = {
        "config": config,
        "dtype": TORCH_DTYPES[workload.dtype],
        "attn_implementation": workload.attn_implementation,
        "distributed_config": _plan(size),
    }
    torch.manual_seed(workload.seed)
    with _one_device_each():
        if model.weights == "local":
            check_files(model)
            loaded = load_folder(model, model_class, options)
            own_memory(loaded)
            check_files(model)  # what was loaded is what was checked
        else:
            try:
                loaded = model_class.from_pretrained(None, state_dict={}, **options)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                message = f"{model.name} could not be divided among {size} devices. {describe(error)}"
                raise EngineError(phase="load", kind="unsupported", field=FIELD, message=message) from error
            tame(local(parameter) for parameter in loaded.parameters())
    loaded = loaded.eval().requires_grad_(False)
    with torch.no_grad():
        for tensor in (*loaded.parameters(), *loaded.buffers()):
            if not divided(tensor):
                dist.broadcast(local(tensor), 0)
    return loaded


def _plan(size: int) -> Any:
    try:
        from transformers.distributed import DistributedConfig
    except ImportError as error:
        message = "The installed transformers has no tensor parallelism of the kind that is used here. Install requirements.txt."
        raise EngineError(phase="load", kind="missing", field=FIELD, message=message) from error
    return DistributedConfig(tp_size=size)


@contextlib.contextmanager
def _one_device_each() -> Iterator[None]:
    """transformers asks for accelerate as soon as it is given a map of devices, though it needs it for maps of several devices in one
    process alone. Here each process has one. (accelerate changes what transformers imports, so it is not installed beside it.)"""
    from transformers import modeling_utils

    def checked(device_map: Any) -> Any:
        return {"": device_map} if isinstance(device_map, (torch.device, str, int)) else device_map

    with mock.patch.object(modeling_utils, "check_and_set_device_map", checked):
        yield


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of ``tensor``: of a distributed one its own part, else all of it."""
    to_local = getattr(tensor, "to_local", None)
    part: torch.Tensor = tensor if to_local is None else to_local()
    return part


def divided(tensor: torch.Tensor) -> bool:
    """Whether the ranks hold different parts of ``tensor``."""
    return any(not placement.is_replicate() for placement in getattr(tensor, "placements", ()))
