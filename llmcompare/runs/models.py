"""Runs and what they left behind.

The row is the truth about a run; a broker message only wakes a worker up. Life: ``queued → running → done | failed | cancelled``.
A worker claims a run by one conditional UPDATE that writes a fresh ``claim`` token and a lease; it renews the lease while it works,
and may write results only while the token is still its own (see ``services.py``).
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.identifiers import new_public_id
from llmcompare.runs.endpointtags import endpoint_tags
from llmcompare.runs.options import devices_of, tags
from llmcompare.runs.querysets import RunQuerySet
from profiling.artifacts import KINDS, file_name


class Run(models.Model):
    class Kind(models.TextChoices):
        ESTIMATE = "estimate", _("Estimate")
        MEASURE = "measure", _("Measurement")
        ENDPOINT = "endpoint", _("Endpoint")

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    class Visibility(models.TextChoices):
        PRIVATE = "private", _("Only me")
        TEAM = "team", _("My team")
        PUBLIC = "public", _("Everyone here")

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
    endpoint = models.ForeignKey(
        "endpoints.Endpoint", null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    spec = models.JSONField(
        help_text="frozen inputs: a profiling.spec.RunSpec, or a profiling.remote.spec.EndpointSpec"
    )
    spec_digest = models.CharField(max_length=64)
    idempotency_key = models.CharField(max_length=64, null=True, blank=True)
    title = models.CharField(max_length=150, blank=True)
    notes = models.TextField(blank=True)

    # Columns that are filtered, sorted or shown in lists; copied from the frozen spec.
    model_name = models.CharField(max_length=150)
    hardware_name = models.CharField(max_length=200, help_text="of an endpoint's run: the name of the endpoint")
    batch_size = models.PositiveIntegerField(help_text="0: none, of an endpoint's run")
    input_tokens = models.PositiveIntegerField(help_text="0: not known, of an endpoint's run with a prompt")
    output_tokens = models.PositiveIntegerField()
    dtype = models.CharField(max_length=10, blank=True)

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
    deleted_at = models.DateTimeField(null=True, blank=True, help_text=_("in the bin; restored by undo"))

    # Results that lists and comparisons sort by; null until known. The document has everything.
    ttft_s = models.FloatField(null=True, blank=True)
    tpot_s = models.FloatField(null=True, blank=True)
    e2e_s = models.FloatField(null=True, blank=True)
    output_tokens_per_s = models.FloatField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(null=True, blank=True)
    fits = models.BooleanField(null=True, blank=True)
    bound = models.CharField(max_length=10, blank=True)
    ceilings = models.CharField(
        max_length=10, blank=True, help_text='what the times of an estimate stand on: "datasheet" or "measured"'
    )

    # What history goes by.
    series = models.CharField(
        max_length=32, blank=True, db_index=True, help_text="runs of one series repeat one another"
    )
    contended = models.BooleanField(null=True, blank=True, help_text="other work disturbed it; null: not said")
    versions = models.JSONField(default=dict, blank=True, help_text="engine, torch, transformers, python, driver")

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
        return self.title or gettext("%(model)s on %(hardware)s") % {
            "model": self.model_name,
            "hardware": self.hardware_name,
        }

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def is_estimate(self) -> bool:
        return self.kind == self.Kind.ESTIMATE

    @property
    def replays(self) -> bool:
        """Whether it is an estimate whose operators are timed alone on its host: it takes that machine as a measurement does."""
        return bool(self.spec.get("replay"))

    @property
    def of_endpoint(self) -> bool:
        """Whether it asked a server over the network: no formats, no batch, no memory are known of it."""
        return self.kind == self.Kind.ENDPOINT

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to finish; None until both are known."""
        if self.started is None or self.finished is None:
            return None
        return (self.finished - self.started).total_seconds()

    @property
    def option_tags(self) -> list[str]:
        """What its workload sets beyond batch, tokens and data type, in a few words each."""
        if self.of_endpoint:
            return endpoint_tags(self.spec)
        return tags(self.spec.get("workload") or {})

    @property
    def is_optimistic(self) -> bool:
        """Are its times an optimistic bound: an estimate from a datasheet, which no machine is faster than?"""
        return self.is_estimate and self.ceilings == "datasheet"

    @property
    def devices(self) -> int:
        """Devices that the model was divided over; memory figures are those of one. Processes that share a processor are one device."""
        return 1 if self.processes > 1 else devices_of(self.spec.get("workload") or {})

    @property
    def processes(self) -> int:
        """Processes that stood for devices in a measurement on a processor; memory figures are those of one of them."""
        on_cpu = (self.spec.get("hardware") or {}).get("kind") == "cpu"
        return devices_of(self.spec.get("workload") or {}) if on_cpu and self.kind == self.Kind.MEASURE else 1


class RunDocument(models.Model):
    """The whole result (docs/run-document.md), apart from the row so that lists stay light."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="document", primary_key=True)
    data = models.JSONField()


class RunExtract(models.Model):
    """What comparisons read of the document, made once (``llmcompare.runs.extract``): twenty whole documents would take seconds."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="extract", primary_key=True)
    version = models.PositiveSmallIntegerField()
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


class Artifact(models.Model):
    """A file that a measurement left beside its document (:mod:`profiling.artifacts`), compressed.

    In the database and not in a folder: the worker that makes it and the web server that hands it out may be different machines, it
    is written under the same claim as the run, and goes with the run. The engine bounds its size.
    """

    class Kind(models.TextChoices):
        TRACE = "trace", _("Trace of the profiled pass")
        MEMORY = "memory", _("Allocations of the profiled pass")

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    text_bytes = models.PositiveBigIntegerField(help_text="of the JSON, not compressed")
    stored_bytes = models.PositiveIntegerField(help_text="of the file, compressed with gzip")
    sha256 = models.CharField(max_length=64, help_text="of the file")
    cut = models.CharField(max_length=300, blank=True, help_text="what was left out because it was too large")
    created = models.DateTimeField(auto_now_add=True)
    data = models.BinaryField()

    class Meta:
        ordering = ["run", "-kind"]
        constraints = [models.UniqueConstraint(fields=["run", "kind"], name="run_artifact_once")]

    @property
    def name(self) -> str:
        return file_name(self.kind)

    @property
    def opens_with(self) -> str:
        return KINDS[self.kind][1]


class RunTag(models.Model):
    """A word on a run, in lower case: everybody who sees the run sees it, and lists are narrowed by it exactly."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=40, db_index=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="run_tag_once")]

    def __str__(self) -> str:
        return self.name


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
