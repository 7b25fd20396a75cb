"""Over how many devices the model of a run document was divided, and whether these were devices or processes that shared one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from profiling.quantities import number

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Division:
    """``parts``: devices of an estimated deployment, or processes of a measurement; ``shared``: all of these ran on one machine's processors,
    so its throughput is that of one machine, and memory is that of one process."""

    parts: int
    shared: bool = False

    @property
    def devices(self) -> int:
        return 1 if self.shared else self.parts

    def of_all(self) -> str:
        if self.shared:
            return gettext("of %(processes)s processes on one machine") % {"processes": self.parts}
        return gettext("of all %(devices)s devices") % {"devices": self.parts}

    def of_one(self) -> str:
        if self.shared:
            return gettext("of one of %(processes)s processes") % {"processes": self.parts}
        return gettext("of one of %(devices)s devices") % {"devices": self.parts}

    def memory_title(self) -> str:
        if self.parts == 1:
            return gettext("Memory")
        return gettext("Memory of one process") if self.shared else gettext("Memory of one device")


def division_of(document: Document) -> Division:
    """Of an estimate by its ``parallelism``, of a measurement by its ``parallel``. Documents come from outside: what cannot be read is one."""
    estimated, measured = document.get("parallelism"), document.get("parallel")
    if isinstance(measured, Mapping):
        parts = int(number(measured.get("tensor_parallel")) or 1)
        return Division(max(1, parts), shared=parts > 1 and measured.get("shared_machine") is True)
    if isinstance(estimated, Mapping):
        return Division(max(1, int(number(estimated.get("devices")) or 1)))
    return Division(1)
