"""A run document inside of an answer of a server: compressed, checked when it is read, and never larger than the answer may be.

What does not fit is left out and named, the layers at the end of the model first: they repeat those before them. Standard library only.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

ENCODING = "gzip+base64"
#: Most bytes of JSON that are unpacked: a small answer must not fill the memory of whoever reads it.
MAX_UNPACKED = 256 * 2**20
#: Sections that can be left out once no layer is left, the most dispensable first. They are named with a colon: ``section:graph``.
SECTIONS = ("profiled", "memory.timeline", "graph", "module_times", "operators", "modules", "roofline", "samples")
_BLOCK = re.compile(r"^(?:[^.]+\.)*?\d+(?=\.|$)")


class Broken(ValueError):
    """What was received is no packed document, in one sentence."""


class TooLarge(ValueError):
    """Nothing of the document fits, in one sentence."""


def pack(document: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """``document`` in at most ``limit`` bytes of JSON: ``encoding``, ``bytes`` and ``sha256`` of the JSON inside, ``dropped`` (paths of
    layers, then sections that had to be left out), ``data``.

    Raises :class:`TooLarge`.
    """
    order = [*reversed(blocks(document)), *(f"section:{name}" for name in SECTIONS if _has(document, name))]

    def tried(dropped: int) -> dict[str, Any] | None:
        packed = _packed(_without(document, order[:dropped]), order[:dropped])
        return packed if len(json.dumps(packed)) <= limit else None

    best, low, high = tried(0), 1, len(order)
    while best is None and low <= high:  # the fewest that make it fit
        middle = (low + high) // 2
        found = tried(middle)
        if found is None:
            low = middle + 1
        elif middle == low:
            best = found
        else:
            high = middle
    if best is None:
        raise TooLarge(f"The profile does not fit into {limit:,} bytes, even without its layers.")
    return best


def unpack(packed: Any) -> dict[str, Any]:
    """The document of what :func:`pack` made. Raises :class:`Broken` for anything else."""
    if not isinstance(packed, Mapping) or packed.get("encoding") != ENCODING or not isinstance(packed.get("data"), str):
        raise Broken("The profile that the server sent is not packed as it should be.")
    try:
        unpacker = zlib.decompressobj(wbits=31)
        text = unpacker.decompress(base64.b64decode(packed["data"], validate=True), MAX_UNPACKED)
        whole = unpacker.eof
    except (binascii.Error, zlib.error, ValueError):
        raise Broken("The profile that the server sent cannot be unpacked.") from None
    if not whole or len(text) != packed.get("bytes") or hashlib.sha256(text).hexdigest() != packed.get("sha256"):
        raise Broken("The profile that the server sent is not whole, or not what it says it is.")
    try:
        document = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise Broken("The profile that the server sent is not JSON.") from None
    if not isinstance(document, dict):
        raise Broken("The profile that the server sent is not a run document.")
    return document


def _refused(text: str) -> None:
    raise ValueError(f"{text} is no number")


def blocks(document: Mapping[str, Any]) -> list[str]:
    """Paths of the layers of a model: its modules that are counted (``model.layers.0``), in order; those inside of others are not named."""
    return list(dict.fromkeys(match.group() for path in _paths(document) if (match := _BLOCK.match(path))))


def _paths(document: Mapping[str, Any]) -> list[str]:
    table = document.get("modules") or {}
    found: list[str] = []
    if "path" in table.get("columns", ()):
        at = table["columns"].index("path")
        found += [row[at] for row in table["rows"]]
    for times in (document.get("module_times") or {}).values():
        found += times["paths"]
    return [path for path in found if isinstance(path, str)]


def _packed(document: Mapping[str, Any], dropped: list[str]) -> dict[str, Any]:
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return {
        "encoding": ENCODING,
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
        "dropped": dropped,
        "data": base64.b64encode(gzip.compress(text, 6, mtime=0)).decode(),
    }


def _has(document: Mapping[str, Any], name: str) -> bool:
    section, _, part = name.partition(".")
    return bool(document.get(section)) and (not part or part in document[section])


def _without(document: Mapping[str, Any], dropped: list[str]) -> dict[str, Any]:
    found = dict(document)
    layers = frozenset(name for name in dropped if not name.startswith("section:"))
    if layers:
        _drop_layers(found, layers)
    for name in dropped:
        if name.startswith("section:"):
            section, _, part = name.removeprefix("section:").partition(".")
            if part:
                found[section] = {key: value for key, value in found[section].items() if key != part}
            else:
                found.pop(section)
    return found


def _drop_layers(found: dict[str, Any], layers: frozenset[str]) -> None:
    """Everything that is known of the modules in ``layers``, wherever it stands. Sums of what is around them stay what they were."""

    def inside(path: Any) -> bool:
        match = _BLOCK.match(path) if isinstance(path, str) else None
        return match is not None and match.group() in layers

    def kept(table: Mapping[str, Any]) -> dict[str, Any]:
        if "path" not in table.get("columns", ()):
            return dict(table)
        at = table["columns"].index("path")
        return {**table, "rows": [row for row in table["rows"] if not inside(row[at])]}

    if found.get("modules"):
        found["modules"] = kept(found["modules"])
    if found.get("profiled"):
        found["profiled"] = {
            name: kept(value) if isinstance(value, Mapping) and "rows" in value else value
            for name, value in found["profiled"].items()
        }
    if found.get("module_times"):
        found["module_times"] = {stage: _kept_times(times, inside) for stage, times in found["module_times"].items()}
    if found.get("graph"):
        found["graph"] = {
            stage: {
                **graph,
                "nodes": [node for node in graph["nodes"] if not inside(node["id"].partition("#")[0])],
                "edges": [
                    edge
                    for edge in graph["edges"]
                    if not any(inside(edge[end].partition("#")[0]) for end in ("source", "target"))
                ],
            }
            for stage, graph in found["graph"].items()
        }


def _kept_times(times: Mapping[str, Any], inside: Any) -> dict[str, Any]:
    kept = [index for index, path in enumerate(times["paths"]) if not inside(path)]
    return {
        **times,
        "paths": [times["paths"][index] for index in kept],
        "exclusive_s": [[row[index] for index in kept] for row in times["exclusive_s"]],
    }
