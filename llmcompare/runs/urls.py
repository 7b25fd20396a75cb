"""Addresses of runs: list, launch, one run, comparison. With .csv or .json the same address is the export."""

from __future__ import annotations

from django.urls import path

from llmcompare.runs import views_compare

app_name = "runs"
urlpatterns: list = [
    path("compare/", views_compare.compare, name="compare"),
    path("compare.csv", views_compare.compare_csv, name="compare_csv"),
    path("compare.json", views_compare.compare_json, name="compare_json"),
]
