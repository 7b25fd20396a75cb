"""What runs a measurement as the portal asks any engine: in the fresh processes of a protocol, in turns with another where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from profiling.client import EngineChild, Log, Progress, TakeArtifact
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.turns import measure_in_turns


class FreshProcesses:
    """``request`` measures a run specification. ``engine`` makes one process, as a context manager; ``on_artifact`` takes the files
    that the specification asks for."""

    def __init__(
        self,
        protocol: Protocol,
        engine: Callable[[], Any] = EngineChild,
        on_artifact: TakeArtifact | None = None,
    ) -> None:
        self.protocol, self._engine, self._on_artifact = protocol, engine, on_artifact

    def request(
        self,
        op: str,
        payload: dict[str, Any],
        *,
        on_progress: Progress | None = None,
        on_log: Log | None = None,
        should_stop: Callable[[], bool] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """The run document of ``payload["spec"]``; with ``against`` in it, in turns with that. Raises :class:`EngineError` as
        :func:`profiling.processes.measure_in_processes` does."""
        if op != "measure":
            raise ValueError(f"Fresh processes measure; they were asked for {op!r}.")
        spec = dict(payload["spec"])
        against = spec.pop("against", None)
        asked = (spec, self.protocol) if against is None else (against, spec, self.protocol)
        measure: Callable[..., dict[str, Any]] = measure_in_processes if against is None else measure_in_turns
        return measure(
            *asked,
            on_progress=on_progress,
            on_log=on_log,
            should_stop=should_stop,
            timeout_s=timeout_s,
            engine=self._engine,
            on_artifact=self._on_artifact,
        )
