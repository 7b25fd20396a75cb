"""Hardware in the admin: entries to edit, hosts and ceilings to look at."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from hardware.forms import AdminHardwareForm
from hardware.models import Ceiling, CeilingMeasurement, Hardware, Host
from hardware.services import confidence_after_edit, figures_of, is_edited
from hardware.templatetags.figures import bandwidth, size


class ReadOnly:
    def has_add_permission(self, request, obj=None) -> bool:
        return False

    def has_change_permission(self, request, obj=None) -> bool:
        return False

    def has_delete_permission(self, request, obj=None) -> bool:
        return False


@admin.register(Hardware)
class HardwareAdmin(admin.ModelAdmin):
    """Shared entries. Private ones belong to their users and are not shown here."""

    form = AdminHardwareForm
    list_display = ["name", "vendor", "kind", "memory", "memory_rate", "source", "edited", "updated"]
    list_filter = ["kind", "vendor", "source"]
    search_fields = ["name", "vendor", "slug"]
    readonly_fields = ["created", "updated"]
    prepopulated_fields = {"slug": ["vendor", "name"]}
    list_per_page = 100

    def get_queryset(self, request):
        return super().get_queryset(request).filter(owner=None)

    def get_prepopulated_fields(self, request, obj=None):
        return super().get_prepopulated_fields(request, obj) if obj is None else {}

    def has_delete_permission(self, request, obj=None) -> bool:
        # The next load of the catalogue would bring the entry back.
        if obj is not None and obj.source == Hardware.Source.CATALOGUE:
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request):
        actions = super().get_actions(request)
        # It would delete catalogue entries too.
        actions.pop("delete_selected", None)
        return actions

    def save_model(self, request, obj, form, change) -> None:
        """A figure that was changed by hand is no longer what its sources confirmed, unless the confidence was edited with it."""
        old = Hardware.objects.get(pk=obj.pk) if change else None
        if old is None or obj.confidence == old.confidence:
            before = figures_of(old) if old else {}
            obj.confidence = confidence_after_edit(
                before=before, hardware=obj, status="unconfirmed", source=f"entered by {request.user}"
            )
        super().save_model(request, obj, form, change)

    @admin.display(description=_("memory"), ordering="memory_bytes")
    def memory(self, hardware) -> str:
        return size(hardware.memory_bytes)

    @admin.display(description=_("bandwidth"), ordering="memory_bandwidth")
    def memory_rate(self, hardware) -> str:
        return bandwidth(hardware.memory_bandwidth)

    @admin.display(description=_("edited here"), boolean=True)
    def edited(self, hardware) -> bool:
        return is_edited(hardware)


class CeilingInline(ReadOnly, admin.TabularInline):
    model = Ceiling
    fields = ["op_class", "dtype", "threads", "value", "unit", "median", "quality", "measured_at"]


@admin.register(Host)
class HostAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["name", "hardware", "queue", "has_engine", "ceilings_state", "seen"]
    list_filter = ["ceilings_state", "has_engine"]
    search_fields = ["name", "slug", "queue"]
    list_select_related = ["hardware"]
    inlines = [CeilingInline]

    def has_delete_permission(self, request, obj=None) -> bool:
        # A machine that is gone for good; its runs keep their figures.
        return request.user.has_perm("hardware.delete_host")


@admin.register(CeilingMeasurement)
class CeilingMeasurementAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["host", "state", "asked_by", "quick", "created", "started", "finished"]
    list_filter = ["state"]
    list_select_related = ["host", "asked_by"]


@admin.register(Ceiling)
class CeilingAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["host", "op_class", "dtype", "threads", "value", "unit", "quality", "measured_at"]
    list_filter = ["op_class", "dtype", "quality"]
    search_fields = ["host__name"]
    list_select_related = ["host"]

    def has_delete_permission(self, request, obj=None) -> bool:
        return request.user.has_perm("hardware.delete_ceiling")
