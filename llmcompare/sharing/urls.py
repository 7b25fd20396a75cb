"""Addresses of sharing. Everything below ``/s/`` works without an account; nothing else does."""

from __future__ import annotations

from django.urls import path

from llmcompare.sharing import views

app_name = "sharing"
urlpatterns = [
    path("runs/<slug:public_id>/share/", views.share_run, name="run"),
    path("compare/share/", views.share_comparison, name="comparison"),
    path("shares/", views.links, name="list"),
    path("shares/<slug:digest>/revoke/", views.revoke, name="revoke"),
    path("s/<str:token>/", views.open_page, name="open"),
    path("s/<str:token>/export.json", views.export_json, name="json"),
    path("s/<str:token>/export.csv", views.export_csv, name="csv"),
    path("s/<str:token>/graph.<str:suffix>", views.export_graph, name="graph"),
]
