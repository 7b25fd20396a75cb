"""GGUF files through transformers: configuration, tokenizer, and weights dequantised to the asked data type. In an engine process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers

from profiling.failures import EngineError, describe
from profiling.safety import check_config


def is_gguf(path: str | None) -> bool:
    return bool(path) and str(path).endswith(".gguf")


def describe_gguf(source: str) -> dict[str, Any]:
    """``config`` (checked as an upload is), ``architecture``, ``parameters`` and ``stored`` (formats of the tensors, most first, in words) of a file.

    Raises :class:`EngineError` for a file that transformers cannot follow, :class:`SpecError` for a configuration that is refused.
    """
    path = Path(source)
    config, model_class = read_config(path)
    plain = check_config(json.loads(config.to_json_string(use_diff=True)) | {"architectures": [model_class.__name__]})
    return {"config": plain, "architecture": model_class.__name__, **_stored(path)}


def load_gguf(source: str, config: Any, model_class: Any, dtype: torch.dtype, attention: str) -> Any:
    """The model with the file's weights in ``dtype``: each tensor is dequantised in single precision and converted at once.

    Raises :class:`EngineError` when tensors are missing or left over.
    """
    from transformers.initialization import no_init_weights
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    with torch.device("meta"):
        skeleton = model_class(config)
    try:
        read = load_gguf_checkpoint(source, return_tensors=True, model_to_load=skeleton, torch_dtype=dtype)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise _unreadable(Path(source), error) from error
    with no_init_weights():
        model = model_class._from_config(config, dtype=dtype, attn_implementation=attention)
    fill(model, read["tensors"], Path(source).name)
    return model


def fill(model: Any, tensors: dict[str, Any], name: str) -> None:
    """Make ``tensors`` the values of ``model``, without a copy where they have its data type. Raises :class:`EngineError`."""
    own = dict(model.state_dict())
    left_over = [key for key in tensors if key not in own]
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    missing = [key for key, _ in model.named_parameters() if key not in tensors and key not in tied]
    wrong = [
        key for key in tensors if key in own and tuple(torch.as_tensor(tensors[key]).shape) != tuple(own[key].shape)
    ]
    if missing or left_over or wrong:
        names = ", ".join([*missing, *left_over, *wrong][:5])
        raise EngineError(
            phase="load",
            kind="unsupported",
            field="model",
            message=f"The GGUF file {name} does not fit its model: {names}.",
        )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key in list(tensors):
            value = torch.as_tensor(tensors.pop(key))
            if key in parameters:
                parameters[key].data = value.to(parameters[key].dtype).contiguous()
            else:
                own[key].copy_(value)
    model.tie_weights()


def gguf_tokenizer(source: str) -> Any:
    path = Path(source)
    return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)


def read_config(path: Path) -> tuple[Any, Any]:
    """The configuration that the file describes, as transformers reads it, and the class that generates text with it."""
    try:
        config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except Exception as error:  # a broken file fails anywhere in the reader
        raise _unreadable(path, error) from error
    if getattr(config, "rms_norm_eps", None):
        config.rms_norm_eps = float(f"{config.rms_norm_eps:.6g}")  # the file holds it in single precision
    config._name_or_path = ""
    model_class: Any = transformers.AutoModelForCausalLM._model_mapping.get(type(config), None)
    if model_class is None:
        raise _unreadable(path, ValueError(f"no model that generates text has the type {config.model_type}"))
    return config, model_class


def _stored(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    elements: Counter[str] = Counter()
    for tensor in GGUFReader(path).tensors:
        elements[tensor.tensor_type.name] += int(tensor.n_elements)
    return {"stored": ", ".join(name for name, _ in elements.most_common()), "parameters": elements.total()}


def _unreadable(path: Path, error: Exception) -> EngineError:
    message = f"{path.name} cannot be read as a GGUF file of a model that transformers knows. {describe(error)}"
    return EngineError(phase="load", kind="unsupported", field="model", message=message)
