"""What the page of a host shows of its ceilings: rows with their agreement, roofs, and the measurement that is under way. Pure but for
reading the host's rows."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

from hardware.measurements import active
from hardware.models import Ceiling, CeilingMeasurement, Host
from hardware.roofchart import host_roofs, roof_figure
from hardware.sizechart import host_products, size_figure
from profiling.ceiling_processes import TOLERANCE
from profiling.ceiling_rows import has_shape
from profiling.quantities import show


def ceilings_context(host: Host, user: Any) -> dict[str, Any]:
    """Context of ``hardware/_ceilings.html``."""
    ceilings = list(host.ceilings.all())
    roofs, products = host_roofs(ceilings), host_products(ceilings)
    for point in (point for curve in products for point in curve["points"]):
        point["row"] = ceiling_row(point["ceiling"])
    last = host.ceiling_measurements.select_related("asked_by").first()
    return {
        "ceilings": [ceiling_row(ceiling) for ceiling in ceilings if not has_shape(ceiling.op_class)],
        "total": len(ceilings),
        "products": products,
        "product_figure": size_figure(products),
        "contended": sum(ceiling.quality != "ok" for ceiling in ceilings),
        "roofs": roofs,
        "figure": roof_figure(roofs),
        "last": last,
        "skipped": (last.outcome.get("skipped") or []) if last else [],
        "tolerance_pct": round(100 * TOLERANCE),
        "may_measure": Host.objects.measurable_by(user).filter(pk=host.pk).exists(),
        **status_context(host),
    }


def host_object(host: Host) -> dict[str, Any]:
    """What the page of a host shows, in base units: its ceilings, and the numbers of both charts (``roofs``, ``products``)."""
    ceilings = list(host.ceilings.all())
    products = host_products(ceilings)
    for point in (point for curve in products for point in curve["points"]):
        point["op_class"] = point.pop("ceiling").op_class
        point.pop("size")
    return {
        "schema": "llmcompare-host",
        "schema_version": "1.0",
        "host": host.slug,
        "name": host.name,
        "hardware": host.hardware.slug if host.hardware else None,
        "ceilings": [ceiling.to_json() for ceiling in ceilings],
        "roofs": host_roofs(ceilings),
        "products": products,
    }


def status_context(host: Host) -> dict[str, Any]:
    """Context of ``hardware/_ceilings_status.html``: the measurement under way, and a version that changes when it does."""
    measurement = active(host)
    if measurement is None:
        return {"measurement": None}
    version = (
        f"{measurement.pk}-{measurement.state}-{round(measurement.progress * 1000)}-{int(measurement.cancel_requested)}"
    )
    return {
        "measurement": measurement,
        "percent": round(100 * measurement.progress),
        "waits": waiting_text(measurement, host),
        "version": version,
    }


def waiting_text(measurement: CeilingMeasurement, host: Host) -> str:
    """Why a measurement has not begun; empty once it has."""
    if measurement.state != CeilingMeasurement.State.QUEUED:
        return ""
    if not Host.objects.online().filter(pk=host.pk).exists():
        return gettext("No worker of this host is online. The measurement begins by itself as soon as one is.")
    return gettext("It begins as soon as the machine is free: nothing else is measured on it at the same time.")


def ceiling_row(ceiling: Ceiling) -> dict[str, Any]:
    """One ceiling with how its processes agree, and what a later measurement found that was not taken."""
    detail, unit = ceiling.detail, ceiling.unit
    values = detail.get("values") or []
    versions = detail.get("versions") or {}
    refused = detail.get("refused")
    return {
        "op_class": ceiling.op_class,
        "dtype": ceiling.dtype,
        "threads": ceiling.threads,
        "best": show(ceiling.value, unit),
        "median": "" if ceiling.median is None else show(ceiling.median, unit),
        "quality": ceiling.quality,
        "agreement": _agreement(detail),
        "spread": f"{detail['spread_pct']:.1f} %" if "spread_pct" in detail else "",
        "values": ", ".join(show(value, unit) for value in values),
        "measured_at": ceiling.measured_at,
        "torch": versions.get("torch") or "",
        "refused": {
            "value": show(refused.get("value"), unit),
            "date": str(refused.get("measured_at"))[:10],
        }
        if isinstance(refused, dict)
        else None,
    }


def _agreement(detail: dict[str, Any]) -> str:
    """How many processes reached the best rate, and how many of those were disturbed by other work."""
    if "agreed" not in detail:
        return gettext("one process")
    disturbed = detail["agreed"] - detail.get("undisturbed", detail["agreed"])
    return gettext("%(agreed)s of %(count)s") % {
        "agreed": detail["agreed"],
        "count": len(detail.get("values") or []),
    } + (gettext(", %(disturbed)s disturbed") % {"disturbed": disturbed} if disturbed else "")
