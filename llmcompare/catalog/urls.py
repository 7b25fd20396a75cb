"""Addresses of the model pages."""

from __future__ import annotations

from django.urls import path

from llmcompare.catalog import views, views_folders, views_hub

app_name = "catalog"
urlpatterns = [
    path("", views.model_list, name="list"),
    path("models.csv", views.export_csv, name="csv"),
    path("models.json", views.export_list_json, name="json"),
    path("upload/", views.upload, name="upload"),
    path("hub/", views_hub.add, name="hub"),
    path("folders/", views_folders.folder_list, name="folders"),
    path("folders.csv", views_folders.export_csv, name="folders-csv"),
    path("folders.json", views_folders.export_json, name="folders-json"),
    path("folders/<slug:slug>/use/", views_folders.use, name="folder-use"),
    path("<slug:slug>/", views.detail, name="detail"),
    path("<slug:slug>.json", views.detail_json, name="detail-json"),
    path("<slug:slug>/hub-weights/", views_hub.weights, name="hub-weights"),
    path("<slug:slug>/inspect/", views.inspect, name="inspect"),
    path("<slug:slug>/rename/", views.rename, name="rename"),
    path("<slug:slug>/delete/", views.delete, name="delete"),
]
