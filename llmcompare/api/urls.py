"""The REST API, version 1. Its documentation is at ``docs/``, the OpenAPI document at ``schema/``."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import StringConverter
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from llmcompare.api.views import catalogue, ceilings, inference, runs, tokens


class PublicId(StringConverter):
    """What a run's identifier can look like; anything else is nobody's run."""

    regex = "[A-Za-z0-9_-]{1,22}"


register_converter(PublicId, "public_id")

app_name = "api"
urlpatterns = [
    path("auth/login/", tokens.log_in, name="login"),
    path("auth/logout/", tokens.log_out, name="logout"),
    path("models/", catalogue.models, name="models"),
    path("models/<slug:slug>/", catalogue.model, name="model"),
    path("hardware/", catalogue.hardware_list, name="hardware-list"),
    path("hardware/<slug:slug>/", catalogue.hardware, name="hardware"),
    path("hosts/", catalogue.hosts, name="hosts"),
    path("hosts/<slug:slug>/ceilings/", ceilings.ceilings, name="host-ceilings"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<public_id:public_id>/", runs.run, name="run"),
    path("runs/<public_id:public_id>/document/", runs.document, name="run-document"),
    path("runs/<public_id:public_id>/cancel/", runs.cancel, name="run-cancel"),
    path("runs/<public_id:public_id>/export.csv", runs.export_csv, name="run-csv"),
    path("runs/<public_id:public_id>/export.json", runs.export_json, name="run-json"),
    path("inference/", inference.inference, name="inference"),
    path("compare/", runs.compare, name="compare"),
    path("schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(url_name="api:schema", template_name="api/docs.html"),
        name="docs",
    ),
]
