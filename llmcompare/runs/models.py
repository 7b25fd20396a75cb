"""Runs and what they left behind.

The row is the truth about a run; a broker message only wakes a worker up. Life: ``queued → running → done | failed | cancelled``.
A worker claims a run by one conditional UPDATE that writes a fresh ``claim`` token and a lease; it renews the lease while it works,
and may write results only while the token is still its own (see ``services.py``).
"""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.db.models import Q

from llmcompare.runs.options import devices_of, tags
from llmcompare.runs.querysets import RunQuerySet


def new_public_id() -> str:
    """An identifier that says nothing and cannot be guessed: 16 URL-safe characters, 96 bits."""
    # A leading dash would be an option on a command line and a formula in a spreadsheet.
    while (token := secrets.token_urlsafe(12)).startswith("-"):
        pass
    return token


class Run(models.Model):
    class Kind(models.TextChoices):
        ESTIMATE = "estimate", "Estimate"
        MEASURE = "measure", "Measurement"

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Visibility(models.TextChoices):
        PRIVATE = "private", "Only me"
        TEAM = "team", "My team"
        PUBLIC = "public", "Everyone here"

    MAX_ATTEMPTS = 3

    public_id = models.CharField(max_length=22, unique=True, default=new_public_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="runs")
    team = models.ForeignKey("accounts.Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE)
    kind = models.CharField(max_length=10, choices=Kind.choices)

    # What was asked: links for navigation, the frozen spec for the truth.
    model = models.ForeignKey(
        "catalog.LanguageModel", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    hardware = models.ForeignKey(
        "hardware.Hardware", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    host = models.ForeignKey("hardware.Host", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    spec = models.JSONField(help_text="frozen inputs: a profiling.spec.RunSpec")
    spec_digest = models.CharField(max_length=64)
    idempotency_key = models.CharField(max_length=64, null=True, blank=True)
    title = models.CharField(max_length=150, blank=True)
    notes = models.TextField(blank=True)

    # Columns that are filtered, sorted or shown in lists; copied from the frozen spec.
    model_name = models.CharField(max_length=150)
    hardware_name = models.CharField(max_length=200)
    batch_size = models.PositiveIntegerField()
    input_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    dtype = models.CharField(max_length=10)

    # Life.
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    queue = models.CharField(max_length=120)
    attempt = models.PositiveSmallIntegerField(default=0)
    claim = models.CharField(max_length=32, null=True, blank=True, help_text="token of the worker that holds the lease")
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    stage = models.CharField(max_length=40, blank=True)
    progress = models.FloatField(default=0, help_text="0 to 1")
    message = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)
    error_phase = models.CharField(max_length=40, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="in the bin; restored by undo")

    # Results that lists and comparisons sort by; null until known. The document has everything.
    ttft_s = models.FloatField(null=True, blank=True)
    tpot_s = models.FloatField(null=True, blank=True)
    e2e_s = models.FloatField(null=True, blank=True)
    output_tokens_per_s = models.FloatField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(null=True, blank=True)
    fits = models.BooleanField(null=True, blank=True)
    bound = models.CharField(max_length=10, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-pk"]
        indexes = [
            models.Index(fields=["owner", "-created"]),
            models.Index(fields=["state", "queue"]),
            models.Index(fields=["model", "hardware", "-created"]),
        ]
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="run_idempotency_key_once"),
            models.CheckConstraint(
                condition=Q(state="running", claim__isnull=False, lease_until__isnull=False)
                | (~Q(state="running") & Q(claim__isnull=True, lease_until__isnull=True)),
                name="run_running_means_leased",
            ),
            models.CheckConstraint(condition=Q(progress__gte=0, progress__lte=1), name="run_progress_is_fraction"),
        ]

    def __str__(self) -> str:
        return self.title or f"{self.model_name} on {self.hardware_name}"

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def is_estimate(self) -> bool:
        return self.kind == self.Kind.ESTIMATE

    @property
    def option_tags(self) -> list[str]:
        """What its workload sets beyond batch, tokens and data type, in a few words each."""
        return tags(self.spec.get("workload") or {})

    @property
    def devices(self) -> int:
        """Devices of an estimated deployment; its memory figures are those of one."""
        return devices_of(self.spec.get("workload") or {})


class RunDocument(models.Model):
    """The whole result (docs/run-document.md), apart from the row so that lists stay light."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="document", primary_key=True)
    data = models.JSONField()


class RunMetric(models.Model):
    """One number of a run, for comparison and history across runs."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    key = models.CharField(max_length=60)
    origin = models.CharField(
        max_length=10, choices=[("estimated", "estimated"), ("measured", "measured"), ("reported", "reported")]
    )
    value = models.FloatField(null=True)
    unit = models.CharField(max_length=20)
    definition = models.CharField(max_length=60)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["run", "key", "origin"]
        constraints = [models.UniqueConstraint(fields=["run", "key", "origin"], name="run_metric_once")]


class RunEvent(models.Model):
    """One line of a run's log."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    time = models.DateTimeField(auto_now_add=True)
    attempt = models.PositiveSmallIntegerField()
    level = models.CharField(max_length=10, default="info")
    stage = models.CharField(max_length=40, blank=True)
    message = models.TextField()

    class Meta:
        ordering = ["pk"]
