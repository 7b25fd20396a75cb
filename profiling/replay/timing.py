"""One operator of a model timed alone: called as the model called it, each time with its cold inputs somewhere else in memory."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from profiling.failures import EngineError
from profiling.issued import Slot
from profiling.replay.arena import CPU, Arena, Untouched, arena_bytes, filled
from profiling.replay.device import Clock, CudaClock, device_seconds
from profiling.replay.shapes import Caches, Operator

WARMUP = 3
LEAST_CALLS = 7
MOST_CALLS = 60
#: Middle of the later half against that of the earlier half: further apart than this, something else was running.
CONTENDED_RATIO = 1.25

#: Counted as floating-point numbers on a processor, where transformers converts what an accelerator counts as it is.
_COUNTS = "aten.histc.default"
SMALL_RESULT = 64 << 10
#: What an operator may take at most for its indices to be tried on the processor before they are given to a GPU.
MOST_TRIED_BYTES, MOST_TRIED_FLOPS = 4 << 30, 10**9
_INDEXED_DIMENSION = {"index_select", "gather", "index_add", "index_copy", "scatter", "scatter_add", "index_fill"}


class NotReplayed(Exception):
    """An operator that is not called here: too large, or impossible. The message says why."""


@dataclass(frozen=True)
class Timed:
    """Seconds of one call: middle and best of ``calls``. ``shapes``: of what it returned. ``quality``: ok or contended."""

    seconds: float
    best: float
    calls: int
    quality: str
    shapes: tuple[tuple[int, ...], ...]


class Bench:
    """Times operators one after the other. ``cap_bytes``: inputs and outputs that span more are not allocated.

    ``budget_s``: how long an operator is called, if it is not so slow that the fewest calls take longer. ``device``: the processor, whose
    times are those of whole calls, or a CUDA GPU, whose times are the device's alone (:mod:`profiling.replay.device`).
    """

    def __init__(self, caches: Caches, cap_bytes: int, budget_s: float = 0.04, device: torch.device = CPU) -> None:
        self.caches, self.cap_bytes, self.budget_s, self.device = caches, cap_bytes, budget_s, device
        self.arena = Arena(arena_bytes(caches.last, device), device)
        self._clock: Clock = CudaClock(device)
        # Every thread reads its part, which is twice what its core keeps.
        self._evicting = torch.ones(max(1, 2 * caches.private * torch.get_num_threads() // 4))

    @torch.inference_mode()
    def time(self, operator: Operator) -> Timed:
        """Raises :class:`NotReplayed`, and :class:`EngineError` where a call has spoilt the GPU for every later one."""
        if operator.issued.reason:
            raise NotReplayed(operator.issued.reason)
        if operator.footprint > self.cap_bytes:
            raise NotReplayed(f"spans {operator.footprint:,} bytes, more than the {self.cap_bytes:,} allowed here")
        if self.device.type != "cpu":
            self.arena.forget_large()
        once = self._time if self.device.type == "cpu" else self._time_on_gpu
        try:
            if self.device.type == "cpu" or takes_guesses(operator):
                return once(operator, zeros=False)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            self._check_gpu(error)
            # indices that no guess knows to be valid: zeros are
        try:
            return once(operator, zeros=True)
        except (IndexError, RuntimeError, TypeError, NotImplementedError, ValueError) as error:
            self._check_gpu(error)
            raise NotReplayed(str(error).splitlines()[0][:200] or type(error).__name__) from error
        finally:
            self.arena.forget_large()

    def _check_gpu(self, error: Exception) -> None:
        """Raise if the GPU takes no more calls from this process: an assertion in a kernel, or a fault of its memory."""
        if self.device.type == "cpu" or isinstance(error, torch.OutOfMemoryError):
            return
        try:
            self._clock.synchronise()
        except RuntimeError:
            reason = (str(error).splitlines() or [""])[0][:200]
            message = f"A call spoilt the GPU for this process: {reason}"
            raise EngineError(phase="replay", kind="internal", message=message) from error

    def _time_on_gpu(self, operator: Operator, *, zeros: bool) -> Timed:
        call = Prepared(operator, self.arena, zeros=zeros, device=self.device)
        written = Written(self.caches.last, self.cap_bytes) if operator.lasting and not operator.in_place else None
        shapes: tuple[tuple[int, ...], ...] = ()

        def once(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
            nonlocal shapes
            out = function(*args, **kwargs)
            if not shapes:
                shapes = _shapes(out)
            if written is not None:
                written.keep(out)

        while written is not None and written.fills:
            once(*call.next())
        times, calls = device_seconds(
            lambda count: [partial(once, *call.next()) for _ in range(count)], self._clock, self.budget_s
        )
        return _timed(times, calls, shapes)

    def _time(self, operator: Operator, *, zeros: bool) -> Timed:
        call = Prepared(operator, self.arena, zeros=zeros)
        written = Written(self.caches.last, self.cap_bytes) if operator.lasting and not operator.in_place else None
        times: list[float] = []
        shapes: tuple[tuple[int, ...], ...] = ()
        while written is not None and written.fills:
            function, args, kwargs = call.next()
            written.keep(function(*args, **kwargs))
        began = time.perf_counter()
        for number in range(WARMUP + MOST_CALLS):
            if operator.evicted:
                self._evicting.sum()
            function, args, kwargs = call.next()
            begin = time.perf_counter()
            out = function(*args, **kwargs)
            end = time.perf_counter()
            if number >= WARMUP or end - begin > self.budget_s:
                times.append(end - begin)
            if not shapes:
                shapes = _shapes(out)
            if written is not None:
                written.keep(out)
            del out
            if len(times) >= LEAST_CALLS and end - began > self.budget_s:
                break
            if len(times) >= 3 and end - began > 5 * self.budget_s + 1.0:
                break
        return _timed(times, len(times), shapes)


def _timed(times: list[float], calls: int, shapes: tuple[tuple[int, ...], ...]) -> Timed:
    half = len(times) // 2
    early, late = (statistics.median(part) for part in (times[:half] or times, times[half:]))
    steady = max(early, late) <= CONTENDED_RATIO * min(early, late)
    return Timed(statistics.median(times), min(times), calls, "ok" if steady else "contended", shapes)


class Written:
    """Results that stay occupied, so that the next one is written to memory that long has left the caches (as keys and values are), but
    that the system gave out before. Results too small to matter are not kept."""

    def __init__(self, cache_bytes: int, cap_bytes: int) -> None:
        self._most = min(cache_bytes + cache_bytes // 4, cap_bytes)
        self._kept: deque[tuple[int, Any]] = deque()
        self._held = 0
        self.fills = True

    def keep(self, out: Any) -> None:
        nbytes = _nbytes(out)
        if nbytes < SMALL_RESULT:
            self.fills = False
            return
        self._kept.append((nbytes, out))
        self._held += nbytes
        while self._held > self._most:
            self.fills = False
            self._held -= self._kept.popleft()[0]


class Prepared:
    """An operator with tensors: :meth:`next` gives the arguments of one more call."""

    def __init__(
        self,
        operator: Operator,
        arena: Arena | Untouched,
        *,
        zeros: bool = False,
        device: torch.device = CPU,
    ) -> None:
        self._operator, self._arena, self._device = operator, arena, device
        self._hot: dict[tuple[int, tuple[int, ...], tuple[int, ...]], torch.Tensor] = {}
        self._values = {} if zeros else whole_numbers(operator, device)
        written = operator.issued.slots[0] if operator.in_place and operator.issued.slots else None
        if device.type != "cpu":
            written = None  # no number is slow on a GPU
        self._restored = written if written is not None and written.uid not in operator.cold else None
        self._pristine: torch.Tensor | None = None

    def next(self) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        placed: dict[Any, torch.Tensor] = {}
        issued = self._operator.issued
        args = [self._with_tensors(value, placed) for value in issued.args]
        kwargs = {name: self._with_tensors(value, placed) for name, value in issued.kwargs.items()}
        if self._restored is not None and self._restored.dtype.is_floating_point:
            # Or a factor applied again and again would end at numbers that are slow.
            tensor = self._tensor(self._restored, placed)
            if self._pristine is None:
                self._pristine = tensor.clone()
            else:
                tensor.copy_(self._pristine)
        return issued.function, args, kwargs

    def _with_tensors(self, value: Any, placed: dict[Any, torch.Tensor]) -> Any:
        if isinstance(value, Slot):
            return self._tensor(value, placed)
        if isinstance(value, torch.device):
            return self._device
        if isinstance(value, list):
            return [self._with_tensors(item, placed) for item in value]
        if isinstance(value, dict):
            return {name: self._with_tensors(item, placed) for name, item in value.items()}
        return value

    def _tensor(self, slot: Slot, placed: dict[Any, torch.Tensor]) -> torch.Tensor:
        key = (slot.uid, slot.shape, slot.stride)
        kept = placed if slot.uid in self._operator.cold and key not in self._values_of(slot) else self._hot
        if key not in kept:
            kept[key] = self._made(slot, cold=kept is placed)
        return kept[key]

    def _values_of(self, slot: Slot) -> dict[Any, torch.Tensor]:
        return self._values if slot.dtype in (torch.int64, torch.int32) else {}

    def _made(self, slot: Slot, *, cold: bool) -> torch.Tensor:
        key = (slot.uid, slot.shape, slot.stride)
        if key in self._values:
            return self._values[key]
        if self._operator.issued.name == _COUNTS and self._device.type == "cpu":
            slot = replace(slot, dtype=torch.float32)
        if cold:
            return self._arena.place(slot)
        return filled(slot.extent, slot.dtype, self._device).as_strided(slot.shape, slot.stride)


def takes_guesses(operator: Operator) -> bool:
    """Whether the processor takes :func:`whole_numbers` for ``operator``. A GPU that is given an index out of range takes no call after it,
    so it is tried there first, on memory that nothing is written to before; what is too large or too slow for that is not tried."""
    values = whole_numbers(operator)
    if not values or operator.name == "grouped_mm":
        return True
    if operator.footprint > MOST_TRIED_BYTES or operator.flops > MOST_TRIED_FLOPS:
        return False
    call = Prepared(operator, Untouched())
    function, args, kwargs = call.next()
    try:
        function(*args, **kwargs)
    except (IndexError, RuntimeError, TypeError, NotImplementedError, ValueError):
        return False
    return True


def whole_numbers(operator: Operator, device: torch.device = CPU) -> dict[Any, torch.Tensor]:
    """Valid values for the indices among the inputs: where zeros would read one row again and again, they are spread."""
    slots = operator.issued.slots
    whole = [slot for slot in slots if slot.dtype in (torch.int64, torch.int32)]
    others = [slot for slot in slots if slot.dtype not in (torch.int64, torch.int32)]
    if not whole or not others:
        return {}
    found: dict[Any, torch.Tensor] = {}
    for slot in whole:
        if operator.name == "grouped_mm":
            rows = others[0].shape[0]
            found[slot.uid, slot.shape, slot.stride] = _offsets(slot, rows, int(operator.facts.get("tokens", rows))).to(
                device
            )
        else:
            limit = _limit(operator, others[0])
            generator = torch.Generator().manual_seed(0)
            flat = torch.randint(0, max(1, limit), (max(slot.extent, 1),), generator=generator)
            flat = flat.to(device, slot.dtype)
            found[slot.uid, slot.shape, slot.stride] = flat.as_strided(slot.shape, slot.stride)
    return found


def _limit(operator: Operator, table: Slot) -> int:
    if not table.shape:
        return 1
    dimension = 0
    if operator.name in _INDEXED_DIMENSION:
        plain = [a for a in operator.issued.args if isinstance(a, int) and not isinstance(a, bool)]
        dimension = plain[0] if plain else 0
    if operator.name in ("index", "index_put"):
        return min(table.shape)
    return table.shape[dimension]


def _offsets(slot: Slot, rows: int, tokens: int) -> torch.Tensor:
    """Where the rows of each expert end, every token routed to as many different experts at random (uniform routing)."""
    experts = slot.shape[0]
    generator = torch.Generator().manual_seed(0)
    each = max(1, rows // max(tokens, 1))
    chosen: list[int] = []
    while len(chosen) < rows:
        chosen += torch.randperm(experts, generator=generator)[:each].tolist()
    counts = [0] * experts
    for expert in chosen[:rows]:
        counts[expert] += 1
    return torch.tensor(list(itertools.accumulate(counts)), dtype=slot.dtype)


def _shapes(out: Any) -> tuple[tuple[int, ...], ...]:
    if isinstance(out, torch.Tensor):
        return (tuple(out.shape),)
    return tuple(shape for item in out for shape in _shapes(item)) if isinstance(out, (list, tuple)) else ()


def _nbytes(out: Any) -> int:
    if isinstance(out, torch.Tensor):
        return out.numel() * out.element_size()
    return sum(_nbytes(item) for item in out) if isinstance(out, (list, tuple)) else 0
