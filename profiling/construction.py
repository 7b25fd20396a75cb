"""Bounds under which a transformers constructor runs: how many modules, how much memory, and nothing with values.

A configuration can ask for more than its sizes tell: lists of experts inside of layers, tables computed in Python, and
constructors so old that they ignore the device asked for. What they make is counted while they make it.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.modules import module as hooks
from transformers import activations

from profiling.spec import SpecError

#: Twice what 2,000 layers of Llama have; a module takes some 40 µs and 3 KB. Of the published models only Switch-C has more.
MAX_MODULES = 60_000

#: Of tensors with values. Published models have tables of positions of some MB.
MAX_BYTES = 512 * 2**20


@contextmanager
def bounded() -> Iterator[None]:
    """Within it, this thread's modules are counted and its parameters are moved to the meta device as they are made.

    Raises :class:`SpecError` (field ``config``) from inside of the constructor that goes too far. The hooks are global to the
    process: the caller holds a lock.
    """
    owner = threading.get_ident()
    counts = {"modules": 0, "bytes": 0}
    # Activations that transformers has one of for all models: what the tracer notes on them would reach the next model.
    shared = {id(item) for item in vars(activations).values() if isinstance(item, nn.Module)}

    def module(holder: nn.Module, name: str, item: nn.Module | None) -> nn.Module | None:
        if threading.get_ident() == owner:
            counts["modules"] += 1
            if counts["modules"] > MAX_MODULES:
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
