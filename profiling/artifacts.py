"""Files that a measurement leaves beside its document: a trace of the profiled pass, and what torch's allocator did in it.

Each is JSON, compressed with gzip, in the engine process's own folder; the parent takes it from there. Never pickle: opening such a file
would run what is in it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from profiling.allocations import timeline
from profiling.chrome_trace import as_text, cleaned
from profiling.spec import SpecError

#: kind → (title, what opens it).
KINDS = {
    "trace": (
        "Trace of the profiled pass",
        "Open it as it is, compressed, at ui.perfetto.dev or in chrome://tracing: neither sends it anywhere.",
    ),
    "memory": (
        "Allocations of the profiled pass",
        "JSON: one row per allocation and return; on CUDA also torch's own snapshot under “snapshot”.",
    ),
}
CONTENT_TYPE = "application/gzip"
#: Characters of the JSON, and bytes of the compressed file. What is longer is cut, and says so in the file and in the document.
TEXT_LIMIT, STORED_LIMIT = 128 * 2**20, 16 * 2**20


def file_name(kind: str) -> str:
    """How the file of ``kind`` is called wherever it is kept."""
    return f"{kind}.json.gz"


def check_kinds(kinds: Any) -> list[str]:
    """The kinds asked for, each once, in the order above. Raises :class:`SpecError` for what is none."""
    if not isinstance(kinds, list | tuple) or not all(isinstance(kind, str) for kind in kinds):
        raise SpecError("artifacts", f"Give a list of {' and '.join(KINDS)}, or leave it out.")
    for kind in kinds:
        if kind not in KINDS:
            raise SpecError("artifacts", f"There is no artifact {kind[:40]!r}. Choose {' or '.join(KINDS)}.")
    return [kind for kind in KINDS if kind in kinds]


def pack(kind: str, pieces: Callable[[int], Iterator[str]]) -> tuple[Path, dict[str, Any]]:
    """Write what ``pieces(limit)`` gives (at most so many characters, give or take its end) to a compressed file: (path, facts).

    Facts: ``file``, ``content_type``, ``bytes`` (of the JSON), ``stored_bytes`` and ``sha256`` (of the file). Raises ``OSError`` where
    it cannot be written.
    """
    folder = Path(tempfile.mkdtemp(prefix="artifact-"))
    path, limit = folder / file_name(kind), TEXT_LIMIT
    while True:
        size = 0
        with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            for piece in pieces(limit):
                data = piece.encode()
                size += len(data)
                packed.write(data)
        stored = path.stat().st_size
        if stored <= STORED_LIMIT:
            break
        limit = int(min(limit, size) * 0.8 * STORED_LIMIT / stored)
    facts = {"file": file_name(kind), "content_type": CONTENT_TYPE, "bytes": size, "stored_bytes": stored}
    return path, facts | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def read_packed(path: Path, facts: Mapping[str, Any], folder: Path) -> bytes:
    """The file that an engine process left in its own ``folder``, as bytes. Raises ``ValueError`` for anything that is not as ``facts``
    say: another place, a link, another size or digest."""
    if folder.resolve() not in path.parent.resolve().parents:
        raise ValueError("the file is not in the folder of the engine process")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(STORED_LIMIT + 1)
    if len(data) > STORED_LIMIT or len(data) != facts["stored_bytes"]:
        raise ValueError("the file has another size than the engine process said")
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise ValueError("the file is not the one that the engine process wrote")
    return data


def memory_text(
    table: Mapping[str, Any],
    about: Mapping[str, Any],
    snapshot: Mapping[str, Any] | None,
    limit: int,
    notes: list[str | None],
) -> Iterator[str]:
    """The file of allocations in pieces; of too many rows the first, with a sentence under ``cut`` and in ``notes``."""
    head = '{"schema": "llmcompare-allocations", "schema_version": "1.0", "columns": '
    head += json.dumps(table["columns"]) + ', "rows": [\n'
    whole = json.dumps(snapshot, allow_nan=False) if snapshot is not None else "null"
    cut = []
    if len(whole) > limit // 2:
        whole = "null"
        cut.append("The snapshot of torch is left out: it is too large.")
    yield head
    length, kept = len(head) + len(whole), 0
    for row in table["rows"]:
        piece = (",\n" if kept else "") + json.dumps(row, allow_nan=False, separators=(",", ":"))
        if length + len(piece) > limit:
            break
        yield piece
        length += len(piece)
        kept += 1
    if kept < len(table["rows"]):
        cut.append(f"The table is cut: it holds the first {kept:,} of {len(table['rows']):,} allocations and returns.")
    notes.append(" ".join(cut) or None)
    yield f'\n], "snapshot": {whole}, "about": {json.dumps(dict(about))}, "cut": {json.dumps(notes[-1])}}}\n'


_SEGMENT = ("device", "total_size", "allocated_size", "active_size", "requested_size", "stream", "segment_type")
_BLOCK = ("size", "requested_size", "state")
_ENTRY = ("action", "size", "stream", "time_us")


def plain_snapshot(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """``torch.cuda.memory._snapshot()`` as plain JSON: ``segments`` and ``device_traces`` with sizes, states and moments.

    Addresses are counted from the lowest one; ``frames`` (places in source files) are empty lists, which readers of snapshots expect.
    """
    segments = snapshot.get("segments") or []
    traces = [list(trace) for trace in snapshot.get("device_traces") or []]
    known = [int(s["address"]) for s in segments] + [int(e["addr"]) for trace in traces for e in trace if e.get("addr")]
    low = min(known, default=0)

    def kept(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        return {name: value[name] for name in names if isinstance(value.get(name), int | str)}

    def block(value: Mapping[str, Any], address: int) -> dict[str, Any]:
        return kept(value, _BLOCK) | {"address": address, "frames": []}

    found = []
    for segment in segments:
        blocks, address = [], int(segment["address"]) - low
        for value in segment.get("blocks") or []:
            blocks.append(block(value, int(value["address"]) - low if "address" in value else address))
            address = blocks[-1]["address"] + int(value["size"])
        found.append(
            kept(segment, _SEGMENT) | {"address": int(segment["address"]) - low, "frames": [], "blocks": blocks}
        )
    entries = [
        [kept(e, _ENTRY) | {"frames": []} | ({"addr": int(e["addr"]) - low} if e.get("addr") else {}) for e in trace]
        for trace in traces
    ]
    return {"segments": found, "device_traces": entries}


def pack_profile(kind: str, profile: Any, *, model: str, device: str) -> tuple[Path, dict[str, Any]]:
    """:func:`pack` of a profiled pass (``profiling.operator_profile.Profile``). Raises ``ValueError`` with a sentence when there is
    nothing to write; ``cut`` in the facts says what was left out, ``events`` how many there are."""
    if profile.events is None:
        raise ValueError("The profiler's trace has more than 256 MiB: profile fewer tokens or a smaller batch.")
    about = {
        "made_by": "llmcompare, torch.profiler",
        "model": model,
        "device": device,
        "note": "One prefill and up to four decode steps, or one encode, under the profiler: it slows them down, so no time "
        "here is a latency of the model.",
    }
    notes: list[str | None] = []
    if kind == "trace":
        events = cleaned(profile.events)

        def pieces(limit: int) -> Iterator[str]:
            return as_text(events, about, limit, notes)

        count = len(events)
    else:
        if not profile.allocated:
            raise ValueError("The profiler reported no allocation on this device.")
        table = timeline(profile.allocated)
        about["held_bytes"] = (
            "given out by torch's allocator since the pass began and not returned; weights and inputs lay in memory before and are "
            "not in it, nor is memory that libraries take by themselves"
        )

        def pieces(limit: int) -> Iterator[str]:
            return memory_text(table, about, profile.snapshot, limit, notes)

        count = len(table["rows"])
    path, facts = pack(kind, pieces)
    return path, facts | {"events": count, "cut": notes[-1] if notes else None}
