"""The hardware catalogue as a file: one row of facts in, the values of one ``Hardware`` row out. No database here.

``data/hardware_facts.json`` says in its ``about`` what its figures mean: dense rates, decimal units. Here they become
bytes, bytes/s and FLOP/s by decimal arithmetic, so that 68.25 GB/s is exactly 68 250 000 000 bytes/s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from django.utils.text import slugify

from profiling.spec import digest

FACTS_PATH = Path(__file__).parent / "data" / "hardware_facts.json"

MEGA, GIGA, TERA = 10**6, 10**9, 10**12


@dataclass(frozen=True)
class Figure:
    """One figure of the file: its key in a device, its name in confidence lists, our field, and units in one of its units."""

    key: str
    confidence_key: str
    field: str
    scale: int


FIGURES = (
    Figure("memory_gb", "memory_gb", "memory_bytes", GIGA),
    Figure("memory_bandwidth_gb_s", "bandwidth_gb_s", "memory_bandwidth", GIGA),
    Figure("cache_mb", "cache_mb", "cache_bytes", MEGA),
    Figure("interconnect_gb_s", "interconnect_gb_s", "interconnect_bandwidth", GIGA),
    Figure("tdp_w", "tdp_w", "tdp_w", 1),
)

#: The fields that the catalogue decides; the digest of a row covers these and nothing else.
CATALOGUE_FIELDS = (
    "name",
    "vendor",
    "kind",
    "year",
    *(figure.field for figure in FIGURES),
    "peak_flops",
    "note",
    "confidence",
    "disagreements",
    "compiled_on",
)


def peak_field(dtype: str) -> str:
    """The name of a peak rate in ``confidence`` and ``disagreements``."""
    return f"peak_flops.{dtype}"


def exact(value: Decimal | int | None, scale: int) -> int | float | None:
    """``value`` in its base unit: an int when it is whole, as almost every figure is, else the nearest float."""
    if value is None:
        return None
    scaled = Decimal(value) * scale
    return int(scaled) if scaled == scaled.to_integral_value() else float(scaled)


def read_facts(path: Path = FACTS_PATH) -> dict[str, Any]:
    """The file with its decimals unrounded."""
    return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)


@cache
def source_versions() -> dict[str, str]:
    """Name of each source → which file of it, at which version, was compared."""
    return read_facts()["sources"]


def slug_of(device: Mapping[str, Any]) -> str:
    return slugify(f"{device['vendor']} {device['name']}")


def _figures(device: Mapping[str, Any]) -> list[tuple[str, str, int, Any]]:
    """Every figure of a device: its name in confidence lists, our field name, the scale, and the value as the file has it."""
    plain = [(f.confidence_key, f.field, f.scale, device[f.key]) for f in FIGURES]
    peaks = [(f"peak.{dtype}", peak_field(dtype), TERA, v) for dtype, v in device["peak_dense_tflops"].items()]
    return plain + peaks


def confidence_of(device: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Field → ``{"status": "confirmed" | "unconfirmed", "sources": [names]}``, for every figure that is known.

    Confirmed means that at least one named source agrees; a figure that nobody vouches for is unconfirmed.
    """
    entries = {}
    for key, field, _, value in _figures(device):
        if value is None:
            continue
        sources = list(device["confirmed_by"].get(key, []))
        confirmed = bool(sources) and key not in device["unconfirmed"]
        entries[field] = {"status": "confirmed" if confirmed else "unconfirmed", "sources": sources}
    return entries


def disagreements_of(device: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sources that give another figure than ours: ``{"field", "source", "value", "ours"}`` in base units."""
    known = {key: (field, scale) for key, field, scale, _ in _figures(device)}
    rows = []
    for entry in device["disagreements"]:
        field, scale = known[entry["field"]]
        rows.append(
            {
                "field": field,
                "source": entry["source"],
                "value": exact(entry["value"], scale),
                "ours": exact(entry["ours"], scale),
            }
        )
    return rows


def fields_of(device: Mapping[str, Any], *, compiled_on: date) -> dict[str, Any]:
    """The values of one ``Hardware`` row, by field name; a figure that the file does not know is None."""
    values = {figure.field: exact(device[figure.key], figure.scale) for figure in FIGURES}
    return values | {
        "slug": slug_of(device),
        "name": device["name"],
        "vendor": device["vendor"],
        "kind": device["kind"],
        "year": device["year"],
        "peak_flops": {dtype: exact(value, TERA) for dtype, value in device["peak_dense_tflops"].items()},
        "note": device["note"] or "",
        "confidence": confidence_of(device),
        "disagreements": disagreements_of(device),
        "compiled_on": compiled_on,
    }


def catalogue_rows(path: Path = FACTS_PATH) -> list[dict[str, Any]]:
    """The values of every row of the catalogue."""
    facts = read_facts(path)
    compiled_on = date.fromisoformat(facts["compiled"])
    return [fields_of(device, compiled_on=compiled_on) for device in facts["devices"]]


def row_digest(values: Mapping[str, Any]) -> str:
    """Digest of what the catalogue decides; equal for a row of the file and for the same row read back from the database."""
    return digest({name: _settled(values[name]) for name in CATALOGUE_FIELDS})


def _settled(value: Any) -> Any:
    """``value`` without the differences that a database makes: 5.0 is 5, a date is its text."""
    match value:
        case dict():
            return {key: _settled(item) for key, item in value.items()}
        case list():
            return [_settled(item) for item in value]
        case date():
            return value.isoformat()
        case float() if value.is_integer():
            return int(value)
    return value
