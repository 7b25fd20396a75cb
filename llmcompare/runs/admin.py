"""Runs in the admin: to look at, not to edit. Their states belong to the workers, their results to the engine."""

from __future__ import annotations

from django.contrib import admin

from llmcompare.runs.models import Run


class ReadOnly:
    def has_add_permission(self, request, obj=None) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


@admin.register(Run)
class RunAdmin(ReadOnly, admin.ModelAdmin):
    """Who ran what, where, and how it ended. Results are left out: staff have no special right to private runs."""

    list_display = ["public_id", "owner", "kind", "state", "queue", "attempt", "worker", "created", "finished"]
    list_filter = ["state", "kind", "queue", "created"]
    search_fields = ["public_id", "owner__username", "worker"]
    list_select_related = ["owner"]
    date_hierarchy = "created"
    fields = [
        "public_id",
        "owner",
        "kind",
        "state",
        "queue",
        "attempt",
        "worker",
        "lease_until",
        "rung_at",
        "cancel_requested",
        "stage",
        "progress",
        "error_phase",
        "created",
        "started",
        "finished",
        "deleted_at",
        "spec_digest",
    ]

    def get_object(self, request, object_id, from_field=None):
        """The page calls a run by its id: its title and the names of its parts are its owner's."""
        run = super().get_object(request, object_id, from_field)
        if run is not None:
            run.title = run.public_id
        return run
