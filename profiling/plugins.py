"""What an installation adds to the engine: formulas for operators of its own kernels, and model classes of its own packages.

A plug-in is a Python module that registers them when it is imported (docs/extending.md). Which modules are plug-ins is
decided by whoever runs the installation, never by a configuration or a request: installed packages name them as entry points
of the group :data:`GROUP`, the environment variable :data:`VARIABLE` lists more, and so does ``--plugin`` on the command line.
They are imported where models are built: in the engine's process.

``python -m profiling.plugins`` prints which model types and configuration keys the plug-ins add, as JSON. The web process
never imports a plug-in; it knows their configurations from a file with that text, named by ``LLMCOMPARE_PLUGIN_SCHEMA``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import os
import threading
from typing import Any

from profiling import config_schema
from profiling.spec import SpecError

GROUP = "llmcompare.profiling"
VARIABLE = "LLMCOMPARE_PLUGINS"

_classes: dict[str, Any] = {}  # name of a class → class
_types: dict[str, str] = {}  # model type → name of its class
_lock = threading.RLock()
_loaded = False


def load() -> None:
    """Import every plug-in, once. Raises :class:`SpecError` (field ``plugin``) for one that cannot be imported."""
    global _loaded
    with _lock:
        if _loaded:
            return
        for name in names():
            try:
                importlib.import_module(name)
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                raise SpecError("plugin", f"The plug-in {name!r} cannot be imported ({what}).") from error
        _loaded = True


def names() -> list[str]:
    """Modules that are plug-ins: entry points, then those of the environment; each once."""
    found = [entry.module for entry in importlib.metadata.entry_points(group=GROUP)]
    found += [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return list(dict.fromkeys(name for name in found if name))


def register_model(cls: type, *, model_type: str | None = None) -> None:
    """Make a model class known by its name, and its configuration by its model type.

    ``cls`` is a transformers ``PreTrainedModel`` with its ``config_class``, or a plain ``nn.Module`` from ``input_ids`` (batch,
    tokens) to logits that keeps no cache. The plain one needs a ``model_type``; the parameters of its constructor are the keys
    of its configuration, and each decode step runs it over the whole sequence. Raises ValueError for a type or a class that is
    known already.
    """
    from transformers import AutoConfig, PreTrainedModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model: Any = cls if issubclass(cls, PreTrainedModel) else _wrapped(cls, model_type)
    config = model.config_class
    if model.__name__ in _classes:
        raise ValueError(f"model class {model.__name__!r} is registered twice")
    if config.model_type in _types or config.model_type in CONFIG_MAPPING:
        raise ValueError(f"model type {config.model_type!r} is registered twice")
    AutoConfig.register(config.model_type, config)
    config_schema.extend([config.model_type], config_schema.keys_of(config))
    _classes[model.__name__], _types[config.model_type] = model, model.__name__


def model_class(name: str) -> Any:
    """The class that a plug-in registered under ``name``, or None."""
    load()
    return _classes.get(name)


def class_of_type(model_type: str) -> str | None:
    """Name of the class that a plug-in registered for a model type, or None."""
    load()
    return _types.get(model_type)


def _wrapped(cls: type, model_type: str | None) -> Any:
    """``cls``, a plain module, as a transformers model: configured by the parameters of its constructor."""
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

    if not issubclass(cls, nn.Module) or not model_type:
        raise ValueError(f"{cls.__name__} must be a transformers model, or a torch module with a model_type")
    parameters = {n: p for n, p in inspect.signature(cls).parameters.items() if p.kind is not p.VAR_KEYWORD}
    defaults = {n: None if p.default is p.empty else p.default for n, p in parameters.items()}

    def configure(self: Any, **values: Any) -> None:
        for name, default in defaults.items():
            setattr(self, name, values.pop(name, default))
        PretrainedConfig.__init__(self, **values)

    def construct(self: Any, config: Any) -> None:
        PreTrainedModel.__init__(self, config)
        self.model = cls(**{name: getattr(config, name) for name in defaults})

    def forward(self: Any, input_ids: Any, **_: Any) -> Any:
        return self.model(input_ids)

    keys = {"model_type": model_type, "__init__": configure, "__annotations__": dict.fromkeys(defaults, Any)}
    config = type(f"{cls.__name__}Config", (PretrainedConfig,), keys)
    body = {
        "config_class": config,
        "__init__": construct,
        "forward": forward,
        "_init_weights": lambda self, module: None,
    }
    return type(cls.__name__, (PreTrainedModel,), body)


def main() -> None:
    load()
    configs = [_classes[name].config_class for name in _types.values()]
    keys = sorted({key for config in configs for key in config_schema.keys_of(config) if not key.startswith("_")})
    print(json.dumps({"model_types": sorted(_types), "keys": keys}))


if __name__ == "__main__":
    from profiling import plugins  # the module that plug-ins register in, which is not the one being run

    plugins.main()
