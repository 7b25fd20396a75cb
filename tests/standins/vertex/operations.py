"""Long operations: each runs in a thread, has a name, and can be asked about from anywhere until the stand-in ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.standins.vertex.control import Switches
from tests.standins.vertex.refusal import Refusal

TYPES = "type.googleapis.com/"
V1, V1BETA1 = "google.cloud.aiplatform.v1.", "google.cloud.aiplatform.v1beta1."
EMPTY = "google.protobuf.Empty"


class Failed(Exception):
    """Ends an operation with an error: ``code`` of google.rpc.Code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Operations:
    def __init__(self, switches: Switches) -> None:
        self.switches, self._found = switches, {}
        self._ids, self._lock = itertools.count(1000), threading.Lock()

    def start(
        self, method: str, owner: str, metadata: str, response: str, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """``owner``: the name before ``/operations/``. ``work`` gives the fields of the ``response`` message, or raises :class:`Failed`."""
        with self._lock:
            name, at = f"{owner}/operations/{next(self._ids)}", now()
            generic = {"createTime": at, "updateTime": at}
            self._found[name] = {"name": name, "metadata": {"@type": TYPES + metadata, "genericMetadata": generic}}
            begun = _copy(self._found[name])
        threading.Thread(target=self._run, args=(method, name, response, work), daemon=True).start()
        return begun

    def _run(self, method: str, name: str, response: str, work: Callable[[], dict[str, Any]]) -> None:
        end: dict[str, Any]
        try:
            self.switches.wait(method)
            error = self.switches.operation_error(method)
            if error is not None:
                raise Failed(*error)
            end = {"response": {"@type": TYPES + response, **work()}}
        except Failed as error:
            end = {"error": {"code": error.code, "message": error.message}}
        except Exception as error:
            end = {"error": {"code": 13, "message": f"The stand-in failed: {error!r}"}}
        with self._lock:
            found = self._found[name]
            found["metadata"]["genericMetadata"]["updateTime"] = now()
            self._found[name] = found | end | {"done": True}

    def under_way(self, owner: str, method: str) -> bool:
        """Whether an operation of ``method`` has not ended on ``owner``."""
        kind = f"{TYPES}{V1}{method}OperationMetadata"
        with self._lock:
            mine = [found for name, found in self._found.items() if name.startswith(f"{owner}/operations/")]
        return any(found["metadata"]["@type"] == kind and not found.get("done") for found in mine)

    def get(self, name: str) -> dict[str, Any]:
        with self._lock:
            if name not in self._found:
                raise Refusal(404, f"Operation {name} was not found.")
            return _copy(self._found[name])


def _copy(found: dict[str, Any]) -> dict[str, Any]:
    metadata = found["metadata"]
    return found | {"metadata": metadata | {"genericMetadata": dict(metadata["genericMetadata"])}}
