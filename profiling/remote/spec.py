"""What a run of an endpoint is made of, as a frozen value, and how much it may cost before it is begun. Standard library only.

The address of the server and the key are no part of it: who sends the requests looks them up when they are sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profiling.load import Load, planned
from profiling.remote.levels import PER_USER, Sweep
from profiling.spec import Workload, _Spec

#: Fields of a workload that say something of an endpoint; formats, kernels and devices are the server's own affair.
WORKLOAD_FIELDS = ("input_tokens", "output_tokens", "prompt", "warmup", "seed", "time_limit_s")


@dataclass(frozen=True)
class EndpointSpec(_Spec):
    """``endpoint``: ``name, kind, model, api, unique_prompts, profile``. ``model`` and ``hardware``: what the user says stands behind it
    (:class:`profiling.spec.ModelSpec` and :class:`profiling.spec.HardwareSpec`), None where nothing is said. ``sweep``: levels of users
    instead of the load's own."""

    endpoint: dict[str, Any]
    workload: dict[str, Any]
    load: dict[str, Any]
    sweep: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    kind: str = "endpoint"

    def parts(self) -> tuple[Workload, Load, Sweep | None]:
        """The inputs as values; raises :class:`profiling.spec.SpecError`."""
        return (
            Workload.from_json(self.workload),
            Load.from_json(self.load),
            Sweep.from_json(self.sweep) if self.sweep else None,
        )


def workload_json(workload: Workload) -> dict[str, Any]:
    """The fields that matter to an endpoint. With a prompt, its tokens are the server's to count."""
    values = workload.to_json()
    found = {name: values[name] for name in WORKLOAD_FIELDS}
    return {name: value for name, value in found.items() if name != "input_tokens" or workload.prompt is None}


@dataclass(frozen=True)
class Budget:
    """What is sent at most. ``words``: input tokens are counted in words, each of roughly a token; with a prompt its characters ÷ 4."""

    requests: int
    input_tokens: int
    output_tokens: int


def budget(workload: Workload, load: Load, sweep: Sweep | None, profile: bool) -> Budget:
    """Upper bounds of what a run sends: every request of every level, warm-up and the request for the profile."""
    # Lengths are drawn by the seed, so those of every request are known; levels draw the same ones, in longer runs of the same series.
    usual = {"output_tokens": workload.output_tokens, "seed": workload.seed}
    usual["input_tokens"] = workload.input_tokens if workload.prompt is None else -(-len(workload.prompt) // 4) + 4
    longest_plan = load if sweep is None else _level(load, max(sweep.levels))
    series = planned(longest_plan, **usual)
    counts = [len(series)] if sweep is None else [_level(load, users).requests for users in sweep.levels]
    asked = [one for count in counts for one in series[:count]]
    extra = workload.warmup + (1 if profile else 0)
    longest = max(asked, key=lambda one: one.input_tokens + one.output_tokens, default=None)
    requests, into, out = len(asked), sum(a.input_tokens for a in asked), sum(a.output_tokens for a in asked)
    if longest is not None:
        into, out = into + extra * longest.input_tokens, out + extra * longest.output_tokens
    if workload.prompt is not None:
        into = (requests + extra) * usual["input_tokens"]
    return Budget(requests + extra, into, out)


def at_once(load: Load, sweep: Sweep | None) -> int:
    """Requests that may be under way together, and connections with them: one a user of a closed loop, all of an open one, where none waits
    for another."""
    if sweep is not None:
        return max(sweep.levels)
    return load.requests if load.open else load.concurrency


def _level(load: Load, users: int) -> Load:
    values = load.to_json() | {"mode": "closed", "rate": None, "concurrency": users}
    return Load.from_json(values | {"requests": max(load.requests, PER_USER * users)})
