"""What the hardware pages show of a device: figures with their confidence, ridge points, rows of exports. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from hardware.catalogue import CATALOGUE_FIELDS, peak_field, source_versions
from hardware.models import Hardware
from hardware.templatetags.figures import bandwidth, rate, said, size
from profiling.quantities import datasheet

#: Number formats in the order in which pages show them.
DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")

EXPORT_HEADER = (
    "slug",
    "vendor",
    "name",
    "kind",
    "year",
    "memory_bytes",
    "memory_bandwidth_bytes_per_s",
    *(f"peak_{dtype}_per_s" for dtype in DTYPES),
    "cache_bytes",
    "interconnect_bandwidth_bytes_per_s",
    "tdp_w",
    "source",
    "compiled_on",
    "unconfirmed",
    "note",
)


@dataclass(frozen=True)
class Figure:
    """One line of a datasheet. ``status``: confirmed, unconfirmed, measured, or empty when the figure is unknown."""

    label: str
    text: str
    value: float | int | None
    status: str
    sources: list[tuple[str, str]]
    others: list[tuple[str, str]]
    hint: str = ""


def dtypes_of(hardware: Hardware) -> list[str]:
    """The formats that the entry has an opinion on, known ones and others, in the usual order."""
    extra = sorted(set(hardware.peak_flops) - set(DTYPES))
    return [dtype for dtype in DTYPES if dtype in hardware.peak_flops] + extra


def figures(hardware: Hardware) -> list[Figure]:
    """Every figure of a device as the detail page shows it."""
    plain = [
        ("memory_bytes", gettext("Memory"), size, gettext("decimal: 1 GB is 10⁹ bytes")),
        ("memory_bandwidth", gettext("Memory bandwidth"), bandwidth, ""),
        ("cache_bytes", gettext("Cache"), size, gettext("last level on the chip")),
        ("interconnect_bandwidth", gettext("Interconnect"), bandwidth, gettext("sum of both directions")),
        ("tdp_w", gettext("Power"), _watts, gettext("thermal design power")),
    ]
    rows = [_figure(hardware, name, label, getattr(hardware, name), show, hint) for name, label, show, hint in plain]
    for dtype in dtypes_of(hardware):
        value = hardware.peak_flops[dtype]
        rows.append(
            _figure(
                hardware,
                peak_field(dtype),
                gettext("Peak %(dtype)s") % {"dtype": dtype},
                value,
                _rate_of(dtype),
                gettext("dense"),
            )
        )
    return rows


def _rate_of(dtype: str):
    return lambda value: rate(value, dtype)


def _watts(value: float | None) -> str:
    return said(datasheet(value, "W", largest=""))


def _figure(hardware: Hardware, name: str, label: str, value, show, hint: str) -> Figure:
    entry = hardware.confidence.get(name) or {}
    versions = source_versions()
    return Figure(
        label=label,
        text=show(value),
        value=value,
        status="" if value is None else entry.get("status", "unconfirmed"),
        sources=[(source, versions.get(source, "")) for source in entry.get("sources", [])],
        others=[(row["source"], show(row["value"])) for row in hardware.disagreements if row["field"] == name],
        hint=hint,
    )


def ridges(hardware: Hardware) -> list[dict[str, Any]]:
    """The roofline in numbers: per format, peak rate and the arithmetic intensity (FLOP/byte) from which on it can be reached."""
    if not hardware.memory_bandwidth:
        return []
    return [
        {"dtype": dtype, "peak": peak, "ridge": peak / hardware.memory_bandwidth}
        for dtype in dtypes_of(hardware)
        if (peak := hardware.peak_flops[dtype])
    ]


def unconfirmed(hardware: Hardware) -> list[str]:
    return sorted(name for name, entry in hardware.confidence.items() if entry.get("status") == "unconfirmed")


def export_row(hardware: Hardware) -> list[Any]:
    """One row below :data:`EXPORT_HEADER`, in base units; an unknown figure is None."""
    return [
        hardware.slug,
        hardware.vendor,
        hardware.name,
        hardware.kind,
        hardware.year,
        hardware.memory_bytes,
        hardware.memory_bandwidth,
        *(hardware.peak_flops.get(dtype) for dtype in DTYPES),
        hardware.cache_bytes,
        hardware.interconnect_bandwidth,
        hardware.tdp_w,
        hardware.source,
        hardware.compiled_on,
        " ".join(unconfirmed(hardware)),
        hardware.note,
    ]


def to_json(hardware: Hardware) -> dict[str, Any]:
    """Everything about one device, in base units."""
    return {name: getattr(hardware, name) for name in ("slug", "source", *CATALOGUE_FIELDS)}


def export_json(devices: Iterable[Hardware]) -> dict[str, Any]:
    return {
        "units": {"memory": "bytes", "bandwidth": "bytes per second", "peak_flops": "dense operations per second"},
        "hardware": [to_json(device) for device in devices],
    }
