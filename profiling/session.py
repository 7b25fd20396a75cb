"""What a measurement collects on its way, for those who take it and those who write it down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from profiling import batching
from profiling.generation import Generation
from profiling.hooks import ModuleTime
from profiling.load import Load
from profiling.memory_breakdown import Held
from profiling.protocol import Protocol
from profiling.ranks import Ranks
from profiling.sampling import MemoryRecord
from profiling.spec import HardwareSpec, ModelSpec, Workload

#: Partial results are sent at most this often.
PARTIAL_S = 1.0
#: In a load less often: it is the server that waits meanwhile, some milliseconds each time.
LOAD_PARTIAL_S = 10.0
#: No further iteration is begun once this part of the time limit is used: what was measured must still be written down.
TIME_SHARE = 0.7


@dataclass
class Session:
    """What a measurement collects on its way."""

    model: ModelSpec
    hardware: HardwareSpec
    workload: Workload
    report: Any
    protocol: Protocol = field(default_factory=lambda: Protocol(processes=1))
    load: Load | None = None
    prompts: batching.Prompts | None = None
    began: float = field(default_factory=time.monotonic)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    warnings: list[dict[str, str]] = field(default_factory=list)
    cold: Generation | None = None
    warmups: list[Generation] = field(default_factory=list)
    timed: list[Generation] = field(default_factory=list)
    hooked: dict[str, list[dict[str, ModuleTime]]] = field(default_factory=dict)
    call_cost_s: float | None = None
    requested_output: int = 0
    conditions: dict[str, Any] = field(default_factory=dict)
    load_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    memory: MemoryRecord | None = None
    profiled: dict[str, Any] | None = None
    held: Held = field(default_factory=Held)
    artifacts: list[str] = field(default_factory=list)
    made: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    loading: dict[str, Any] = field(default_factory=dict)
    ranks: Ranks | None = None
    sent: float = -PARTIAL_S

    def warn(self, code: str, message: str) -> None:
        self.warnings.append({"code": code, "message": message})

    @property
    def batches(self) -> int:
        """Different batches that the passes take in turn."""
        return len(self.prompts.batches.parts) if self.prompts else 1

    @property
    def instrumented(self) -> Workload:
        """The workload of the batch that instruments and estimates are of."""
        return self.prompts.instrumented(self.workload) if self.prompts else self.workload

    def alike(self, passes: list[Generation]) -> list[Generation]:
        """Of ``passes`` in their order, those of the batch that instruments and estimates are of."""
        return passes[self.prompts.batches.largest :: self.batches] if self.prompts else passes

    def last(self) -> list[Generation]:
        """The newest timed pass of each batch, in the order of the batches; fewer when the time was too short for all."""
        done = len(self.timed) - len(self.timed) % self.batches or len(self.timed)
        return self.timed[max(0, done - self.batches) : done]

    def time_is_short(self) -> bool:
        return time.monotonic() - self.began > TIME_SHARE * self.workload.time_limit_s
