"""Every address of the portal. Pages are their own permalinks; the same address with .csv or .json is the export."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from llmcompare.common.views import robots
from llmcompare.runs.views import dashboard

urlpatterns = [
    path("", dashboard, name="dashboard"),
    path("robots.txt", robots, name="robots"),
    path("accounts/", include("llmcompare.accounts.urls")),
    path("models/", include("llmcompare.catalog.urls")),
    path("hardware/", include("hardware.urls")),
    path("", include("llmcompare.endpoints.urls")),
    path("cloud/", include("llmcompare.cloud.urls")),
    path("", include("llmcompare.runs.urls")),
    path("", include("llmcompare.history.urls")),
    path("", include("llmcompare.explore.urls")),
    path("", include("llmcompare.sharing.urls")),
    path("api/v1/", include("llmcompare.api.urls")),
    path("admin/", admin.site.urls),
]
