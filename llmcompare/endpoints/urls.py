"""Addresses of the endpoint pages; the same address with .csv or .json is the export."""

from __future__ import annotations

from django.urls import path

from llmcompare.endpoints import views

app_name = "endpoints"
urlpatterns = [
    path("endpoints/", views.endpoint_list, name="list"),
    path("endpoints.csv", views.export_csv, name="csv"),
    path("endpoints.json", views.export_list_json, name="json"),
    path("endpoints/new/", views.new, name="new"),
    path("endpoints/<str:public_id>/", views.detail, name="detail"),
    path("endpoints/<str:public_id>.json", views.detail_json, name="detail-json"),
    path("endpoints/<str:public_id>/edit/", views.edit, name="edit"),
    path("endpoints/<str:public_id>/model/", views.choose_model, name="model"),
    path("endpoints/<str:public_id>/look/", views.look, name="look"),
    path("endpoints/<str:public_id>/status/", views.status, name="status"),
    path("endpoints/<str:public_id>/delete/", views.delete, name="delete"),
    path("endpoints/<str:public_id>/restore/", views.restore, name="restore"),
]
