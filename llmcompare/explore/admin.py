"""Stored forms and saved sweeps in the admin: to look at and to clear away, not to edit."""

from __future__ import annotations

from django.contrib import admin

from llmcompare.explore.models import SavedSweep, StoredForm


@admin.register(StoredForm)
class StoredFormAdmin(admin.ModelAdmin):
    """How forms came to be. Their configurations may be private, so neither key nor request is shown."""

    list_display = ["digest", "state", "asked_by", "worker", "attempt", "created", "finished", "used"]
    list_filter = ["state", "created"]
    search_fields = ["digest", "worker"]
    list_select_related = ["asked_by"]
    fields = ["digest", "state", "reason", "made_with", "asked_by", "worker", "attempt", "created", "finished", "used"]

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False


@admin.register(SavedSweep)
class SavedSweepAdmin(admin.ModelAdmin):
    """Who keeps how much. Names and figures are left out: staff have no special right to private sweeps."""

    list_display = ["public_id", "owner", "visibility", "created", "deleted_at"]
    list_filter = ["visibility", "created"]
    search_fields = ["public_id", "owner__username"]
    list_select_related = ["owner"]
    fields = ["public_id", "owner", "visibility", "created", "deleted_at"]

    def has_add_permission(self, request) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False
