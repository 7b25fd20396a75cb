"""Private networks in the admin: which of them endpoints may be in. Endpoints belong to their users and are not shown here."""

from __future__ import annotations

from django.contrib import admin

from llmcompare.endpoints.forms import NetworkForm
from llmcompare.endpoints.models import PrivateNetwork


@admin.register(PrivateNetwork)
class PrivateNetworkAdmin(admin.ModelAdmin):
    form = NetworkForm
    list_display = ["name", "network", "active", "created"]
    list_filter = ["active"]
