"""Models in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from llmcompare.catalog.forms import AdminModelForm, FolderForm
from llmcompare.catalog.models import Folder, LanguageModel
from llmcompare.catalog.services import is_edited
from profiling.quantities import count


@admin.register(LanguageModel)
class LanguageModelAdmin(admin.ModelAdmin):
    """Shared entries. Uploads belong to their users and are not shown here."""

    form = AdminModelForm
    list_display = ["name", "kind", "architecture", "size", "max_context", "weights", "source", "edited", "updated"]
    list_filter = ["kind", "source", "weights", "model_type"]
    search_fields = ["name", "slug", "hf_id", "architecture", "model_type"]
    readonly_fields = [
        "architecture",
        "model_type",
        "config_sha256",
        "weights",
        "folder",
        "folder_path",
        "source",
        "facts",
        "created",
        "updated",
    ]
    list_per_page = 100

    def get_queryset(self, request):
        return super().get_queryset(request).filter(owner=None)

    def has_delete_permission(self, request, obj=None) -> bool:
        # The next load of the catalogue would bring the entry back.
        source = LanguageModel.Source
        if obj is not None and obj.source not in (source.ADMIN, source.FOLDER, source.HUB):
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request):
        actions = super().get_actions(request)
        # It would delete catalogue entries too.
        actions.pop("delete_selected", None)
        return actions

    @admin.display(description=_("parameters"), ordering="parameters")
    def size(self, model) -> str:
        return count(model.parameters)

    @admin.display(description=_("edited here"), boolean=True)
    def edited(self, model) -> bool:
        return is_edited(model)


@admin.register(Folder)
class FolderAdmin(admin.ModelAdmin):
    """Folders of the server whose models or prompt files everybody here may use."""

    form = FolderForm
    list_display = ["name", "holds", "path", "active", "created"]
    list_filter = ["holds", "active"]
    prepopulated_fields = {"slug": ["name"]}
