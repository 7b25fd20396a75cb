"""Addresses of runs and comparisons. An export is the address of its page with .csv or .json."""

from __future__ import annotations

from django.urls import path

from llmcompare.runs import views, views_bulk, views_compare, views_new, views_run

app_name = "runs"
urlpatterns = [
    path("runs/", views.run_list, name="list"),
    path("runs.csv", views.list_csv, name="csv"),
    path("runs.json", views.list_json, name="json"),
    path("runs/bulk/", views_bulk.bulk, name="bulk"),
    path("runs/new/", views_new.new_run, name="new"),
    path("runs/new/preview/", views_new.preview_panel, name="preview"),
    path("runs/<str:public_id>.csv", views.run_csv, name="run-csv"),
    path("runs/<str:public_id>.json", views.run_json, name="run-json"),
    path("runs/<str:public_id>/graph.<str:suffix>", views.run_graph, name="run-graph"),
    path("runs/<str:public_id>/artifacts/<str:name>", views_run.artifact, name="artifact"),
    path("runs/<str:public_id>/", views_run.detail, name="detail"),
    path("runs/<str:public_id>/status/", views_run.status, name="status"),
    path("runs/<str:public_id>/row/", views.row, name="row"),
    path("runs/<str:public_id>/cancel/", views_run.cancel, name="cancel"),
    path("runs/<str:public_id>/delete/", views_run.delete, name="delete"),
    path("runs/<str:public_id>/restore/", views_run.restore, name="restore"),
    path("runs/<str:public_id>/rerun/", views.rerun, name="rerun"),
    path("compare/", views_compare.compare, name="compare"),
    path("compare.csv", views_compare.compare_csv, name="compare-csv"),
    path("compare.json", views_compare.compare_json, name="compare-json"),
]
