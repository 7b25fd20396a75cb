"""Bounds under which a transformers constructor runs: how many modules, how much memory, and nothing with values.

A configuration can ask for more than its sizes tell: lists of experts inside of layers, tables computed in Python, and
constructors so old that they ignore the device asked for. What they make is counted while they make it, and what is still to
come is told from the first blocks: a model of thousands of layers is refused after a few of them.
"""

from __future__ import annotations

import copy
import gc
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks
from transformers import activations
from transformers.modeling_layers import GradientCheckpointingLayer

from profiling.spec import SpecError

#: A third more than 2,000 layers of Llama have; a module takes some 40 µs and 3 KB. Of the published models only Switch-C has more.
MAX_MODULES = 40_000

#: So many blocks are made before the size of the smallest of them is taken for that of those to come: models begin with their
#: special ones (dense layers before sparse ones).
SEEN = 16

#: Keys of a configuration that say how many blocks or experts there are.
_COUNTS = re.compile(r"layers$|^n_layer|depth$|num_.*blocks$|experts$")

#: Of tensors with values. Published models have tables of positions of some MB.
MAX_BYTES = 512 * 2**20


class _Expected:
    """How many modules there will be at least, told while they are made.

    Blocks come in lists that are made at once, so a block has begun when its first child is put into it; experts are put into
    their container one by one. As many are expected as the smallest count in the configuration that is not exceeded yet.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._counts = sorted(_counts(config))
        self._series: dict[
            Any, list[int]
        ] = {}  # of a class of blocks or a container: last one, where it began, least size, how many

    def after(self, holder: nn.Module, made: int) -> int:
        """Of ``made`` modules so far, the last of them put into ``holder``: the total to expect at least."""
        key: Any
        if isinstance(holder, GradientCheckpointingLayer):
            key, one = type(holder), id(holder)
        elif isinstance(holder, nn.ModuleList | nn.ModuleDict):
            key, one = id(holder), made
        else:
            return made
        series = self._series.get(key)
        if series is None:
            self._series[key] = [one, made, MAX_MODULES, 1]
            return made
        last, began, least, seen = series
        if one == last:
            return made
        least, seen = min(least, made - began), seen + 1
        self._series[key] = [one, made, least, seen]
        if seen < SEEN:
            return made
        count = next((count for count in self._counts if count >= seen), seen)
        return made + (count - seen) * least


def _counts(config: Mapping[str, Any]) -> set[int]:
    found: set[int] = set()
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _counts(value)
        elif isinstance(value, int) and not isinstance(value, bool) and _COUNTS.search(str(key)):
            found.add(value)
    return found


@contextmanager
def bounded(config: Mapping[str, Any]) -> Iterator[None]:
    """Within it, this thread's modules are counted and its parameters are moved to the meta device as they are made.

    ``config``: of the model that is made, as plain values. Raises :class:`SpecError` (field ``config``) from inside of the constructor
    that goes too far, as soon as it is sure to. The hooks are global to the process: the caller holds a lock.
    """
    owner = threading.get_ident()
    counts = {"modules": 0, "bytes": 0}
    expected = _Expected(config)
    # Activations that transformers has one of for all models: what the tracer notes on them would reach the next model.
    shared = {id(item) for item in vars(activations).values() if isinstance(item, nn.Module)}

    def module(holder: nn.Module, name: str, item: nn.Module | None) -> nn.Module | None:
        if threading.get_ident() == owner:
            counts["modules"] += 1
            if expected.after(holder, counts["modules"]) > MAX_MODULES:
                raise SpecError(
                    "config",
                    f"The configuration describes a model of more than {MAX_MODULES:,} modules, which cannot be built here; "
                    "use fewer layers or experts.",
                )
            if id(item) in shared:
                return copy.deepcopy(item)
        return None

    def parameter(holder: nn.Module, name: str, item: nn.Parameter | None) -> nn.Parameter | None:
        if item is None or item.is_meta or threading.get_ident() != owner:
            return None
        return nn.Parameter(item.to("meta"), requires_grad=item.requires_grad)

    def buffer(holder: nn.Module, name: str, item: torch.Tensor | None) -> None:
        if item is not None and not item.is_meta and threading.get_ident() == owner:
            counts["bytes"] += item.numel() * item.element_size()
            if counts["bytes"] > MAX_BYTES:
                raise SpecError(
                    "config",
                    f"The tables of positions in this model take more than {MAX_BYTES // 2**20} MiB: use fewer positions.",
                )

    with ExitStack() as stack, _uncollected(), torch.inference_mode(False):
        for handle in (
            hooks.register_module_module_registration_hook(module),  # type: ignore[arg-type]  # may return one
            hooks.register_module_parameter_registration_hook(parameter),  # type: ignore[arg-type]
            hooks.register_module_buffer_registration_hook(buffer),
        ):
            stack.callback(handle.remove)
        yield


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which goes through all modules again and again while they are made: half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
