"""The REST API, version 1. Its documentation is at ``docs/``, the OpenAPI document at ``schema/``."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import StringConverter
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from llmcompare.api.views import (
    artifacts,
    catalogue,
    ceilings,
    cloud,
    endpoints,
    explore,
    folders,
    history,
    inference,
    runs,
    tags,
    tokens,
)


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
    path("hub/models/", folders.add_from_hub, name="hub-models"),
    path("folders/", folders.folder_list, name="folders"),
    path("folders/<slug:slug>/models/", folders.use, name="folder-models"),
    path("hardware/", catalogue.hardware_list, name="hardware-list"),
    path("hardware/<slug:slug>/", catalogue.hardware, name="hardware"),
    path("hosts/", catalogue.hosts, name="hosts"),
    path("hosts/<slug:slug>/ceilings/", ceilings.ceilings, name="host-ceilings"),
    path("endpoints/", endpoints.endpoints, name="endpoints"),
    path("endpoints/<public_id:public_id>/", endpoints.endpoint, name="endpoint"),
    path("endpoints/<public_id:public_id>/probe/", endpoints.probe, name="endpoint-probe"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<public_id:public_id>/", runs.run, name="run"),
    path("runs/<public_id:public_id>/document/", runs.document, name="run-document"),
    path("runs/<public_id:public_id>/cancel/", runs.cancel, name="run-cancel"),
    path("runs/<public_id:public_id>/tags/", tags.tags, name="run-tags"),
    path("runs/<public_id:public_id>/artifacts/", artifacts.artifacts, name="run-artifacts"),
    path("runs/<public_id:public_id>/artifacts/<str:name>", artifacts.artifact, name="run-artifact"),
    path("runs/<public_id:public_id>/export.csv", runs.export_csv, name="run-csv"),
    path("runs/<public_id:public_id>/export.json", runs.export_json, name="run-json"),
    path("history/", history.history, name="history"),
    path("history/<slug:key>/", history.series, name="series"),
    path("inference/", inference.inference, name="inference"),
    path("explore/", explore.explore, name="explore"),
    path("cloud/connections/", cloud.connection_list, name="cloud-connections"),
    path("cloud/connections/<slug:public_id>/read/", cloud.connection_read, name="cloud-connection-read"),
    path("cloud/connections/<slug:public_id>/machines/", cloud.machine_list, name="cloud-machines"),
    path("cloud/connections/<slug:public_id>/operations/", cloud.operation_list, name="cloud-operations"),
    path("cloud/deployments/", cloud.deployment_list, name="cloud-deployments"),
    path("cloud/deployments/<slug:public_id>/", cloud.deployment, name="cloud-deployment"),
    path("cloud/deployments/<slug:public_id>/extend/", cloud.deployment_extend, name="cloud-deployment-extend"),
    path("cloud/deployments/<slug:public_id>/stop/", cloud.deployment_stop, name="cloud-deployment-stop"),
    path("compare/", runs.compare, name="compare"),
    path("schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path(
        "docs/",
        SpectacularSwaggerSplitView.as_view(url_name="api:schema", template_name="api/docs.html"),
        name="docs",
    ),
]
