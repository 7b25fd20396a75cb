"""Connections to Google Cloud projects, what was deployed through them, and the operations that workers carry out there.

A deployment lives ``waiting → creating → deploying → ready → stopping → ended | failed``; it costs money from ``deploying`` until it has ended. Its
lease (``expires_at``) is not optional: when it runs out, the model is undeployed.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmcompare.cloud.querysets import ConnectionQuerySet, DeploymentQuerySet, OperationQuerySet


def new_public_id() -> str:
    """Lower-case letters and digits: it is also the value of a label in the cloud."""
    return secrets.token_hex(8)


class Connection(models.Model):
    """One project and region, and how workers prove who they are there.

    ``credential`` is never a secret: an e-mail address of a service account, or a reference (``env:NAME``, ``file:NAME``) to what the operator
    put on the worker's machine. Workers use it once a member of staff has allowed it (``allowed_at``): the portal's own identity may reach
    projects of several people, and naming one is no proof of belonging to it.
    ``models`` and ``endpoints``: what the cloud had at ``read_at``, as :mod:`llmcompare.cloud.reading` keeps it.
    """

    class Credential(models.TextChoices):
        ADC = "adc", _("The portal's own identity")
        IMPERSONATE = "impersonate", _("A service account that the portal's identity may act as")
        SECRET = "secret", _("A key that the operator put on the workers' machine")
        TOKEN = "token", _("A bare token (tests only)")

    class Visibility(models.TextChoices):
        PRIVATE = "private", _("Only me")
        TEAM = "team", _("My team")

    public_id = models.CharField(max_length=16, unique=True, default=new_public_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="cloud_connections")
    team = models.ForeignKey("accounts.Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE)
    name = models.CharField(max_length=100)
    project = models.CharField(max_length=63)
    region = models.CharField(max_length=40)
    credential_kind = models.CharField(max_length=12, choices=Credential.choices)
    credential = models.CharField(max_length=200, blank=True)
    allowed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    allowed_at = models.DateTimeField(null=True, blank=True)
    wanted_at = models.DateTimeField(null=True, blank=True, help_text=_("somebody asked to read the cloud"))
    read_at = models.DateTimeField(null=True, blank=True, help_text=_("the last reading that succeeded"))
    read_s = models.FloatField(null=True, blank=True, help_text=_("how long it took, seconds"))
    tried_at = models.DateTimeField(null=True, blank=True, help_text=_("the last reading, whatever came of it"))
    read_error = models.TextField(blank=True, help_text=_("why the last reading failed; empty when it did not"))
    models_found = models.JSONField(default=list, blank=True)
    endpoints_found = models.JSONField(default=list, blank=True)
    claim = models.CharField(max_length=32, null=True, blank=True, editable=False)
    claim_until = models.DateTimeField(null=True, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text=_("in the bin; restored by undo"))

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        verbose_name = _("connection")

    def __str__(self) -> str:
        return self.name

    @property
    def account(self) -> str:
        """Whom workers log in as, for pages: an address or a reference; empty where there is none, and for a bare token."""
        return "" if self.credential_kind == self.Credential.TOKEN else self.credential

    @property
    def is_allowed(self) -> bool:
        return self.allowed_at is not None

    @property
    def is_wanted(self) -> bool:
        """Whether a reading was asked for that has not been made yet."""
        return self.wanted_at is not None


class Deployment(models.Model):
    """One model on machines at an endpoint. ``price``: USD per hour of one machine as it was confirmed, null: unknown; ``price_words`` says whose."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        CREATING = "creating", _("endpoint is being made")
        DEPLOYING = "deploying", _("deploying")
        READY = "ready", _("ready")
        STOPPING = "stopping", _("being undeployed")
        ENDED = "ended", _("undeployed")
        FAILED = "failed", _("failed")

    class Source(models.TextChoices):
        MODEL = "model", _("model of the project")
        GARDEN = "garden", _("Model Garden")

    class Stop(models.TextChoices):
        USER = "user", _("somebody asked for it")
        EXPIRED = "expired", _("its lease ran out")
        IDLE = "idle", _("nobody used it")
        KILL = "kill", _("an administrator stopped all deployments")
        FAILED = "failed", _("deploying it failed")
        GONE = "gone", _("it was undeployed outside of this portal")

    ENDED = (State.ENDED, State.FAILED)

    public_id = models.CharField(max_length=16, unique=True, default=new_public_id, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="deployments")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="cloud_deployments")
    name = models.CharField(max_length=100, help_text=_("the endpoint's name in the cloud"))
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.MODEL)
    model_name = models.CharField(max_length=300, help_text=_("resource name of the model, or the open model's id"))
    model_title = models.CharField(max_length=200)
    machine_type = models.CharField(max_length=60)
    accelerator_type = models.CharField(max_length=60, blank=True)
    accelerator_count = models.PositiveSmallIntegerField(default=0)
    tpu_topology = models.CharField(max_length=20, blank=True)
    replicas = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    spot = models.BooleanField(default=False)
    dedicated = models.BooleanField(default=True)
    price = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    price_words = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    expires_at = models.DateTimeField()
    idle_minutes = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("undeployed after so long without use")
    )
    used_at = models.DateTimeField(
        null=True, blank=True, help_text=_("last use through this portal, to about a minute")
    )
    stop_reason = models.CharField(max_length=10, choices=Stop.choices, blank=True)
    error = models.TextField(blank=True)
    endpoint_name = models.CharField(max_length=300, blank=True, help_text=_("resource name in the cloud"))
    deployed_model_id = models.CharField(max_length=40, blank=True)
    billed_from = models.DateTimeField(null=True, blank=True)
    endpoint = models.ForeignKey(
        "endpoints.Endpoint", null=True, blank=True, on_delete=models.SET_NULL, related_name="cloud_deployments"
    )
    created = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-pk"]
        verbose_name = _("deployment")
        indexes = [models.Index(fields=["state"])]

    def __str__(self) -> str:
        return self.name

    @property
    def is_active(self) -> bool:
        return self.state not in self.ENDED

    @property
    def is_tpu(self) -> bool:
        return bool(self.tpu_topology)

    @property
    def mark(self) -> str:
        """How its model is called at the endpoint: what tells it from others there."""
        return f"{self.name}-{self.public_id}"

    @property
    def cloud_id(self) -> str:
        """The last part of the endpoint's name in the cloud."""
        return self.endpoint_name.rpartition("/")[2]

    def hours(self, now: datetime | None = None) -> Decimal | None:
        """Hours billed so far; None where it is not known since when."""
        if self.billed_from is None:
            return None
        until = self.ended_at or now or timezone.now()
        return Decimal(str(max(0.0, (until - self.billed_from).total_seconds()) / 3600))

    def accrued(self, now: datetime | None = None) -> Decimal | None:
        """USD so far, estimated: hours × replicas × price of one machine. None: unknown. Zero where nothing was ever deployed: a deployment
        that failed is documented as free."""
        if self.billed_from is None and self.state not in (self.State.DEPLOYING, self.State.STOPPING):
            return Decimal(0)
        hours = self.hours(now)
        return None if hours is None or self.price is None else hours * self.replicas * self.price


class Operation(models.Model):
    """Something that workers carry out in the cloud, step by step; between two steps nobody holds it, so a lost worker costs nothing.

    ``stage`` says which step; ``begun`` when its request was sent (stored before it is); ``lro``: the name under which Google runs it.
    A worker that finds ``begun`` without ``lro`` knows that another one was lost in that moment, and looks at what came of it.
    """

    class Kind(models.TextChoices):
        DEPLOY = "deploy", _("deploy")
        CLEAR = "clear", _("undeploy")
        UPLOAD = "upload", _("upload a model")
        DELETE_MODEL = "delete_model", _("delete a model")
        TRAFFIC = "traffic", _("divide the requests")
        GARDEN = "garden", _("list open models")
        SERIES = "series", _("read monitoring")

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("under way")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    public_id = models.CharField(max_length=16, unique=True, default=new_public_id, editable=False)
    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="operations")
    deployment = models.ForeignKey(
        Deployment, null=True, blank=True, on_delete=models.CASCADE, related_name="operations"
    )
    kind = models.CharField(max_length=14, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    title = models.CharField(max_length=200, blank=True)
    resource = models.CharField(max_length=300, blank=True, help_text=_("resource name of what it is about"))
    payload = models.JSONField(default=dict, blank=True)
    result = models.JSONField(null=True, blank=True)
    stage = models.CharField(max_length=20, blank=True)
    begun = models.DateTimeField(null=True, blank=True)
    lro = models.CharField(max_length=400, blank=True)
    due_at = models.DateTimeField(default=timezone.now)
    message = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)
    troubles = models.PositiveIntegerField(default=0, help_text=_("answers in a row that were no answers"))
    claim = models.CharField(max_length=32, null=True, blank=True, editable=False)
    claim_until = models.DateTimeField(null=True, blank=True, editable=False)
    worker = models.CharField(max_length=200, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)

    objects = OperationQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-pk"]
        indexes = [models.Index(fields=["state", "due_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["deployment"],
                condition=Q(kind="clear", state__in=["queued", "running"]),
                name="cloud_deployment_cleared_once_at_a_time",
            ),
            models.UniqueConstraint(
                fields=["connection", "resource"],
                condition=Q(kind="clear", state__in=["queued", "running"], deployment=None),
                name="cloud_orphan_cleared_once_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.title or self.resource}"

    @property
    def is_active(self) -> bool:
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def in_flight(self) -> bool:
        """Whether something was asked of Google that has not been seen to end."""
        return self.is_active and bool(self.lro or self.begun)


class SpendingCap(models.Model):
    """How much a user, or the members of a team together, may have deployed at a time. One without either is the rule for everybody else."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="cloud_cap"
    )
    team = models.OneToOneField(
        "accounts.Team", null=True, blank=True, on_delete=models.CASCADE, related_name="cloud_cap"
    )
    deployments = models.PositiveSmallIntegerField(help_text=_("deployments at a time"))
    usd_per_hour = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(Decimal(0))],
        help_text=_("of all of them together, by the prices known here"),
    )
    unknown_prices = models.BooleanField(
        default=False, help_text=_("machines may be deployed whose price is not known here")
    )

    class Meta:
        verbose_name = _("spending cap")
        constraints = [
            models.CheckConstraint(condition=Q(user=None) | Q(team=None), name="cloud_cap_of_user_or_team"),
        ]

    def __str__(self) -> str:
        return str(self.user or self.team or _("everybody else"))

    def clean(self) -> None:
        """One rule for everybody else: of two nobody could tell which counts."""
        others = SpendingCap.objects.filter(user=None, team=None).exclude(pk=self.pk)
        if self.user_id is None and self.team_id is None and others.exists():
            raise ValidationError(self.unique_error_message(SpendingCap, ("user", "team")))


class MachinePrice(models.Model):
    """A price that an administrator entered: it takes the place of the list price for one machine in one region."""

    machine_type = models.CharField(max_length=60)
    region = models.CharField(max_length=40)
    spot = models.BooleanField(default=False)
    usd_per_hour = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        validators=[MinValueValidator(Decimal("0.000001"))],
        help_text=_("USD per hour of one machine, accelerators included"),
    )
    dated = models.DateField(help_text=_("the day on which it was looked up"))
    note = models.CharField(max_length=150, blank=True, help_text=_("where it comes from"))

    class Meta:
        ordering = ["machine_type", "region", "spot"]
        constraints = [models.UniqueConstraint(fields=["machine_type", "region", "spot"], name="cloud_price_once")]

    def __str__(self) -> str:
        return f"{self.machine_type}, {self.region}"


class Guard(models.Model):
    """One row: who this installation is in the cloud, and whether deploying is stopped."""

    instance = models.CharField(max_length=16, default=new_public_id, editable=False)
    stopped_at = models.DateTimeField(null=True, blank=True)
    stopped_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    reason = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return "stopped" if self.stopped_at else "open"

    @classmethod
    def get(cls) -> Guard:
        """The row; made once."""
        return cls.objects.get_or_create(pk=1)[0]


#: How long a reading or a step may take until another worker takes it over, in leases of runs: a call to Google may last a minute.
LEASES = 3


def claim_end() -> datetime:
    return timezone.now() + timedelta(seconds=LEASES * settings.RUN_LEASE_S)
