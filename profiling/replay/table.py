"""What was timed on one device of a host: a JSON file that grows with every model replayed there. Standard library only.

A table belongs to a host (its fingerprint, which the torch version is part of), a device (the processor, or the GPU of a name) and, on
the processor, a number of threads: times of another are no times of this one, so a file of another is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from profiling.spec import SpecError, digest

SCHEMA = "llmcompare-replay-table"
VERSION = "1"
CPU = "cpu"


@dataclass(frozen=True)
class Row:
    """One operator timed alone: ``seconds`` per call (middle of ``calls``), ``best``; the rest as in ``shapes.Operator``.

    ``models``: names of the models that it was timed for.
    """

    key: str
    name: str
    op_class: str
    dtype: str
    flops: int
    elementwise_flops: int
    cold_bytes: int
    hot_bytes: int
    rows: int
    seconds: float
    best: float
    calls: int
    quality: str
    models: tuple[str, ...]
    measured_at: str

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Glue:
    """What a pass costs beside its operators: ``seconds``, measured on the narrow twin of ``model``; ``per_call``: over its operators.

    In a table of a GPU it is the time that the host takes for the whole pass, which the device may or may not wait for.
    ``key``: digest of the model's structure and the stage.
    """

    key: str
    stage: str
    model: str
    dtype: str
    seconds: float
    per_call: float
    measured_at: str

    def __post_init__(self) -> None:
        _check(self)


def _check(item: Row | Glue) -> None:
    """Raise :class:`ValueError` for what cannot have been timed: a table is a file, and a wrong number in it would become a prediction."""
    for one in fields(item):
        name, kind, value = one.name, one.type, getattr(item, one.name)
        if kind == "str" and not isinstance(value, str):
            raise ValueError(f"{name} is no text")
        if kind == "int" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"{name} is no count")
        if kind == "float":
            # Glue may be nothing, an operator takes time.
            real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not real or value < 0 or (value == 0 and isinstance(item, Row)):
                raise ValueError(f"{name} is no time")


@dataclass
class Table:
    """Rows by key and glue by key, of the host with ``fingerprint`` on ``threads`` threads. ``device``: ``cpu``, or the name of its GPU, where
    threads play no part (0)."""

    fingerprint: str
    torch: str
    threads: int
    rows: dict[str, Row] = field(default_factory=dict)
    glue: dict[str, Glue] = field(default_factory=dict)
    device: str = CPU

    @property
    def on_gpu(self) -> bool:
        return self.device != CPU

    def add(self, row: Row) -> None:
        """Put in a row, in place of an earlier one of the same call; a contended one does not replace an undisturbed one."""
        known = self.rows.get(row.key)
        if known is not None:
            models = tuple(sorted({*known.models, *row.models}))
            keep = known if row.quality != "ok" and known.quality == "ok" else row
            row = Row(**(asdict(keep) | {"models": models}))
        self.rows[row.key] = row

    def without(self, models: Iterable[str]) -> Table:
        """The table as it would be if these models had never been replayed."""
        left = set(models)
        rows = {key: row for key, row in self.rows.items() if set(row.models) - left}
        glue = {key: item for key, item in self.glue.items() if item.model not in left}
        return Table(self.fingerprint, self.torch, self.threads, rows, glue, self.device)

    def undisturbed(self) -> Table:
        """The table without operators that something else disturbed while they were timed: they are timed again the next time."""
        rows = {key: row for key, row in self.rows.items() if row.quality == "ok"}
        return Table(self.fingerprint, self.torch, self.threads, rows, dict(self.glue), self.device)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "schema_version": VERSION,
            "fingerprint": self.fingerprint,
            "torch": self.torch,
            "threads": self.threads,
            "device": self.device,
            "rows": [asdict(row) for row in self.rows.values()],
            "glue": [asdict(item) for item in self.glue.values()],
        }

    @classmethod
    def from_json(cls, data: Any) -> Table:
        """Raises :class:`SpecError` for what is no table of this version."""
        try:
            if (data["schema"], data["schema_version"]) != (SCHEMA, VERSION):
                raise ValueError("another schema")
            rows = [Row(**(item | {"models": tuple(item["models"])})) for item in data["rows"]]
            glue = [Glue(**item) for item in data["glue"]]
            table = cls(str(data["fingerprint"]), str(data["torch"]), int(data["threads"]))
            table.device = str(data.get("device", CPU))  # tables of before there were any of GPUs are of processors
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SpecError(
                "table", f"This is no table of replayed operators that can be read here: {error}."
            ) from error
        table.rows = {row.key: row for row in rows}
        table.glue = {item.key: item for item in glue}
        return table


def default_path(fingerprint: str, threads: int, device: str = CPU) -> Path:
    """A file of this host, and this number of threads or this GPU, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "llmcompare" / "replay" / file_name(fingerprint, threads, device)


def file_name(fingerprint: str, threads: int, device: str = CPU) -> str:
    """Of the table of this host, and this number of threads or this GPU."""
    part = str(threads) if device == CPU else re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{fingerprint[:16]}-{part}.json"


def read(path: Path, fingerprint: str, torch: str, threads: int, device: str = CPU) -> Table:
    """The table at ``path``, empty where there is no file. Raises :class:`SpecError` for one that is damaged, or of another host or device."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Table(fingerprint, torch, threads, device=device)
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError("table", f"{path} cannot be read as a table of replayed operators: {error}.") from error
    # Tables of before there were digests have none.
    if isinstance(data, dict) and "sha256" in data and data.pop("sha256") != digest(data):
        raise SpecError("table", f"{path} is damaged: its digest is not that of what is in it.")
    table = Table.from_json(data)
    differences: tuple[tuple[str, str | int, str | int], ...] = (
        ("another host or another torch", fingerprint, table.fingerprint),
        ("another torch version", torch, table.torch),
        ("another device", device, table.device),
        ("another number of threads", threads, table.threads),
    )
    for what, wanted, found in differences:
        if wanted != found:
            raise SpecError("table", f"{path} was timed on {what} ({found}, not {wanted}); choose another file.")
    return table


def write(table: Table, path: Path) -> None:
    """Whole or not at all. Raises :class:`OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            content = table.to_json()
            json.dump(content | {"sha256": digest(content)}, file, separators=(",", ":"))
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
