"""Specifications of hardware, the hosts that carry a worker, and the ceilings measured on them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from hardware.querysets import HardwareQuerySet, HostQuerySet
from profiling.spec import HardwareSpec


class Hardware(models.Model):
    """A device as its maker specifies it. A figure that is not known is null, never guessed.

    Sizes in bytes, rates in bytes/s, ``peak_flops`` dense FLOP/s by dtype name. ``catalogue_digest`` is the digest of the catalogue row
    that was last written here: while the row still has it, loading the catalogue may update the row; after an edit it may not.
    """

    class Kind(models.TextChoices):
        GPU = "gpu", "GPU"
        CPU = "cpu", "CPU"
        TPU = "tpu", "TPU"
        NPU = "npu", "NPU"
        ACCELERATOR = "accelerator", _("Accelerator")
        SOC = "soc", _("System on chip")

    class Source(models.TextChoices):
        CATALOGUE = "catalogue", _("Catalogue")
        ADMIN = "admin", _("Added by an administrator")
        DETECTED = "detected", _("Detected on a host")
        PRIVATE = "private", _("Private")

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=120)
    vendor = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    year = models.PositiveSmallIntegerField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(null=True, blank=True)
    memory_bandwidth = models.FloatField(null=True, blank=True, help_text=_("bytes per second"))
    peak_flops = models.JSONField(default=dict, blank=True, help_text=_("dense FLOP/s by dtype; null where unknown"))
    cache_bytes = models.BigIntegerField(null=True, blank=True, help_text=_("last on-chip level"))
    interconnect_bandwidth = models.FloatField(
        null=True, blank=True, help_text=_("bytes per second, sum of both directions")
    )
    tdp_w = models.FloatField(null=True, blank=True)
    note = models.TextField(blank=True)
    confidence = models.JSONField(default=dict, blank=True, help_text=_("field → {status, sources}"))
    disagreements = models.JSONField(default=list, blank=True)
    source = models.CharField(max_length=16, choices=Source.choices, default=Source.ADMIN)
    compiled_on = models.DateField(null=True, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="private_hardware"
    )
    catalogue_digest = models.CharField(max_length=64, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    objects = HardwareQuerySet.as_manager()

    class Meta:
        ordering = ["vendor", "name", "pk"]
        verbose_name_plural = "hardware"
        constraints = [
            models.CheckConstraint(
                condition=Q(source="private", owner__isnull=False) | (~Q(source="private") & Q(owner__isnull=True)),
                name="hardware_private_has_owner",
            ),
            models.CheckConstraint(
                condition=Q(memory_bytes__isnull=True) | Q(memory_bytes__gt=0), name="hardware_memory_positive"
            ),
            models.CheckConstraint(
                condition=Q(memory_bandwidth__isnull=True) | Q(memory_bandwidth__gt=0),
                name="hardware_bandwidth_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vendor} {self.name}".strip()

    def to_spec(self, ceilings: list[dict] | None = None) -> HardwareSpec:
        """The frozen value that a run keeps; ``ceilings`` are those of the host it will run on."""
        return HardwareSpec(
            name=str(self),
            slug=self.slug,
            vendor=self.vendor,
            kind=self.kind,
            memory_bytes=self.memory_bytes,
            memory_bandwidth=self.memory_bandwidth,
            peak_flops=dict(self.peak_flops),
            cache_bytes=self.cache_bytes,
            interconnect_bandwidth=self.interconnect_bandwidth,
            tdp_w=self.tdp_w,
            confidence={name: entry["status"] for name, entry in self.confidence.items()},
            ceilings=ceilings or [],
        )


class Host(models.Model):
    """A machine with a worker on it. ``queue`` is where its measurements are rung; ``seen`` is renewed by its worker."""

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    hardware = models.ForeignKey(Hardware, null=True, blank=True, on_delete=models.SET_NULL, related_name="hosts")
    fingerprint = models.CharField(max_length=64, blank=True)
    details = models.JSONField(
        default=dict, blank=True, help_text=_("what the worker detected: CPU, memory, caches, accelerators, versions")
    )
    queue = models.CharField(max_length=120)
    has_engine = models.BooleanField(default=False)
    engine_note = models.CharField(max_length=300, blank=True)
    ceilings_state = models.CharField(
        max_length=16,
        choices=[
            ("missing", _("not measured")),
            ("measuring", _("being measured")),
            ("done", _("measured")),
            ("failed", _("failed")),
        ],
        default="missing",
    )
    seen = models.DateTimeField(null=True, blank=True)
    created = models.DateTimeField(auto_now_add=True)

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name


class CeilingMeasurement(models.Model):
    """The wish that a host's ceilings be measured, and what became of it: ``queued → running → done | failed | cancelled``.

    The worker of the host carries it out, wherever it is; the row is the truth, as with runs. The constraint lets a host have one that
    is under way, so asking twice does nothing twice.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("under way")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    ACTIVE = (State.QUEUED, State.RUNNING)

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="ceiling_measurements")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    quick = models.BooleanField(default=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    cancel_requested = models.BooleanField(default=False)
    claim = models.CharField(max_length=32, null=True, blank=True, editable=False)
    worker = models.CharField(max_length=150, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    progress = models.FloatField(default=0)
    message = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)
    outcome = models.JSONField(
        default=dict,
        blank=True,
        help_text=_("accepted, contended and kept rows; versions, affinity, processes, duration"),
    )
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["host"], condition=Q(state__in=["queued", "running"]), name="ceiling_measurement_one_active"
            )
        ]

    def __str__(self) -> str:
        return f"ceilings of {self.host}, {self.get_state_display()}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE


class Ceiling(models.Model):
    """One rate reached on a host by a plain kernel: what a measured roof is drawn from."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="ceilings")
    op_class = models.CharField(max_length=20, help_text=_("gemm, gemv, copy, attention, overhead, …"))
    dtype = models.CharField(max_length=10, blank=True)
    threads = models.PositiveSmallIntegerField(default=0, help_text=_("0: threads play no part"))
    value = models.FloatField()
    unit = models.CharField(max_length=10, help_text=_("FLOP/s, B/s or s"))
    median = models.FloatField(null=True, blank=True)
    quality = models.CharField(max_length=16, default="ok", help_text=_("ok or contended"))
    detail = models.JSONField(default=dict, blank=True)
    measured_at = models.DateTimeField()

    class Meta:
        ordering = ["op_class", "dtype", "threads", "pk"]
        constraints = [models.UniqueConstraint(fields=["host", "op_class", "dtype", "threads"], name="ceiling_once")]

    def __str__(self) -> str:
        return f"{self.op_class} {self.dtype} on {self.threads} threads".replace("  ", " ")

    def to_json(self) -> dict:
        return {
            "op_class": self.op_class,
            "dtype": self.dtype,
            "threads": self.threads,
            "value": self.value,
            "unit": self.unit,
            "median": self.median,
            "quality": self.quality,
            "measured_at": self.measured_at.isoformat(),
            # Of the weights that a product was timed with: estimates go by them.
            **{key: self.detail[key] for key in ("bytes", "inner") if key in self.detail},
        }
