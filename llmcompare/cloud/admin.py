"""The cloud in the admin: prices and caps to edit, everything else to look at. What is deployed is undeployed on its page, not by deleting a row."""

from __future__ import annotations

from django.contrib import admin

from llmcompare.cloud.models import Connection, Deployment, Guard, MachinePrice, Operation, SpendingCap


class ReadOnly:
    def has_add_permission(self, request, obj=None) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


@admin.register(MachinePrice)
class MachinePriceAdmin(admin.ModelAdmin):
    list_display = ["machine_type", "region", "spot", "usd_per_hour", "dated", "note"]
    list_filter = ["region", "spot"]
    search_fields = ["machine_type", "region"]


@admin.register(SpendingCap)
class SpendingCapAdmin(admin.ModelAdmin):
    list_display = ["__str__", "deployments", "usd_per_hour", "unknown_prices"]
    autocomplete_fields = ["user", "team"]


@admin.register(Connection)
class ConnectionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["name", "owner", "project", "region", "credential_kind", "allowed_at", "read_at"]
    list_select_related = ["owner"]
    fields = ["public_id", "name", "owner", "team", "project", "region", "credential_kind", "allowed_by", "allowed_at"]


@admin.register(Deployment)
class DeploymentAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["name", "owner", "connection", "machine_type", "replicas", "state", "expires_at", "ended_at"]
    list_filter = ["state", "machine_type"]
    list_select_related = ["owner", "connection"]


@admin.register(Operation)
class OperationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["kind", "title", "connection", "state", "stage", "worker", "created", "finished"]
    list_filter = ["kind", "state"]
    list_select_related = ["connection"]
    fields = [
        "public_id",
        "kind",
        "title",
        "state",
        "stage",
        "message",
        "error",
        "lro",
        "worker",
        "created",
        "finished",
    ]


@admin.register(Guard)
class GuardAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["instance", "stopped_at", "stopped_by", "reason"]
