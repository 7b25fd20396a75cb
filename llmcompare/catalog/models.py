"""Language models: the catalogue, real small weights, and configurations that users upload."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from llmcompare.catalog.querysets import LanguageModelQuerySet
from profiling.spec import MODEL_KINDS, ModelSpec


class LanguageModel(models.Model):
    """A language model as its configuration describes it; ``config`` is the content of a transformers ``config.json``.

    ``facts`` is what the engine's ``inspect`` said of it (parameters, context, memory by dtype), null until it was asked.
    ``weights`` says what a measured run uses: random ones, or a local folder (``weights_path``, below the data folder).
    """

    class Source(models.TextChoices):
        CATALOGUE = "catalogue", "Catalogue"
        PACKAGE = "package", "Real weights from a package"
        UPLOAD = "upload", "Uploaded config.json"
        ADMIN = "admin", "Added by an administrator"

    class Weights(models.TextChoices):
        RANDOM = "random", "Random weights"
        LOCAL = "local", "Real weights"
        PREPARING = "preparing", "Real weights, being prepared"
        FAILED = "failed", "Real weights could not be prepared"

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=150)
    hf_id = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=10, choices=[(k, k) for k in MODEL_KINDS])
    model_type = models.CharField(max_length=60)
    architecture = models.CharField(max_length=100)
    config = models.JSONField()
    config_sha256 = models.CharField(max_length=64)
    parameters = models.BigIntegerField(null=True, blank=True)
    max_context = models.BigIntegerField(null=True, blank=True)
    facts = models.JSONField(null=True, blank=True)
    weights = models.CharField(max_length=10, choices=Weights.choices, default=Weights.RANDOM)
    weights_path = models.CharField(max_length=500, blank=True)
    weights_note = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=100, blank=True)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.ADMIN)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="private_models"
    )
    catalogue_digest = models.CharField(max_length=64, blank=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    objects = LanguageModelQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        verbose_name = "model"
        constraints = [
            models.CheckConstraint(
                condition=Q(source="upload", owner__isnull=False) | (~Q(source="upload") & Q(owner__isnull=True)),
                name="model_upload_has_owner",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def to_spec(self) -> ModelSpec:
        """The frozen value that a run keeps."""
        local = self.weights == self.Weights.LOCAL
        return ModelSpec(
            name=self.name,
            config=self.config,
            architecture=self.architecture,
            kind=self.kind,
            source=self.source,
            weights="local" if local else "random",
            weights_path=self.weights_path if local else None,
            weights_note=self.weights_note or None,
        )
