"""Run a model on the meta device and write down every operator: shapes, place in the module tree, cost, data flow.

The tracer is two modes at once: a TorchDispatchMode sees each ATen call below autograd, a TorchFunctionMode
(:mod:`profiling.fused`) keeps fused kernels in one piece. Tensors are followed by their storage, so that views are
transparent, in-place work changes the right tensor, and the memory alive at any moment is known.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import profiling.stand_ins  # noqa: F401  (registers)
from profiling import issued, masks, metas
from profiling.aten_facts import op_facts
from profiling.build import Built
from profiling.fused import CatchFused
from profiling.liveness import Timeline
from profiling.masks import Pattern
from profiling.operators import Cost, lookup
from profiling.recording import Call, ModuleOutput, Recording, Shaped
from profiling.tensors import cache_layers, cache_tensors, distinct_bytes, state_tensors, tensors_in

#: A trace longer than this is a Python loop over tokens that no stand-in of profiling.fused knows.
MAX_CALLS = 400_000


class TraceTooLong(RuntimeError):
    """The model's forward loops in Python for longer than can be followed."""


_names: dict[torch.dtype, str] = {}

_local = threading.local()


def install_hooks(module: nn.Module) -> None:
    """Let every module tell the tracer of the running thread when its forward begins and ends. Once per module."""
    for path, item in module.named_modules():
        if getattr(item, "_traced_path", None) is not None:
            continue
        item._traced_path = path
        item.register_forward_pre_hook(_entered, with_kwargs=True)
        item.register_forward_hook(_left, always_call=True)


def _path_of(module: nn.Module) -> str:
    return str(module._traced_path)  # a string already, but torch declares attributes as tensors or modules


def _entered(module, args, kwargs):
    tracer = getattr(_local, "tracer", None)
    if tracer is not None:
        tracer.enter(module, args, kwargs)


def _left(module, args, output):
    tracer = getattr(_local, "tracer", None)
    if tracer is not None:
        tracer.leave(module, output)


class Tracer(TorchDispatchMode):
    """Records while active. Use :func:`record`."""

    def __init__(self, built: Built, cache_tensors: list[torch.Tensor], input_tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self._built = built
        self.calls: list[Call] = []
        self.unknown: dict[str, None] = {}
        self.module_outputs: dict[str, ModuleOutput] = {}
        self._stack: list[nn.Module] = []
        self._tokens: list[int] = []
        self._paused = 0
        self._uids: dict[int, int] = {}
        self._sources: dict[int, str] = {}
        self._refs: dict[int, Any] = {}
        self._next_uid = 0
        self.timeline = Timeline()
        self.workspace_calls: dict[int, int] = {}  # uid → number of the call
        self._patterns: dict[int, Pattern] = {}  # storage of a mask → what it lets through
        self.issued: list[issued.Issued] | None = [] if issued.wanted() else None
        self._stands_for: Any = None
        for tensor in built.module.parameters():
            self._register(tensor, "weight")
        for buffer in built.module.buffers():
            self._register(buffer, "buffer")
        self.cache_uids = {self._register(t, "cache") for t in cache_tensors}
        self.state_uids: set[int] = set()
        self.vectors = {self.uid_of(t): t.shape[-1] for t in cache_tensors if t.dim() > 1}
        self.input_uids = {self._register(t, "input") for t in input_tensors}

    # -- tensors -----------------------------------------------------------------------------------------------------

    def _register(self, tensor: torch.Tensor, source: str) -> int:
        storage = tensor.untyped_storage()
        key = storage._cdata
        uid = self._uids.get(key)
        if uid is None:
            uid = self._next_uid
            self._next_uid += 1
            self._uids[key] = uid
            self._sources[uid] = source
            nbytes = storage.nbytes()
            if source == "activation":
                self.timeline.born(uid, nbytes, _path_of(self._stack[-1]) if self._stack else "")
            self._refs[uid] = weakref.ref(storage, lambda _: self._freed(key, uid, nbytes))
        return uid

    def _freed(self, key: int, uid: int, nbytes: int) -> None:
        self._uids.pop(key, None)
        self._refs.pop(uid, None)
        self.timeline.died(uid, nbytes)

    def _shaped(self, tensor: torch.Tensor) -> Shaped:
        uid = self._register(tensor, "activation")
        dtype = tensor.dtype
        name = _names.get(dtype) or _names.setdefault(dtype, str(dtype).removeprefix("torch."))
        return Shaped(
            uid, tuple(tensor.shape), name, dtype.itemsize, distinct_bytes(tensor, dtype.itemsize), self._sources[uid]
        )

    def adopt(self, tensor: torch.Tensor) -> None:
        """Count ``tensor``, which a stand-in made of the model's weights, as those weights and not as memory of its own."""
        self._register(tensor, "weight")

    # -- modules -----------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(module)
        self.timeline.entered()
        first = next(iter(tensors_in(args)), None)
        if first is None:
            first = next(iter(tensors_in(kwargs)), None)
        self._tokens.append(
            first.numel() // first.shape[-1] if first is not None and first.dim() and first.numel() else 0
        )

    def leave(self, module: nn.Module, output: Any) -> None:
        while self._stack and self._stack[-1] is not module:  # left behind by an exception
            self._leave_last()
        if not self._stack:
            return
        self._leave_last()
        if isinstance(output, Mapping):
            output = list(output.values())
        first = next(iter(tensors_in(output)), None)
        path = _path_of(module)
        known = self.module_outputs.get(path)
        calls = known.calls + 1 if known else 1
        if first is None:
            self.module_outputs[path] = ModuleOutput(calls, None, None, None)
            return
        nbytes = first.numel() * first.element_size()
        uid = self._register(first, "activation")
        self.module_outputs[path] = ModuleOutput(calls, tuple(first.shape), nbytes, uid)

    def _leave_last(self) -> None:
        self._tokens.pop()
        self.timeline.left(_path_of(self._stack.pop()))

    def tokens(self, up: int = 0) -> int:
        """Rows that entered the module being run (tokens, for a mixture-of-experts layer), or its ``up``-th parent."""
        return self._tokens[-1 - up] if len(self._tokens) > up else 0

    # -- operators ---------------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self):
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def _dispatch(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = metas.run(func, args, kwargs)
        if self._paused:
            return out
        name, silent, in_place = op_facts(func)
        if not silent:
            inputs = tensors_in(args)
            self._record(
                name, inputs + tensors_in(kwargs) if kwargs else inputs, tensors_in(out), args, kwargs, in_place
            )
            if self.issued is not None:
                self.issued.append(issued.freeze(func, args, kwargs, self._identify))
        return out

    def _identify(self, tensor: torch.Tensor) -> tuple[int, str]:
        uid = self._register(tensor, "activation")
        return uid, self._sources[uid]

    @contextmanager
    def standing_for(self, func, args, kwargs):
        """What a stand-in reports inside is the call ``func(*args, **kwargs)`` of the model."""
        before, self._stands_for = self._stands_for, (func, args, kwargs)
        try:
            yield
        finally:
            self._stands_for = before

    def fused(self, name: str, inputs: list[torch.Tensor], outputs: list[torch.Tensor], **facts: Any) -> None:
        """Called by the stand-ins for operators that are one kernel."""
        if name == "sdpa":
            facts |= self._visible(inputs, facts)
        self._record(name, inputs, outputs, (), facts, False)
        if self.issued is not None:
            if self._stands_for is None:
                self.issued.append(issued.Issued(name, _nothing, (), {}, (), "was not called as one function"))
            else:
                func, given, named = self._stands_for
                self.issued.append(issued.freeze(func, given, named, self._identify))

    def masked(self, mask: torch.Tensor, pattern: Pattern | None) -> None:
        """Called for each mask that transformers makes of known functions."""
        if pattern is not None:
            self._patterns[self._register(mask, "activation")] = pattern

    def _visible(self, inputs: list[torch.Tensor], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Which pairs the mask of an attention kernel lets through, as facts about it."""
        if len(inputs) < 4:
            return {}  # no mask: the kernel knows whether it is causal, and nothing else limits it
        known = self._patterns.get(self._register(inputs[3], "activation"))
        if known is not None:
            return {"causal": known.causal, "window": known.window, "chunk": known.chunk}
        # A mask that the model made by itself is opaque; the module says whether it is the causal one.
        module = self._stack[-1] if self._stack else None
        if getattr(module, "is_causal", False) is not True or facts["keys"] < facts["queries"]:
            return {}
        return {"causal": True, "window": getattr(module, "sliding_window", None)}

    def _record(self, name, inputs, outputs, args, kwargs, in_place) -> None:
        path = _path_of(self._stack[-1]) if self._stack else ""
        if len(self.calls) >= MAX_CALLS:
            raise TraceTooLong(
                f"The forward pass executes more than {MAX_CALLS:,} operators (a loop over tokens in Python). Use fewer tokens."
            )
        ins = tuple(self._shaped(t) for t in inputs)
        outs = tuple(self._shaped(t) for t in outputs)
        facts = {k: v for k, v in kwargs.items() if isinstance(v, (int, float, bool, str))}
        if in_place:
            facts["in_place"] = True
        operator = lookup(name)
        if operator is None:
            self.unknown[name] = None
            op_class, cost = "other", Cost()
        else:
            op_class, cost = operator.op_class, operator.formula(ins, outs, args, facts)
        if cost.workspace is not None:
            uid, self._next_uid = self._next_uid, self._next_uid + 1
            self.workspace_calls[uid] = len(self.calls)
            self.timeline.worked(uid, cost.workspace)
        self.calls.append(
            Call(
                index=len(self.calls),
                path=path,
                label=_label(),
                name=name.rstrip("_") if in_place else name,
                op_class=op_class,
                flops=cost.flops,
                elementwise_flops=cost.elementwise_flops,
                reads=tuple((t.uid, cost.reads.get(i, t.nbytes), t.source) for i, t in enumerate(ins)),
                writes=tuple((t.uid, cost.writes.get(i, t.nbytes)) for i, t in enumerate(outs)),
                hidden_bytes=cost.hidden_bytes,
                inputs=ins,
                outputs=outs,
                facts=facts,
            )
        )

    def uid_of(self, tensor: torch.Tensor) -> int:
        return self._register(tensor, "activation")

    def note_states(self, cache: Any) -> None:
        """Which tensors of the cache are states."""
        self.state_uids |= {self._register(t, "cache") for t in state_tensors(cache)}

    def note_cache(self, cache: Any) -> None:
        """The tensors that the cache holds after the pass, and its counters."""
        held = cache_tensors(cache)
        self.cache_uids |= {self._register(t, "cache") for t in held}
        self.vectors |= {self.uid_of(t): t.shape[-1] for t in held if t.dim() > 1}
        self.note_states(cache)
        for tensor in (t for layer in cache_layers(cache, counters=True) for t in layer):
            self.timeline.hold(self._register(tensor, "cache"), distinct_bytes(tensor))


def _nothing() -> None:
    """In place of what cannot be called again."""


# Set from outside: see profiling.metas.
Tracer.__torch_dispatch__ = Tracer._dispatch  # type: ignore[method-assign, assignment]


_PLAIN_FRAMES = ("wrapper", "wrapped", "<listcomp>", "<genexpr>", "<lambda>")


def _label() -> str:
    """Name of the outermost function of a transformers file between the module's forward and the operator, "" for none."""
    frame: FrameType | None = sys._getframe(2)
    name = ""
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("forward", "_call_impl"):  # of the module that runs
            return name
        if "transformers" in code.co_filename and code.co_name not in _PLAIN_FRAMES:
            name = code.co_name
        frame = frame.f_back
    return name


def record(built: Built, run, *, cache_before: Any, inputs: list[torch.Tensor]) -> tuple[Recording, Any]:
    """Run ``run()`` (a forward pass of ``built``; its lock is held by the caller) and record it.

    ``run`` returns (output, cache after); ``cache_before`` is the cache that went in. Returns recording and cache after.
    """
    install_hooks(built.module)
    masks.install()
    tracer = Tracer(built, cache_tensors(cache_before), inputs)
    tracer.note_states(cache_before)
    _local.tracer = tracer
    try:
        with torch.no_grad(), CatchFused(tracer), tracer:
            output, cache = run()
    finally:
        _local.tracer = None
    tracer.note_cache(cache)
    results = frozenset(tracer.uid_of(t) for t in tensors_in(_values(output)))
    activity = tracer.timeline.activity(built)
    recording = Recording(
        calls=tuple(tracer.calls),
        outputs=tracer.module_outputs,
        unknown=tuple(tracer.unknown),
        alive=activity.alive,
        occupied=activity.occupied,
        spans=activity.spans,
        cache_uids=frozenset(tracer.cache_uids),
        input_uids=frozenset(tracer.input_uids),
        result_uids=results,
        state_uids=frozenset(tracer.state_uids),
        vectors={uid: size for uid, size in tracer.vectors.items() if uid not in tracer.state_uids},
        allocations=activity.allocations,
        workspace_calls=tracer.workspace_calls,
        issued=tuple(tracer.issued or ()),
    )
    return recording, cache


def _values(output: Any) -> list[Any]:
    """What a model returned, without its cache."""
    return list(output.values()) if isinstance(output, Mapping) else [output]


class _Nobody:
    """A tracer that records nothing, for passes that only fill a cache."""

    @contextmanager
    def paused(self):
        yield

    def fused(self, *args: Any, **facts: Any) -> None:
        pass

    def masked(self, mask: torch.Tensor, pattern: Pattern | None) -> None:
        pass

    def adopt(self, tensor: torch.Tensor) -> None:
        pass

    def tokens(self, up: int = 0) -> int:
        return 1


def run_unrecorded(run) -> Any:
    """Run ``run()`` with fused operators caught but nothing recorded; returns its cache."""
    with torch.no_grad(), CatchFused(_Nobody()), metas.Remembered():
        _, cache = run()
    return cache
