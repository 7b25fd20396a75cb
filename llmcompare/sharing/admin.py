"""Shared links in the admin: to look at and to revoke, not to make (the token could not be shown)."""

from __future__ import annotations

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from llmcompare.sharing.models import ShareLink


@admin.register(ShareLink)
class ShareLinkAdmin(admin.ModelAdmin):
    list_display = ("token_start", "owner", "label", "created", "expires_at", "revoked_at", "last_used")
    list_filter = ("created", "revoked_at")
    search_fields = ("token_start", "label", "owner__username")
    list_select_related = ("owner",)
    actions = ("revoke",)

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    @admin.action(description=_("Revoke the selected links"), permissions=["delete"])
    def revoke(self, request, queryset) -> None:
        queryset.filter(revoked_at=None).update(revoked_at=timezone.now())
