"""Operators that are one kernel in reality but would fall apart on the meta device, caught at function level.

Three ways in: torch functions (``scaled_dot_product_attention``, ``grouped_mm``) through a TorchFunctionMode; functions of
transformers' modelling files that loop over the tokens in Python, through a stand-in that acts only while a trace runs in
the current thread. The stand-ins return tensors of the right shape and report one operator to the tracer.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_active = threading.local()


def current() -> Any:
    """The tracer of this thread, or None."""
    return getattr(_active, "tracer", None)


class CatchFused(TorchFunctionMode):
    """While active, fused operators are reported to ``tracer.fused(name, inputs, outputs, **facts)`` as one call each.

    The tracer is also what :func:`current` returns in this thread. ``tracer.tokens()`` gives the tokens of the
    mixture-of-experts layer being run, ``tracer.window()`` the sliding window of the attention module being run.
    """

    def __init__(self, tracer: Any) -> None:
        super().__init__()
        self._tracer = tracer

    def __enter__(self):
        install_stand_ins()
        _active.tracer = self._tracer
        return super().__enter__()

    def __exit__(self, *exc):
        _active.tracer = None
        return super().__exit__(*exc)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        handler = _TORCH_FUNCTIONS.get(func) or _PINS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        with _standing_for(self._tracer, func, args, kwargs or {}):
            return handler(self._tracer, *args, **(kwargs or {}))


class Pinned(TorchFunctionMode):
    """While active, questions about values have the answers that a trace gives them; nothing else is changed.

    For running a model on the meta device without the tracer, such as under somebody else's counter.
    """

    def __enter__(self):
        install_stand_ins()
        _active.pinned = True
        return super().__enter__()

    def __exit__(self, *exc):
        _active.pinned = False
        return super().__exit__(*exc)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        handler = _PINS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(None, *args, **(kwargs or {}))


def _sdpa(tracer, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """One attention kernel. The output lies in memory as (batch, length, heads, size), as CPU and CUDA kernels leave it."""
    batch, heads, length = query.shape[0], query.shape[1], query.shape[-2]
    with tracer.paused():
        if query.dim() == 4:
            out = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        else:
            out = query.new_empty(*query.shape[:-1], value.shape[-1])
    keys = key.shape[-2]
    queries = length // getattr(query, "_packed", 1)
    inputs = [query, key, value] + ([attn_mask] if attn_mask is not None else [])
    tracer.fused(
        "sdpa",
        inputs,
        [out],
        pairs=length * keys,
        queries=queries,
        keys=keys,
        causal=bool(is_causal) and queries > 1,
        gqa=bool(enable_gqa),
    )
    return out


def grouped_mm(tracer, mat_a, mat_b, *, offs=None, bias=None, out_dtype=None):
    """Rows (sorted by expert) times their expert's weights; any dtype, which torch's own meta kernel refuses."""
    with tracer.paused():
        out = mat_a.new_empty(mat_a.shape[0], mat_b.shape[-1], dtype=out_dtype or mat_a.dtype)
    tracer.fused("grouped_mm", [mat_a, mat_b], [out], tokens=tracer.tokens() or mat_a.shape[0])
    return out


def _grouped_mm_fallback(tracer, input, weight, offs):
    return grouped_mm(tracer, input, weight, offs=offs)


_TORCH_FUNCTIONS: dict[Any, Callable] = {torch.nn.functional.scaled_dot_product_attention: _sdpa}
for _name in ("grouped_mm",):
    if hasattr(torch.nn.functional, _name):
        _TORCH_FUNCTIONS[getattr(torch.nn.functional, _name)] = grouped_mm
if hasattr(torch, "_grouped_mm"):
    _TORCH_FUNCTIONS[torch._grouped_mm] = grouped_mm


def _any(tracer, tensor, *args, **kwargs):
    """``if isinf(x).any()``: without values the answer is pinned to "nothing is exceptional"."""
    return _pinned(torch.any(tensor, *args, **kwargs), False)


def _all(tracer, tensor, *args, **kwargs):
    """``if mask.all()``: pinned to "nothing is masked", which holds for prompts without padding."""
    return _pinned(torch.all(tensor, *args, **kwargs), True)


def _contains(tracer, tensor, value):
    """``if pad_token in ids``: no, prompts without padding do not hold it."""
    return False


def _pinned(tensor, answer: bool | int):
    tensor._pinned_answer = answer
    return tensor


def _max(tracer, tensor, *args, **kwargs):
    """``ids.max().item()`` asks for the last position of an unpadded sequence (of lengths: none is exceptional)."""
    result = torch.max(tensor, *args, **kwargs)
    if args or kwargs or tensor.is_floating_point():
        return result
    return _pinned(result, tensor.shape[-1] - 1 if tensor.dim() > 1 else 0)


def _bool(tracer, tensor):
    answer = getattr(tensor, "_pinned_answer", None)
    return bool(tensor) if answer is None else bool(answer)


def _item(tracer, tensor):
    answer = getattr(tensor, "_pinned_answer", None)
    return tensor.item() if answer is None else answer


def _tolist(tracer, tensor):
    """How many rows each expert gets: nobody knows, and the stand-ins for loops over experts do not ask."""
    return [] if tensor.is_meta else tensor.tolist()


_PINS: dict[Any, Callable] = {
    torch.any: _any,
    torch.Tensor.any: _any,
    torch.all: _all,
    torch.Tensor.all: _all,
    torch.Tensor.__bool__: _bool,
    torch.Tensor.__contains__: _contains,
    torch.Tensor.max: _max,
    torch.max: _max,
    torch.Tensor.item: _item,
    torch.Tensor.tolist: _tolist,
}


# --- loops over tokens in transformers' modelling files ----------------------------------------------------------------

_STAND_INS: dict[tuple[str, str], tuple[Callable, bool]] = {}
_installed: set[tuple[str, str]] = set()
_install_lock = threading.Lock()


def stand_in(module: str, *functions: str, pin: bool = False) -> Callable:
    """Register a stand-in ``f(tracer, *args, **kwargs)`` for functions (or ``Class.method``) of a transformers modelling file.

    ``pin``: it only answers a question about values, so it acts inside :class:`Pinned` as well, where ``tracer`` is None.
    """

    def register(function: Callable) -> Callable:
        for name in functions:
            _STAND_INS[(module, name)] = function, pin
        return function

    return register


def install_stand_ins() -> None:
    """Wrap the registered functions of the files imported so far, each once per process. Outside a trace the wrapper
    calls the original."""
    with _install_lock:
        for (module_name, name), (function, pin) in _STAND_INS.items():
            module = sys.modules.get(module_name)
            if module is None or (module_name, name) in _installed:
                continue
            owner, _, attribute = name.rpartition(".")  # "Class.method" or "function"
            holder = getattr(module, owner, None) if owner else module
            original = getattr(holder, attribute, None)
            if original is not None:
                setattr(holder, attribute, _wrap(original, function, pin))
            _installed.add((module_name, name))


def _wrap(original: Callable, function: Callable, pin: bool) -> Callable:
    @functools.wraps(original)
    def call(*args, **kwargs):
        tracer = current()
        if tracer is None and not (pin and getattr(_active, "pinned", False)):
            return original(*args, **kwargs)
        with _standing_for(tracer, original, args, kwargs):
            return function(tracer, *args, **kwargs)

    return call


def _standing_for(tracer: Any, function: Callable, args: Any, kwargs: Any) -> Any:
    """Let the tracer know what a stand-in stands for, where it keeps such things."""
    if getattr(tracer, "issued", None) is None:
        return contextlib.nullcontext()
    return tracer.standing_for(function, args, kwargs)


@stand_in("torch", "_check_tensor_all_with", pin=True)
def _check_values(tracer, *args):
    """A check of values by torch: it holds."""


@stand_in("transformers.masking_utils", "fast_all", pin=True)
def _nothing_is_padded(tracer, tensor):
    """Whether a padding mask lets everything through: yes, prompts of a workload have one length."""
    return True


@stand_in("transformers.integrations.sdpa_attention", "pack_gqa")
def _pack_gqa(tracer, hidden_states, n_rep):
    """The heads that share a key stand where a sequence of queries would: how many, the attention kernel is told."""
    if hidden_states is None or hidden_states.shape[1] == 1:
        return hidden_states
    batch, heads, _, size = hidden_states.shape
    packed = hidden_states.reshape(batch, heads // n_rep, n_rep, size)
    packed._packed = n_rep
    return packed


@stand_in("transformers.models.mamba.modeling_mamba", "mamba_selective_scan")
@stand_in("transformers.models.falcon_mamba.modeling_falcon_mamba", "mamba_selective_scan")
@stand_in("transformers.models.jamba.modeling_jamba", "mamba_selective_scan")
@stand_in("transformers.models.zamba.modeling_zamba", "mamba_selective_scan")
def _selective_scan(
    tracer,
    hidden_states,
    dt,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    delta_softplus=False,
    return_last_state=False,
    **_,
):
    """Mamba's scan, for which transformers loops over the tokens in Python."""
    batch, channels, steps = hidden_states.shape
    state = A.shape[-1]
    with tracer.paused():
        out = hidden_states.new_empty(batch, channels, steps)
        last = hidden_states.new_empty(batch, channels, state, dtype=torch.float32)
    inputs = [t for t in (hidden_states, dt, A, B, C, D, z, delta_bias) if t is not None]
    outputs = [out, last] if return_last_state else [out]
    tracer.fused(
        "selective_scan",
        inputs,
        outputs,
        batch=batch,
        channels=channels,
        steps=steps,
        state=state,
        itemsize=hidden_states.element_size(),
        skips=D is not None,
    )
    return (out, last) if return_last_state else out
