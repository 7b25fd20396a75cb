"""Addresses of the model pages."""

from __future__ import annotations

from django.urls import path

from llmcompare.catalog import views

app_name = "catalog"
urlpatterns = [
    path("", views.model_list, name="list"),
    path("models.csv", views.export_csv, name="csv"),
    path("models.json", views.export_list_json, name="json"),
    path("upload/", views.upload, name="upload"),
    path("<slug:slug>/", views.detail, name="detail"),
    path("<slug:slug>.json", views.detail_json, name="detail-json"),
    path("<slug:slug>/inspect/", views.inspect, name="inspect"),
    path("<slug:slug>/rename/", views.rename, name="rename"),
    path("<slug:slug>/delete/", views.delete, name="delete"),
]
