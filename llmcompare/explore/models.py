"""Closed forms that answer what-if questions, and sweeps that people kept.

A form is a row, so that every web process and every worker reaches it, on whatever host. Life: ``queued → running → ready | none |
failed | cancelled``; ``none`` says that the model has no closed form under these options. Who works on a form holds a lease, as with runs.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llmcompare.common.identifiers import new_public_id
from llmcompare.explore.querysets import SavedSweepQuerySet


class StoredForm(models.Model):
    """The closed form of a configuration under one set of conventions and degrees of parallelism.

    ``key`` is everything that it depends on but the versions of torch and transformers, which a web process need not have: ``made_with``
    names those. ``data``: the JSON of :func:`profiling.forms.terms.to_json`, compressed by zlib. ``request``: what the engine is asked,
    kept until it has answered. Whoever may see a model with this configuration may use the form; it names nobody.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("being made")
        READY = "ready", _("ready")
        NONE = "none", _("no closed form")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    ACTIVE = (State.QUEUED, State.RUNNING)
    MAX_ATTEMPTS = 3

    digest = models.CharField(max_length=64, unique=True)
    key = models.JSONField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    request = models.JSONField(null=True, blank=True)
    data = models.BinaryField(null=True, blank=True)
    made_with = models.JSONField(default=dict, blank=True, help_text="versions of torch and transformers")
    reason = models.TextField(blank=True, help_text="why there is no form, or why making it failed")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    claim = models.CharField(max_length=32, null=True, blank=True, editable=False)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    progress = models.FloatField(default=0, help_text="0 to 1")
    message = models.CharField(max_length=300, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True, blank=True)
    used = models.DateTimeField(auto_now_add=True, help_text="to about an hour; what was used longest ago goes first")

    class Meta:
        ordering = ["-created", "-pk"]
        indexes = [models.Index(fields=["state"])]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="running", claim__isnull=False, lease_until__isnull=False)
                | (~Q(state="running") & Q(claim__isnull=True, lease_until__isnull=True)),
                name="form_running_means_leased",
            ),
            models.CheckConstraint(condition=~Q(state="ready") | Q(data__isnull=False), name="form_ready_means_stored"),
        ]

    def __str__(self) -> str:
        return f"form {self.digest[:12]}, {self.get_state_display()}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE


class SavedSweep(models.Model):
    """What an exploration answered, kept as it was: ``document`` never changes, ``query`` asks the same again."""

    class Visibility(models.TextChoices):
        PRIVATE = "private", _("Only me")
        TEAM = "team", _("My team")
        PUBLIC = "public", _("Everyone here")

    public_id = models.CharField(max_length=22, unique=True, default=new_public_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_sweeps")
    team = models.ForeignKey("accounts.Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE)
    name = models.CharField(max_length=150)
    query = models.TextField()
    document = models.JSONField()
    created = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text=_("in the bin; restored by undo"))

    objects = SavedSweepQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-pk"]
        indexes = [models.Index(fields=["owner", "-created"])]

    def __str__(self) -> str:
        return self.name
