"""Launching on accelerators: the host calls operators ahead of the device, which works on them in their order. Standard library only.

A pass takes the longer of the two: what the host takes to call all of its operators, or what the device takes for them. So in a pass
that the host limits every operator takes its call, and what the device does is hidden behind it; in any other the calls are. (Queues hold
about a thousand launches, more than a decode step of most models has; in a pass with a large and a small half, the host may limit the
second alone, so the longer of the two is a lower bound, as a roofline is.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from profiling.roofline import Ceilings, Timing


def launched(timings: Sequence[Timing], times: Sequence[float], limits: Ceilings) -> list[Timing]:
    """``timings`` of the operators of one pass, each of which runs as often as ``times`` says, as they are when the host runs ahead."""
    if not limits.ahead or not limits.overhead_s:
        return list(timings)
    device = sum(n * (max(t.compute_s, t.memory_s) + t.network_s) for n, t in zip(times, timings, strict=True))
    host = sum(n * t.overhead_s for n, t in zip(times, timings, strict=True))
    if host > device:
        return [Timing(0.0, 0.0, t.overhead_s) for t in timings]
    return [replace(t, overhead_s=0.0) for t in timings]


def longer_of(host: float, device: Callable[[range], float], steps: int) -> float:
    """Seconds of ``steps`` passes of which the host takes ``host`` each, and the device ``device(range of steps)`` in all."""
    hidden, shown = limited_by(host, device, steps)
    return host * len(hidden) + (device(shown) if shown else 0.0)


def limited_by(host: float, device: Callable[[range], float], steps: int) -> tuple[range, range]:
    """(the passes that the host limits, those that the device does), as :func:`longer_of` has them.

    The device's time is convex in the step, and grows or falls over the whole span: so the host limits the first steps or the last ones.
    """

    def limited(step: int) -> bool:
        return device(range(step, step + 1)) < host

    whole = range(steps)
    first, last = limited(0), limited(steps - 1)
    if first and last:
        return whole, range(0)
    if not first and not last:
        return range(0), whole
    low, high = 0, steps - 1  # limited(low) == first, limited(high) == last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if limited(middle) == first else (low, middle)
    hidden = range(high) if first else range(high, steps)
    shown = range(high, steps) if first else range(high)
    return hidden, shown
