"""How an operator was called, so that it can be called again: the function, its plain arguments, and the forms of its tensors.

Kept only inside :func:`kept`: an ordinary trace has no use for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_local = threading.local()

_PLAIN = (int, float, bool, str, complex, torch.dtype, torch.layout, torch.memory_format, type(None))


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor goes in a call: its form, the storage it had in the trace (``uid``) and what that was (as in ``Shaped``)."""

    uid: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    source: str

    @property
    def extent(self) -> int:
        """Elements from the first to the last, gaps between them included; 0 for an empty tensor."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it spans."""
        return self.extent * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Issued:
    """``function(*args, **kwargs)`` with a :class:`Slot` in place of every tensor. ``reason``: why it cannot be called again, or ""."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    slots: tuple[Slot, ...]
    reason: str = ""


class _Unplain(Exception):
    """An argument that is neither a tensor nor a plain value."""


@contextmanager
def kept() -> Iterator[None]:
    """Traces made by this thread inside keep how their operators were called (``Recording.issued``)."""
    before = wanted()
    _local.wanted = True
    try:
        yield
    finally:
        _local.wanted = before


def wanted() -> bool:
    return getattr(_local, "wanted", False)


def freeze(
    function: Callable[..., Any],
    args: Any,
    kwargs: Mapping[str, Any],
    identify: Callable[[torch.Tensor], tuple[int, str]],
) -> Issued:
    """The call as a value. ``identify``: tensor → (uid of its storage, what it is)."""
    slots: list[Slot] = []

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            uid, source = identify(value)
            slot = Slot(uid, tuple(value.shape), tuple(value.stride()), value.dtype, source)
            slots.append(slot)
            return slot
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == "meta" else value
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        raise _Unplain(type(value).__name__)

    name = name_of(function)
    try:
        frozen = tuple(plain(value) for value in args)
        named = {key: plain(value) for key, value in kwargs.items()}
    except _Unplain as error:
        return Issued(name, function, (), {}, (), f"takes a {error} beside its tensors")
    return Issued(name, function, frozen, named, tuple(slots))


def name_of(function: Callable[..., Any]) -> str:
    """``aten.mm.default``, or the dotted name of a Python function."""
    if isinstance(function, torch._ops.OpOverload):
        return str(function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}".lstrip(".")
