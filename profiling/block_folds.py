"""Blocks of a real model that are alike: the first stands for all of them in tables that would otherwise grow with the depth."""

from __future__ import annotations

from typing import Any

#: Attributes by which blocks that are otherwise alike tell each other apart: their number in the model.
_NUMBERS = ("idx", "index", "layer_id", "layer_number", "layer_num")


def folded_paths(model: Any) -> dict[str, str]:
    """path → path of the first module that is identical and stands in the same list, for every module of ``model``.

    Identical: the same classes, parameters of the same shapes and formats, and the same settings (numbers, words and switches that the
    module keeps as attributes, but for its own number in the list), all the way down.
    """
    found = {"": ""}
    _follow(model, "", "", found)
    return found


def _follow(module: Any, path: str, first: str, found: dict[str, str]) -> None:
    """Fill in the modules below ``path``, whose own first identical one is ``first``."""
    alike: dict[Any, str] = {}
    for name, child in module.named_children():
        own = f"{path}.{name}" if path else name
        of_first = f"{first}.{name}" if first else name
        if name.isdigit():
            of_first = alike.setdefault(_signature(child), of_first)
        found[own] = of_first
        _follow(child, own, of_first, found)


def _signature(module: Any) -> tuple[Any, ...]:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return (
        type(module).__qualname__,
        tuple((name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors),
        tuple(sorted(_settings(module))),
        tuple((name, _signature(child)) for name, child in module.named_children()),
    )


def _settings(module: Any) -> list[tuple[str, str]]:
    return [
        (name, repr(value))
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, bool | int | float | str) and not name.endswith(_NUMBERS)
    ]
