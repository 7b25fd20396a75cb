"""Links that open one run or one comparison, read-only, without an account."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ShareLinkQuerySet(models.QuerySet):
    def usable(self) -> ShareLinkQuerySet:
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


class ShareLink(models.Model):
    """The token itself is shown once and not stored: ``token_digest`` is its SHA-256, ``token_start`` helps to recognise it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="share_links")
    token_digest = models.CharField(max_length=64, unique=True)
    token_start = models.CharField(max_length=6)
    run_ids = models.JSONField(help_text=_("public ids, in order; one for a run, several for a comparison"))
    label = models.CharField(max_length=100, blank=True)
    include_text = models.BooleanField(default=False, help_text=_("show prompts and generated text"))
    created = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used = models.DateTimeField(null=True, blank=True)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-pk"]

    def __str__(self) -> str:
        return f"{self.token_start}… ({len(self.run_ids)})"
