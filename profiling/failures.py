"""How the engine says that something went wrong: one exception that crosses the process boundary as one JSON line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: kind → what it means. Readers branch on these, people read the message.
KINDS = {
    "spec": "an input cannot be used; field names it",
    "config": "the model's configuration cannot be used",
    "memory": "it needs more memory than there is",
    "numeric": "the model computed NaN or infinity",
    "unsupported": "the engine cannot do this with this model",
    "missing": "a file, package or device is not there",
    "killed": "the engine process was ended from outside",
    "cancelled": "the caller asked to stop",
    "timeout": "the time limit was reached",
    "busy": "the engine process was occupied by other requests for too long",
    "protocol": "the engine process said something that is not in the protocol",
    "internal": "a fault in the engine or in a library",
}


class EngineError(Exception):
    """A request to the engine failed.

    ``phase`` is the stage it had reached ("load", "prefill"), ``kind`` one of :data:`KINDS`, ``field`` the input at fault or
    ``None``; ``str(error)`` is a message for the user. ``partial`` is what had been computed by then, or ``None``.
    """

    def __init__(
        self,
        *,
        phase: str,
        kind: str,
        message: str,
        field: str | None = None,
        partial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.phase, self.kind, self.field, self.message, self.partial = phase, kind, field, message, partial

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("phase", "kind", "field", "message", "partial")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineError:
        return cls(
            phase=data.get("phase") or "unknown",
            kind=data.get("kind") or "internal",
            message=data.get("message") or "The engine failed without saying why.",
            field=data.get("field"),
            partial=data.get("partial"),
        )


_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][^/\\\s'\"<>:,;()]+){2,}")


def without_paths(text: str) -> str:
    """``text`` with every absolute path cut to its last part: what users see must not tell where things lie on a disk."""
    return _PATH.sub(lambda match: re.split(r"[/\\]", match.group())[-1], text)


def describe(error: BaseException) -> str:
    """One readable line for an exception that nobody foresaw, without paths and not longer than 500 characters."""
    text = without_paths(" ".join(str(error).split())) or "no further explanation"
    return f"{type(error).__name__}: {text}"[:500]


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was not enough, of the process or of an accelerator: torch says so of a processor's in a plain ``RuntimeError``."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or _DEVICE_MEMORY.search(str(error)) is not None
    )


#: What the libraries of an accelerator say when its memory is used up, which is no failure of the device.
_DEVICE_MEMORY = re.compile(r"\b(CUDA|HIP) error: out of memory|\bCU(BLAS|DNN)_STATUS_ALLOC_FAILED")
#: What torch's errors of an accelerator have in them, whichever library below it failed.
_DEVICE = re.compile(
    r"(CUDA|HIP|cuDNN|MIOpen) (driver )?error|CU(BLAS|DNN|SOLVER|SPARSE|FFT)_STATUS_|Triton Error \[CUDA\]"
)


def device_failed(error: BaseException) -> bool:
    """Whether ``error``, or one that it came of, is an accelerator's that failed while it computed; too little memory is none. After some
    of them (a memory access that is not allowed, a failed assertion) every further call of the process fails as well."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if out_of_memory(one):
            return False
        if type(one).__name__ == "AcceleratorError" or _DEVICE.search(str(one)):
            return True
        seen.append(one)
        one = one.__cause__ or one.__context__
    return False


def killed_message(number: int, phase: str) -> str:
    """What happened, why most likely, and what to do, when the engine process ended by signal ``number`` in ``phase``."""
    how, why = {
        9: (
            "was killed (signal 9)",
            "; most often the machine ran out of memory. Use a smaller model, batch or context",
        ),
        11: (
            "broke with a memory fault (signal 11)",
            "; this is a fault in a library. Try another dtype or attention implementation",
        ),
        15: ("was ended (signal 15)", ""),
    }.get(number, (f"was ended by signal {number}", ""))
    return f"The engine process {how} during the stage “{phase}”{why}."
