"""Servers of models that runs send requests to, what was seen of their abilities, and the private networks that are open for them.

An endpoint's key is stored encrypted, together with the origin (scheme, host and port) that it was entered for, and is read by workers
alone (``targets.py``). What a server can do is found out by a worker: a :class:`Probe` is a row with the life ``queued → running → done |
failed``, and pages read what it left behind. No page opens a connection.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llmcompare.common.identifiers import new_public_id
from llmcompare.endpoints.querysets import EndpointQuerySet
from profiling.remote.addresses import MAX_URL

MAX_MODEL = 300


class Endpoint(models.Model):
    """A model behind a server.

    ``url``: address up to ``/v1``, as :attr:`profiling.remote.addresses.Server.base`; of other kinds what their app says. ``model``: its id
    at the server, empty until somebody chose one. ``api``: the route that is used, empty until it was chosen or found out. ``probe``: what
    the last look that ended found (:mod:`llmcompare.endpoints.probing`), null before the first. ``places``: see
    :mod:`llmcompare.endpoints.places`. ``hardware`` and ``language_model``: what an
    estimate beside its runs goes by.
    """

    class Kind(models.TextChoices):
        OPENAI = "openai", _("OpenAI protocol")
        VERTEX = "vertex", _("Vertex AI")

    class Api(models.TextChoices):
        CHAT = "chat", "/chat/completions"
        COMPLETIONS = "completions", "/completions"

    class Visibility(models.TextChoices):
        PRIVATE = "private", _("Only me")
        TEAM = "team", _("My team")
        PUBLIC = "public", _("Everyone here")

    #: With any of these changed, an old look at the server says nothing any more.
    SEEN_WITH = ("url", "model", "sealed_key", "private")

    public_id = models.CharField(max_length=22, unique=True, default=new_public_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="endpoints")
    team = models.ForeignKey(
        "accounts.Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="endpoints"
    )
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE)
    name = models.CharField(max_length=150)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.OPENAI)
    url = models.CharField(max_length=MAX_URL, blank=True)
    model = models.CharField(max_length=MAX_MODEL, blank=True)
    api = models.CharField(max_length=12, choices=Api.choices, blank=True)
    sealed_key = models.TextField(blank=True, editable=False, help_text="encrypted; never shown")
    private = models.BooleanField(
        default=False, help_text="its address may be in a network that an administrator opened"
    )
    hardware = models.ForeignKey(
        "hardware.Hardware", null=True, blank=True, on_delete=models.SET_NULL, related_name="endpoints"
    )
    language_model = models.ForeignKey(
        "catalog.LanguageModel", null=True, blank=True, on_delete=models.SET_NULL, related_name="endpoints"
    )
    probe: Any = models.JSONField(null=True, blank=True, editable=False, help_text="what the last look found")
    places: Any = models.JSONField(
        default=list, editable=False, help_text="marks of the addresses that runs were asked of, in order"
    )
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="in the bin; restored by undo")

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        indexes = [models.Index(fields=["owner", "name"])]

    def __str__(self) -> str:
        return self.name

    @property
    def key_set(self) -> bool:
        """Whether a key is stored; whether it can still be read is another question (``crypto.py``)."""
        return bool(self.sealed_key)

    @property
    def is_openai(self) -> bool:
        return self.kind == self.Kind.OPENAI

    @property
    def is_the_teams(self) -> bool:
        """Whether its requests are sent with credentials of a team, which its owner may use as a member of it."""
        return not self.is_openai and self.visibility == self.Visibility.TEAM


class Probe(models.Model):
    """One look at what an endpoint's server can do, asked for by somebody and made by a worker. It is short and its length is bounded, so a
    worker that claims it renews nothing: after ``lease_until`` it was lost."""

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("under way")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    ACTIVE = (State.QUEUED, State.RUNNING)
    MAX_ATTEMPTS = 2

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="probes")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    claim = models.CharField(max_length=32, null=True, blank=True, editable=False)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    progress = models.FloatField(default=0, help_text="0 to 1")
    message = models.CharField(max_length=300, blank=True)
    error = models.CharField(max_length=500, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created", "-pk"]
        indexes = [models.Index(fields=["state"])]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"], condition=Q(state__in=["queued", "running"]), name="probe_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(state="running", claim__isnull=False, lease_until__isnull=False)
                | (~Q(state="running") & Q(claim__isnull=True, lease_until__isnull=True)),
                name="probe_running_means_leased",
            ),
        ]

    def __str__(self) -> str:
        return f"probe of {self.endpoint}, {self.get_state_display()}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE


class PrivateNetwork(models.Model):
    """A network that an administrator opened: endpoints that an administrator registered as private may be in it."""

    name = models.CharField(max_length=100, help_text=_("What is there, such as “Ollama in the lab”."))
    network = models.CharField(
        max_length=50, unique=True, help_text=_("Such as 10.1.2.0/24, or one address: 127.0.0.1.")
    )
    active = models.BooleanField(default=True, help_text=_("Endpoints may be in it."))
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.network})"
