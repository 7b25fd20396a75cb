"""Remembered shapes: what operators return on the meta device, without asking torch each time.

torch computes shapes, strides and types of many results in Python, at up to a millisecond each; blocks that repeat ask the same
questions over and over. Nothing but shapes, strides, types and plain arguments decides the answer. Remembered are operators of
torch's own that return new tensors, and those that write into their first argument and leave its form as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from profiling.operators_plain import ELEMENTWISE
from profiling.tensors import tensors_in

#: Answers kept; when there are more, all are forgotten.
_MOST = 8192
#: Forms of what was returned, one tensor or several; None: the first argument itself.
_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]
_known: dict[Any, _Form | tuple[_Form, ...] | None] = {}
_UNKNOWN = object()

_WRITES_FIRST = frozenset(f"{name}_" for group in ELEMENTWISE.values() for name in group.split()) | {"index_put_"}
#: As cheap to ask for as to remember, or sharing memory with an argument (which their schemas do not say).
_ASKED = frozenset(["_to_copy", "clone", "copy", "empty", "empty_strided", "_unsafe_view", "_reshape_alias"])
_NEW, _FIRST, _NO = range(3)
_kinds: dict[Any, int] = {}

_PLAIN = frozenset(
    (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format, complex)
)
_TENSORS = frozenset((torch.Tensor, torch.nn.Parameter))


def run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """``func(*args, **kwargs)`` of an ATen operator, or a new tensor (or several) of the form that it returned before."""
    kind = _kinds.get(func)
    if kind is None:
        kind = _kinds[func] = _kind(func)
    if kind == _NO:
        return func(*args, **kwargs)
    key = _question(func, args, kwargs)
    if key is None:
        return func(*args, **kwargs)
    found: Any = _known.get(key, _UNKNOWN)
    if found is _UNKNOWN:
        result = func(*args, **kwargs)
        _remember(key, kind, result, args, kwargs)
        return result
    if found is None:
        return args[0]
    if type(found[0]) is torch.Size:
        shape, stride, dtype = found
        return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    return tuple(torch.empty_strided(shape, stride, dtype=dtype, device="meta") for shape, stride, dtype in found)


def _kind(func: Any) -> int:
    schema = func._schema
    namespace, _, name = schema.name.partition("::")
    if namespace not in ("aten", "prims") or name in _ASKED or not schema.returns:
        return _NO
    aliases = [item.alias_info for item in (*schema.arguments, *schema.returns)]
    if not any(aliases):
        return _NEW if all(str(r.type) == "Tensor" for r in schema.returns) else _NO
    return _FIRST if name in _WRITES_FIRST and func._overloadname != "out" and len(schema.returns) == 1 else _NO


def _remember(key: Any, kind: int, result: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    form: _Form | tuple[_Form, ...] | None
    given = {t.untyped_storage()._cdata for t in tensors_in([args, kwargs])}
    if kind == _FIRST:
        # In the same form as before: what is in it was asked with the question.
        if result is not args[0] or (result.shape, result.stride(), result.dtype) != key[3]:
            return
        form = None
    elif type(result) is torch.Tensor:
        if not _is_new(result, given):
            return
        form = (result.shape, result.stride(), result.dtype)
    else:
        if type(result) is not tuple or not all(type(t) is torch.Tensor and _is_new(t, given) for t in result):
            return
        if len({t.untyped_storage()._cdata for t in result}) < len(result):
            return
        form = tuple((t.shape, t.stride(), t.dtype) for t in result)
    if len(_known) >= _MOST:
        _known.clear()
    _known[key] = form


def _is_new(result: torch.Tensor, given: set[int]) -> bool:
    """Is ``result`` what :func:`torch.empty_strided` makes: on the meta device, in memory of its own and no more than it takes?"""
    if not result.is_meta or result.storage_offset() or result.is_conj() or result.is_neg():
        return False
    storage = result.untyped_storage()
    if storage._cdata in given:
        return False
    last = sum((size - 1) * stride for size, stride in zip(result.shape, result.stride(), strict=True))
    return storage.nbytes() == ((last + 1) * result.element_size() if result.numel() else 0)


def _question(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Everything that the results' forms depend on; None where that cannot be told."""
    # How many arguments and which are named: lists among them say their lengths, so the parts cannot be read in two ways.
    parts: list[Any] = [func, torch.get_default_dtype(), (len(args), *kwargs)]
    numbers = 0
    for value in (*args, *kwargs.values()):
        kind = type(value)
        if kind in _TENSORS:
            if not value.is_meta or value.layout is not torch.strided:
                return None
            parts.append((value.shape, value.stride(), value.dtype))
            numbers += not value.shape
        elif kind in _PLAIN:
            parts.append((kind, value))  # 1, 1.0 and True are equal but promote differently
        elif kind is list or kind is tuple:
            parts.append(len(value))
            for item in value:
                of = type(item)
                if of in _PLAIN:
                    parts.append((of, item))
                elif of in _TENSORS and item.is_meta and item.layout is torch.strided:
                    parts.append((item.shape, item.stride(), item.dtype))
                    numbers += not item.shape
                else:
                    return None
        else:
            return None
    # A single number may be one from Python, which promotes differently from a tensor: with one of them the type tells all.
    return tuple(parts) if numbers < 2 else None


class Remembered(TorchDispatchMode):
    """While active, operators go through :func:`run`."""


def _remembered(self, func, types, args=(), kwargs=None):
    return run(func, args, kwargs or {})


# Set from outside: torch wraps what a class body defines against its compiler, which takes longer than an answer from memory.
Remembered.__torch_dispatch__ = _remembered  # type: ignore[method-assign]
