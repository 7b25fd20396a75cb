"""Everything that writes hardware, hosts and ceilings."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.text import slugify

from hardware.catalogue import CATALOGUE_FIELDS, FACTS_PATH, catalogue_rows, peak_field, row_digest
from hardware.matching import match_accelerator, match_cpu
from hardware.models import Ceiling, Hardware, Host
from llmcompare.common.engine_texts import stored
from profiling.spec import HardwareSpec

HOST_QUEUE_PREFIX = "hw."
CEILING_STATES = ("missing", "measuring", "done", "failed")

#: Figures of a device that carry a confidence of their own; ``peak_flops`` has one for each dtype.
FIGURE_FIELDS = ("memory_bytes", "memory_bandwidth", "cache_bytes", "interconnect_bandwidth", "tdp_w")


@dataclass(frozen=True)
class LoadSummary:
    """What loading a catalogue did; ``kept`` are rows that someone edited and that were therefore left alone."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.created} new", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        return ", ".join(parts + ([f"kept {len(self.kept)} edited"] if self.kept else []))


def current_digest(hardware: Hardware) -> str:
    return row_digest({name: getattr(hardware, name) for name in CATALOGUE_FIELDS})


def is_edited(hardware: Hardware) -> bool:
    """Whether a catalogue entry differs from what was loaded: it then is the administrator's, and loading leaves it alone."""
    return hardware.source == Hardware.Source.CATALOGUE and current_digest(hardware) != hardware.catalogue_digest


@transaction.atomic
def load_catalogue(*, path=FACTS_PATH) -> LoadSummary:
    """Bring the hardware table to the state of the catalogue file, but for rows that were edited here since: those stay as they are."""
    rows = catalogue_rows(path)
    known = {row.slug: row for row in Hardware.objects.select_for_update().filter(slug__in=[r["slug"] for r in rows])}
    new, updated, unchanged, kept = [], [], 0, []
    for values in rows:
        fresh = row_digest(values)
        row = known.get(values["slug"])
        if row is None:
            new.append(Hardware(**values, source=Hardware.Source.CATALOGUE, catalogue_digest=fresh))
        elif row.source != Hardware.Source.CATALOGUE or current_digest(row) != row.catalogue_digest:
            kept.append(row.slug)
        elif row.catalogue_digest == fresh:
            unchanged += 1
        else:
            for name in CATALOGUE_FIELDS:
                setattr(row, name, values[name])
            row.catalogue_digest, row.updated = fresh, timezone.now()
            updated.append(row)
    # Two processes may load at the same time on a fresh database: the second finds the rows there.
    Hardware.objects.bulk_create(new, ignore_conflicts=True)
    Hardware.objects.bulk_update(updated, [*CATALOGUE_FIELDS, "catalogue_digest", "updated"])
    return LoadSummary(len(new), len(updated), unchanged, tuple(kept))


def figures_of(hardware: Hardware) -> dict[str, Any]:
    """Every figure of a device by the name that it has in ``confidence``."""
    plain = {name: getattr(hardware, name) for name in FIGURE_FIELDS}
    return plain | {peak_field(dtype): value for dtype, value in hardware.peak_flops.items()}


def confidence_after_edit(*, before: Mapping[str, Any], hardware: Hardware, status: str, source: str) -> dict[str, Any]:
    """The confidence entries after figures changed by hand: a source that confirmed the old figure says nothing about the new one."""
    confidence = {}
    for name, value in figures_of(hardware).items():
        if value is None:
            continue
        if name not in before or before[name] != value:
            confidence[name] = {"status": status, "sources": [source]}
        elif name in hardware.confidence:
            confidence[name] = hardware.confidence[name]
    return confidence


def save_private(*, owner, hardware: Hardware, before: Mapping[str, Any] | None = None) -> Hardware:
    """Store a user's own device (a new one, or a copy that they changed). ``before``: the figures that were confirmed by sources."""
    hardware.owner, hardware.source = owner, Hardware.Source.PRIVATE
    hardware.catalogue_digest = ""
    hardware.confidence = confidence_after_edit(
        before=before or {},
        hardware=hardware,
        status="unconfirmed",
        source=stored("entered by {owner}").format(owner=owner),
    )
    changed = {name for name, entry in hardware.confidence.items() if entry["status"] == "unconfirmed"}
    hardware.disagreements = [row for row in hardware.disagreements if row["field"] not in changed]
    if not hardware.slug:
        # Random, so that nobody learns from an address which devices other people keep.
        hardware.slug = f"{slugify(hardware.name)[:80]}-{secrets.token_hex(4)}".lstrip("-")
    hardware.full_clean()
    hardware.save()
    return hardware


def delete_private(*, hardware: Hardware) -> None:
    """Delete a user's own device. Runs on it keep their frozen figures."""
    if hardware.source != Hardware.Source.PRIVATE:
        raise ValueError(f"{hardware} is not private.")
    hardware.delete()


# --- hosts ---


@transaction.atomic
def register_host(*, detected: dict[str, Any], queue: str) -> Host:
    """Create or renew the row of a machine with a worker, and find or create its Hardware.

    ``detected`` is what ``profiling.host.detect()`` says, ``queue`` the queue of the machine's measurements (``hw.<slug>``).
    When what its speed depends on has changed since (another CPU, another torch), its ceilings no longer hold and are forgotten.
    """
    slug = slugify(queue.removeprefix(HOST_QUEUE_PREFIX))[:100] or "host"
    host = Host.objects.select_for_update().filter(slug=slug).first() or Host(slug=slug)
    fingerprint = detected.get("fingerprint") or ""
    changed = host.pk is not None and host.fingerprint != fingerprint
    if changed:
        host.ceilings.all().delete()
    if changed or host.pk is None:
        host.ceilings_state = "missing"
    host.name = detected.get("name") or slug
    host.hardware = _hardware_of(detected)
    host.fingerprint = fingerprint
    host.details = detected
    host.queue = queue
    host.has_engine = bool(detected.get("engine"))
    host.engine_note = (detected.get("engine_note") or "")[:300]
    host.seen = timezone.now()
    host.save()
    return host


def touch_host(*, host: Host) -> None:
    """Renew the sign of life of a worker's machine."""
    Host.objects.filter(pk=host.pk).update(seen=timezone.now())


def set_ceilings_state(*, host: Host, state: str) -> None:
    """``missing``, ``measuring``, ``done`` or ``failed``."""
    if state not in CEILING_STATES:
        raise ValueError(f"No such state: {state!r}")
    Host.objects.filter(pk=host.pk).update(ceilings_state=state)
    host.ceilings_state = state


@transaction.atomic
def store_ceilings(*, host: Host, rows: Iterable[Mapping[str, Any]]) -> list[Ceiling]:
    """Store measured rates, each in the place of the older one of its operator class, dtype and thread count; returns the older ones
    that stayed: an accepted rate is not replaced by a contended one, whose figures go to ``detail["refused"]`` instead.

    ``rows`` are those of ``profiling.ceiling_processes``: ``op_class, dtype, threads, value, unit, median, quality``, and whatever else
    they have goes to ``detail``.
    """
    accepted = {(c.op_class, c.dtype, c.threads): c for c in host.ceilings.select_for_update().filter(quality="ok")}
    ceilings, kept = [], []
    for row in rows:
        ceiling = _ceiling(host, row)
        older = accepted.get((ceiling.op_class, ceiling.dtype, ceiling.threads))
        if older is None or ceiling.quality == "ok":
            ceilings.append(ceiling)
            continue
        refused = {"value": ceiling.value, "measured_at": ceiling.measured_at.isoformat()}
        older.detail = older.detail | {"refused": refused | {"spread_pct": ceiling.detail.get("spread_pct")}}
        kept.append(older)
    Ceiling.objects.bulk_update(kept, ["detail"])
    Ceiling.objects.bulk_create(
        ceilings,
        update_conflicts=True,
        unique_fields=["host", "op_class", "dtype", "threads"],
        update_fields=["value", "unit", "median", "quality", "detail", "measured_at"],
    )
    set_ceilings_state(host=host, state="done" if ceilings or host.ceilings.exists() else "failed")
    return kept


def _ceiling(host: Host, row: Mapping[str, Any]) -> Ceiling:
    known = {"op_class", "dtype", "threads", "value", "unit", "median", "quality", "measured_at", "detail"}
    measured_at = row.get("measured_at")
    return Ceiling(
        host=host,
        op_class=row["op_class"],
        dtype=row.get("dtype") or "",
        threads=row.get("threads") or 0,
        value=row["value"],
        unit=row["unit"],
        median=row.get("median"),
        quality=row.get("quality") or "ok",
        detail=dict(row.get("detail") or {}) | {key: row[key] for key in row if key not in known},
        measured_at=(parse_datetime(measured_at) if isinstance(measured_at, str) else measured_at) or timezone.now(),
    )


def host_spec(host: Host) -> HardwareSpec:
    """The frozen hardware of a run on this host: its device, the memory that is really there, and the rates measured on it."""
    ceilings = [row.to_json() for row in host.ceilings.all()]
    if host.hardware is None:
        return HardwareSpec(name=host.name, slug=host.slug, kind="cpu", ceilings=ceilings)
    spec = host.hardware.to_spec(ceilings)
    memory = detected_memory(host)
    if memory is None:
        return spec
    return replace(spec, memory_bytes=memory, confidence=spec.confidence | {"memory_bytes": "measured"})


def detected_memory(host: Host) -> int | None:
    """Bytes that the host's device has according to the host itself: the first accelerator's memory, or else the machine's."""
    accelerators = host.details.get("accelerators") or []
    return accelerators[0].get("memory_bytes") if accelerators else host.details.get("ram_bytes")


def _hardware_of(detected: Mapping[str, Any]) -> Hardware:
    """The catalogue entry that the machine's device is, else an entry with what was detected."""
    catalogue = Hardware.objects.filter(owner=None).exclude(source=Hardware.Source.DETECTED)
    accelerators = detected.get("accelerators") or []
    if accelerators:
        entries = catalogue.exclude(kind=Hardware.Kind.CPU).values("slug", "name", "memory_bytes")
        slug = match_accelerator(accelerators[0], entries)
        values = _detected_accelerator(accelerators[0])
    else:
        processors = catalogue.filter(kind=Hardware.Kind.CPU).values("slug", "name")
        slug = match_cpu(detected["cpu"]["model"], detected.get("cores_physical"), processors)
        values = _detected_cpu(detected)
    if slug is not None:
        return catalogue.get(slug=slug)
    return _detected_entry(values)


def _detected_accelerator(device: Mapping[str, Any]) -> dict[str, Any]:
    memory = device.get("memory_bytes")
    size = f" {memory / 2**30:.0f} GiB" if memory else ""
    return {
        "name": f"{device['name']}{size}",
        "vendor": device.get("vendor") or "",
        "kind": device.get("kind") or Hardware.Kind.GPU,
        "memory_bytes": memory,
        "cache_bytes": None,
        "note": stored(
            "Found on a host by its driver; it is not in the catalogue, so its peak rates and bandwidth are unknown."
        ),
    }


def _detected_cpu(detected: Mapping[str, Any]) -> dict[str, Any]:
    cpu, memory, cores = detected["cpu"], detected.get("ram_bytes"), detected.get("cores_physical")
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    count = f" ({cores} core{'s' if cores != 1 else ''}{size})" if cores else ""
    isa = ", ".join(cpu.get("isa") or [])
    note = stored(
        "Found on a host: {physical} physical and {logical} logical cores{isa}. "
        "Its datasheet rates are unknown; the ceilings measured on its hosts give the roof."
    )
    return {
        "name": f"{cpu['model']}{count}",
        "vendor": cpu.get("vendor") or "",
        "kind": Hardware.Kind.CPU,
        "memory_bytes": memory,
        "cache_bytes": detected.get("cache_bytes"),
        "note": note.format(
            physical=cores or "unknown",
            logical=detected.get("cores_logical") or "unknown",
            isa=f"; {isa}" if isa else "",
        ),
    }


def _detected_entry(values: dict[str, Any]) -> Hardware:
    """The entry of a detected device; machines with the same device share it. Memory is rounded to GiB in its name and exact in it."""
    vendor = values["vendor"]
    # The vendor is shown before the name: "AMD AMD EPYC" would be odd.
    name = values["name"].removeprefix(vendor).strip()[:120]
    confidence = {
        field: {"status": "measured", "sources": [stored("detected on a host")]}
        for field in ("memory_bytes", "cache_bytes")
        if values[field]
    }
    entry, _ = Hardware.objects.get_or_create(
        slug=slugify(f"detected {vendor} {name}")[:100],
        defaults=values | {"name": name, "confidence": confidence, "source": Hardware.Source.DETECTED},
    )
    return entry
