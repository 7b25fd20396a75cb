"""Language models: the catalogue, real small weights, and configurations that users upload."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llmcompare.catalog.querysets import LanguageModelQuerySet
from profiling.spec import MODEL_KINDS, ModelSpec


class Folder(models.Model):
    """A folder of the server that administrators named: everybody here may use the models or prompt files under it.

    ``path`` is its real path. Workers read the same path, so on several machines it is shared storage.
    """

    class Holds(models.TextChoices):
        MODELS = "models", _("Models")
        PROMPTS = "prompts", _("Prompt files")

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=100)
    path = models.CharField(max_length=400, help_text=_("The whole path on the server, such as /srv/models."))
    holds = models.CharField(max_length=10, choices=Holds.choices, default=Holds.MODELS)
    active = models.BooleanField(default=True, help_text=_("What lies under it can be used."))
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["path", "holds"], name="folder_once")]

    def __str__(self) -> str:
        return self.name


class LanguageModel(models.Model):
    """A language model as its configuration describes it; ``config`` is the content of a transformers ``config.json``.

    ``facts`` is what the engine's ``inspect`` said of it (parameters, context, memory by dtype), null until it was asked.
    ``weights`` says what a measured run uses: random ones, or a local folder (``weights_path``, below the data folder or below
    ``folder``, where ``folder_path`` leads to it and ``weights_digest`` stands for its files).
    """

    class Source(models.TextChoices):
        CATALOGUE = "catalogue", _("Catalogue")
        PACKAGE = "package", _("Real weights from a package")
        UPLOAD = "upload", _("Uploaded config.json")
        FOLDER = "folder", _("Registered folder")
        HUB = "hub", _("Hugging Face Hub")
        ADMIN = "admin", _("Added by an administrator")

    class Weights(models.TextChoices):
        RANDOM = "random", _("Random weights")
        LOCAL = "local", _("Real weights")
        PREPARING = "preparing", _("Real weights, being prepared")
        FAILED = "failed", _("Real weights could not be prepared")

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
    folder = models.ForeignKey(Folder, null=True, blank=True, on_delete=models.CASCADE, related_name="taken")
    folder_path = models.CharField(max_length=400, blank=True)
    weights_digest = models.CharField(max_length=64, blank=True)
    hub = models.JSONField(null=True, blank=True, editable=False, help_text="what the Hub has: a profiling.hub.Look")
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
            models.CheckConstraint(
                condition=Q(source="folder", folder__isnull=False) | (~Q(source="folder") & Q(folder__isnull=True)),
                name="model_of_folder_has_it",
            ),
            models.UniqueConstraint(fields=["folder", "folder_path"], name="model_of_folder_once"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def weights_root(self) -> str | None:
        """What the files must lie under when they are loaded; None: not checked then."""
        if self.source == self.Source.HUB:
            return str(settings.DATA_DIR / "hub")
        return self.folder.path if self.folder else None

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
            weights_root=self.weights_root if local else None,
            weights_digest=self.weights_digest or None if local else None,
        )
