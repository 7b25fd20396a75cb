"""What goes wrong on demand. Each switch names a method of the service (``DeployModel``, ``RawPredict``, … or ``*``).

``fail``: the next ``times`` requests are answered with ``status`` and ``message``. ``fail_operation``: the next operation ends with
``code`` and ``message``. ``hold`` and ``release``: operations of the method wait. ``cut``: the next answer breaks off after so many bytes.
``oversize``: the next answer of the container counts as so many bytes. ``limits``: seconds that endpoints wait.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from tests.standins.vertex.refusal import Refusal


@dataclass
class Failure:
    method: str
    status: int
    message: str
    times: int = 1
    code: str | None = None
    details: list[dict[str, Any]] = field(default_factory=list)
    retry_after: float | None = None
    project: str | None = None


class Switches:
    def __init__(self) -> None:
        self._lock = threading.Condition()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.failures: list[Failure] = []
            self.errors: list[tuple[str, int, str]] = []
            self.held: set[str] = set()
            self.cuts: list[tuple[str, int]] = []
            self.oversizes: list[tuple[str, int]] = []
            self.limits: dict[str, float] = {}
            self._lock.notify_all()

    def set(self, name: str, body: dict[str, Any]) -> None:
        with self._lock:
            if name == "fail":
                self.failures.append(Failure(**body))
            elif name == "fail_operation":
                self.errors.append((body["method"], body["code"], body["message"]))
            elif name == "hold":
                self.held.add(body["method"])
            elif name == "release":
                self.held.discard(body["method"])
            elif name == "cut":
                self.cuts.append((body["method"], body["bytes"]))
            elif name == "oversize":
                self.oversizes.append((body["method"], body["bytes"]))
            elif name == "limits":
                self.limits |= body
            else:
                raise Refusal(404, f"There is no switch named {name}.")
            self._lock.notify_all()

    def check(self, method: str, project: str) -> None:
        """Raise what this request shall be answered with."""
        with self._lock:
            for failure in self.failures:
                if failure.method in (method, "*") and failure.project in (None, project):
                    failure.times -= 1
                    if failure.times <= 0:
                        self.failures.remove(failure)
                    raise Refusal(
                        failure.status,
                        failure.message,
                        code=failure.code,
                        details=failure.details,
                        retry_after=failure.retry_after,
                    )

    def wait(self, method: str) -> None:
        with self._lock:
            self._lock.wait_for(lambda: method not in self.held)

    def operation_error(self, method: str) -> tuple[int, str] | None:
        with self._lock:
            for one in self.errors:
                if one[0] == method:
                    self.errors.remove(one)
                    return one[1], one[2]
        return None

    def take(self, name: str, method: str) -> int | None:
        """The bytes of a ``cuts`` or ``oversizes`` switch, which is used up by it."""
        with self._lock:
            rows: list[tuple[str, int]] = getattr(self, name)
            for one in rows:
                if one[0] == method:
                    rows.remove(one)
                    return one[1]
        return None
