"""What a server of ours says of itself: its clock beside this side's, and the profile of its layers.

It comes from another machine, which may be anybody's: sizes, depth, numbers and shape are checked before anything is kept, and what does not
pass is left out with a sentence. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiling.remote.protocol import cleaned
from profiling.remote.request import Answer
from profiling.units import DEFINITIONS, UNITS

#: Values, levels of nesting, characters of one text and rows of one table of a profile, at most.
MAX_VALUES, MAX_DEPTH, MAX_TEXT, MAX_ROWS = 2_000_000, 12, 20_000, 50_000
MAX_NODES = 10_000
#: Bytes of the unpacked document.
MAX_BYTES = 32 * 2**20
#: Parts of a measured document that are kept, and what each must be. What is not listed is left out: texts, files, other processes.
PARTS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("schema", "schema_version", "kind", "created"), str),
    **dict.fromkeys(("producer", "model", "hardware", "workload", "conventions", "metrics", "stages", "graph"), dict),
    **dict.fromkeys(("memory", "roofline", "errors", "environment", "conditions", "instrumentation", "profiled"), dict),
    **dict.fromkeys(("operators", "modules", "samples", "module_times", "parallelism", "protocol"), dict),
    **dict.fromkeys(("estimates", "warnings", "unknown_operators"), list),
    "duration_s": (int, float),
}
TABLES = ("operators", "modules", "samples")
NEEDED = ("schema", "kind", "model", "workload", "metrics")


class Unfit(ValueError):
    """Why a profile is not kept, in one sentence."""


@dataclass(frozen=True)
class Served:
    """``clocks``: times of one request by both sides. ``document``: the measured run document of the server; ``note``: why there is none;
    ``dropped``: what the server left out of it to keep its answer small."""

    clocks: dict[str, Any] | None
    document: dict[str, Any] | None
    note: str = ""
    dropped: tuple[str, ...] = ()


def read_served(answer: Answer) -> Served:
    """What the answer to the request for the profile holds. Never raises."""
    if answer.error is not None:
        return Served(None, None, f"The request for the server's own times and layers failed: {answer.error}")
    ours = answer.ours
    if ours is None:
        return Served(None, None, "The server is none of ours: it says nothing of its own times and layers.")
    clocks = _clocks(answer, ours.get("server"))
    packed = ours.get("profile")
    if packed is None:
        said = ours.get("profile_error")
        why = _inside(said) if isinstance(said, str) else "none came with its answer"
        return Served(clocks, None, f"The server gave its own times, but no layers: {why}.")
    try:
        return Served(clocks, checked(_unpacked(packed)), dropped=_dropped(packed))
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        return Served(clocks, None, f"What came from the server of its layers was left out: {_why(error)}.")


def _why(error: BaseException) -> str:
    return _inside(str(error)) or type(error).__name__


def _inside(text: str) -> str:
    """A sentence as it stands inside of another one."""
    text = cleaned(text).rstrip(".")
    return text[:1].lower() + text[1:]


def _dropped(packed: Mapping[str, Any]) -> tuple[str, ...]:
    named = packed.get("dropped")
    return tuple(cleaned(name) for name in named[:1000] if isinstance(name, str)) if isinstance(named, list) else ()


def _clocks(answer: Answer, server: Any) -> dict[str, Any] | None:
    """The same request by both clocks, in seconds, and the difference: network, gateway, and whatever the server does around the model.

    The server's end is the last token, and that of an answer which the model ended has no text: on this side it is the word that it has ended.
    """
    if not isinstance(server, Mapping):
        return None
    rows, end = [], answer.e2e_s
    if end is not None and answer.finish_ns is not None:
        end = max(end, (answer.finish_ns - answer.sent_ns) / 1e9)
    for name, here in (("ttft", answer.ttft_s), ("tpot", answer.tpot_s), ("e2e", end)):
        there = _seconds(server.get(f"{name}_s"))
        # The way there and back is not in the time between tokens.
        apart = here - there if here is not None and there is not None and name != "tpot" else None
        rows.append([name, here, there, apart])
    if all(row[2] is None for row in rows):
        return None
    return {"columns": ["figure", "here_s", "server_s", "difference_s"], "rows": rows}


def _seconds(value: Any) -> float | None:
    # Compared before it is converted: a whole number can be too large for a float.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 86_400 else None


def _unpacked(packed: Any) -> Any:
    from profiling.remote.packed import unpack

    size = packed.get("bytes") if isinstance(packed, Mapping) else None
    if not isinstance(size, int) or size > MAX_BYTES:
        raise Unfit(f"it is not packed as it should be, or has more than {MAX_BYTES // 2**20} MiB")
    return unpack(packed)


def checked(document: Any) -> dict[str, Any]:
    """The parts of :data:`PARTS` of a measured run document. Raises :class:`Unfit`."""
    if not isinstance(document, dict):
        raise Unfit("it is not a document")
    if document.get("schema") != "llmcompare-run" or document.get("kind") != "measure":
        raise Unfit("it is not the document of a measured run")
    found = {name: document[name] for name, kind in PARTS.items() if isinstance(document.get(name), kind)}
    if missing := [name for name in NEEDED if name not in found]:
        raise Unfit(f"it has no {missing[0]}")
    # The prompt may be as long as any; this side has it, and what is not kept need not be small.
    found["workload"] = {name: value for name, value in found["workload"].items() if name not in ("prompt", "prompts")}
    _check_size(found)
    for name in TABLES:
        if name in found:
            _check_table(name, found[name])
    found["metrics"] = {key: entry for key, entry in found["metrics"].items() if _is_metric(entry)}
    for stage, graph in found.get("graph", {}).items():
        _check_graph(stage, graph)
    for name, kind in (("stages", dict), ("estimates", dict), ("warnings", dict)):
        entries = found.get(name, {})
        if any(not isinstance(entry, kind) for entry in (entries.values() if isinstance(entries, dict) else entries)):
            raise Unfit(f"its {name} are not as they should be")
    return found


def _check_size(document: Any) -> None:
    """Without recursion: depth is one of the things to be checked."""
    waiting, seen = [(document, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise Unfit(f"it has more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise Unfit(f"it is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            if any(not isinstance(name, str) or len(name) > MAX_TEXT for name in value):
                raise Unfit("it has names that are none")
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
        elif isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise Unfit(f"it has a text of more than {MAX_TEXT:,} characters")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Unfit("it has a number that is not finite")
        elif isinstance(value, int):
            if abs(value) >= 2**63:
                raise Unfit("it has a number that is too large")
        elif value is not None:
            raise Unfit("it has a value that JSON does not know")


def _check_table(name: str, table: dict[str, Any]) -> None:
    columns, rows = table.get("columns"), table.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise Unfit(f"its table of {name} is none, or has more than {MAX_ROWS:,} rows")
    if not all(isinstance(column, str) for column in columns) or len(set(columns)) != len(columns):
        raise Unfit(f"the columns of its {name} have no names of their own")
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise Unfit(f"its table of {name} has rows of another length than its columns")


def _check_graph(stage: str, graph: Any) -> None:
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    edges = graph.get("edges") if isinstance(graph, dict) else None
    if not isinstance(nodes, list) or not isinstance(edges, list) or len(nodes) + len(edges) > MAX_NODES:
        raise Unfit(f"its graph of {cleaned(stage)} is none, or has more than {MAX_NODES:,} nodes and edges")
    if any(not isinstance(node, dict) or not isinstance(node.get("id"), str) for node in nodes):
        raise Unfit("its graph has nodes without a name")
    if any(not isinstance(edge, dict) or not {"source", "target"} <= edge.keys() for edge in edges):
        raise Unfit("its graph has edges without ends")


def _is_metric(entry: Any) -> bool:
    """A metric of this version: one that is not known here has no definition, so it would be a number that nobody can read."""
    if not isinstance(entry, dict) or entry.get("definition") not in DEFINITIONS or entry.get("unit") not in UNITS:
        return False
    value = entry.get("value")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value is None or number) and entry.get("origin") in ("estimated", "measured", "reported")
