"""Where operators are replayed: the processor, or one CUDA GPU; and how long calls take on a GPU.

A GPU works through a queue that the host fills. Calls are timed many at a time between two events of that queue, while the host is
ahead: a short spin on the device gives it time to fill the queue. What is counted is then the device alone, with the gap that it needs
between two kernels, as in a model whose host is ahead; nothing is taken out for the events, whose cost is shared by all calls between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from profiling.failures import EngineError
from profiling.replay.shapes import Caches, caches_of_host
from profiling.spec import SpecError

KINDS = ("cpu", "cuda")
#: Bytes of the last-level cache of a GPU that does not say.
_UNKNOWN_L2 = 64 << 20

WARMUP = 3
#: Calls between two events take about so long together, and are at most so many: an arena has other places for so many.
ROUND_S, MOST_CALLS = 0.003, 32
LEAST_ROUNDS, MOST_ROUNDS = 5, 20
#: The host's lead: at first, and the longest that is tried. A host that waits for the device in a call never gets ahead.
FIRST_LEAD_S, LONGEST_LEAD_S = 0.001, 0.02
#: What events can tell apart, and so the least that a round of calls takes.
SHORTEST_S = 5e-7
#: Rounds at most that are given up because the device had caught up with the host.
BEHIND = 3
#: Cycles of the spin that finds out how long a cycle is; and seconds of products after which the clock is that of a busy GPU.
_CYCLES, _BUSY_S = 2_000_000, 0.3


class Event(Protocol):
    """A place in the device's queue, as :class:`torch.cuda.Event`."""

    def query(self) -> bool: ...

    def elapsed_time(self, end: Any) -> float: ...


class Clock(Protocol):
    """What timing on a device needs of it."""

    def spin(self, seconds: float) -> None: ...

    def event(self) -> Event: ...

    def synchronise(self) -> None: ...


class CudaClock:
    """The queue of the current stream of a CUDA GPU. ``event``: recorded now, with time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._per_second = 0.0

    def spin(self, seconds: float) -> None:
        """Keep the device busy for about ``seconds``, without waiting for it."""
        if not self._per_second:
            self._per_second = self._calibrated()
        torch.cuda._sleep(max(1, int(seconds * self._per_second)))

    def event(self) -> Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronise(self) -> None:
        torch.cuda.synchronize(self._device)

    def _calibrated(self) -> float:
        """Cycles of a spin per second, once products have brought the clock to where work keeps it."""
        left = torch.randn(2048, 2048, device=self._device)
        began = time.perf_counter()
        while time.perf_counter() - began < _BUSY_S:
            torch.mm(left, left)
            self.synchronise()
        seconds = 0.0
        for _ in range(2):
            begin = self.event()
            torch.cuda._sleep(_CYCLES)
            end = self.event()
            self.synchronise()
            seconds = begin.elapsed_time(end) / 1e3
        return _CYCLES / max(seconds, 1e-6)


def device_seconds(
    batch: Callable[[int], Sequence[Callable[[], None]]], clock: Clock, budget_s: float
) -> tuple[list[float], int]:
    """(device seconds of one call, a value for each round of calls; calls in all). ``batch``: so many calls, each made ready.

    Where the host cannot get ahead, because a call waits for the device or starts more kernels than the queue takes, calls are timed one
    by one: with what the device waits for within the call, and with the cost of the events (some microseconds).
    """
    for _ in range(WARMUP):
        _round(batch(1), clock, 0.0)
    each, host, _ = _round(batch(2), clock, FIRST_LEAD_S)
    count = max(1, min(MOST_CALLS, round(ROUND_S / max(each, host, 1e-7))))
    lead = min(LONGEST_LEAD_S, FIRST_LEAD_S / 2 + 2 * count * host)
    times: list[float] = []
    calls = behind = 0
    began = time.perf_counter()
    while len(times) < MOST_ROUNDS:
        each, _, ahead = _round(batch(count), clock, lead)
        if not ahead and behind < BEHIND:
            behind += 1
            lead, count = min(LONGEST_LEAD_S, 2 * lead), 1 if behind == BEHIND else count
            continue
        times.append(each)
        calls += count
        spent = time.perf_counter() - began
        if (len(times) >= LEAST_ROUNDS and spent > budget_s) or spent > 5 * budget_s + 1.0:
            break
    return times, calls


def _round(calls: Sequence[Callable[[], None]], clock: Clock, lead_s: float) -> tuple[float, float, bool]:
    """(seconds of one call between the events, seconds that the host took for it, whether the host was ahead to the end)."""
    clock.synchronise()
    if lead_s:
        clock.spin(lead_s)
    begin = clock.event()
    before = time.perf_counter()
    for call in calls:
        call()
    host = time.perf_counter() - before
    end = clock.event()
    ahead = not begin.query()
    clock.synchronise()
    # A call that starts no kernel takes no time of the device; laws of shapes are of logarithms.
    seconds = max(begin.elapsed_time(end) / 1e3, SHORTEST_S) / len(calls)
    return seconds, host / len(calls), ahead


def choose(asked: str | None) -> torch.device:
    """The device to replay on: as asked (:data:`KINDS`), else the first CUDA GPU that torch sees, else the processor.

    Raises :class:`SpecError` for another kind and :class:`EngineError` where there is no GPU.
    """
    if asked is not None and asked not in KINDS:
        raise SpecError("device", "Choose cpu or cuda.")
    if asked == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if asked is None:
        return torch.device("cpu")
    message = "torch sees no CUDA GPU on this host, so no operator can be timed on one. Choose the processor (cpu)."
    raise EngineError(phase="start", kind="missing", field="device", message=message)


def name_of(device: torch.device) -> str:
    """What tables call it: ``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def device_of(name: str) -> torch.device:
    """The device that tables call ``name``. Raises :class:`EngineError` where it is not here, or is another one."""
    if name == "cpu":
        return torch.device("cpu")
    device = choose("cuda")
    found = name_of(device)
    if found != name:
        message = f"The table is of {name}, and torch's first GPU here is {found}. Choose another table."
        raise EngineError(phase="start", kind="missing", field="table", message=message)
    return device


def caches_of(device: torch.device) -> Caches:
    """Those of the host's processor; of a GPU the L2. What a GPU's cores keep for themselves does not outlast a kernel."""
    if device.type != "cuda":
        return caches_of_host()
    found = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    return Caches(found or _UNKNOWN_L2, 0)
