"""Addresses of runs: list, launch, one run, comparison. With .csv or .json the same address is the export."""

from __future__ import annotations

from django.urls import path

from llmcompare.runs import views_compare, views_list, views_run

app_name = "runs"
urlpatterns: list = [
    path("runs/", views_list.run_list, name="list"),
    path("runs.csv", views_list.runs_csv, name="list_csv"),
    path("runs.json", views_list.runs_json, name="list_json"),
    path("runs/<str:public_id>.csv", views_list.run_csv, name="csv"),
    path("runs/<str:public_id>.json", views_list.run_json, name="json"),
    path("runs/<str:public_id>/", views_run.detail, name="detail"),
    path("runs/<str:public_id>/status/", views_run.status, name="status"),
    path("runs/<str:public_id>/cancel/", views_run.cancel, name="cancel"),
    path("runs/<str:public_id>/delete/", views_run.delete, name="delete"),
    path("runs/<str:public_id>/restore/", views_run.restore, name="restore"),
    path("compare/", views_compare.compare, name="compare"),
    path("compare.csv", views_compare.compare_csv, name="compare_csv"),
    path("compare.json", views_compare.compare_json, name="compare_json"),
]
