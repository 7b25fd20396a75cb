"""Which class and which configuration a model is built from: transformers' own, or what this installation adds."""

from __future__ import annotations

from typing import Any

import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from profiling import plugins
from profiling.explanations import explain
from profiling.safety import check_config, decoded
from profiling.spec import ModelSpec, SpecError


def resolve(model: ModelSpec, config_dict: dict[str, Any] | None = None) -> tuple[Any, type]:
    """The checked configuration as an object and the model class, by name, among those of transformers and of plug-ins.

    A class for text takes the text part of a configuration that has other parts too (images, audio), as
    transformers' own ``AutoModelForCausalLM`` does. ``config_dict``: ``model.config`` where it was checked before.
    """
    plugins.load()
    config_dict = config_dict or check_config(model.config, architecture=model.architecture)
    model_type = config_dict["model_type"]
    name = (
        model.architecture or (config_dict.get("architectures") or [None])[0] or _default_class(model_type, model.kind)
    )
    cls = (plugins.model_class(name) or getattr(transformers, name, None)) if name else None
    if name is None:
        raise SpecError(
            "architecture",
            f"The configuration names no class, and transformers has none of this kind ({model.kind}) for the model type "
            f'"{model_type}". Name one in "architectures".',
        )
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise SpecError(
            "architecture",
            f"Neither transformers {transformers.__version__} nor a plug-in has a model class {name!r}.",
        )
    try:
        config = CONFIG_MAPPING[model_type].from_dict(decoded(config_dict))
    except Exception as error:
        raise SpecError("config", explain(error, f"This configuration is not valid for {model_type}")) from error
    return _part_for(cls, config), cls


def _part_for(cls: type, config: Any) -> Any:
    wanted = getattr(cls, "config_class", None)
    if wanted is None or isinstance(config, wanted):
        return config
    parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    fitting = [part for part in parts if isinstance(part, wanted)]
    return fitting[0] if len(fitting) == 1 else config


_AUTO_MAPPINGS = {
    "decoder": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "ssm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "encoder": "MODEL_MAPPING_NAMES",
    "encdec": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "audio": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "vision": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
}


def _default_class(model_type: str, kind: str) -> str | None:
    own = plugins.class_of_type(model_type)
    if own is not None:
        return own
    names = getattr(modeling_auto, _AUTO_MAPPINGS[kind]).get(model_type)
    return names[0] if isinstance(names, (tuple, list)) else names
