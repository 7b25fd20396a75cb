"""Addresses of the hardware pages."""

from __future__ import annotations

from django.urls import path

from hardware import views

app_name = "hardware"
urlpatterns = [
    path("", views.hardware_list, name="list"),
    path("hardware.csv", views.export_csv, name="csv"),
    path("hardware.json", views.export_list_json, name="json"),
    path("new/", views.new, name="new"),
    path("hosts/<slug:slug>/", views.host, name="host"),
    path("hosts/<slug:slug>.json", views.host_json, name="host-json"),
    path("hosts/<slug:slug>/ceilings/", views.host_ceilings, name="host-ceilings"),
    path("hosts/<slug:slug>/ceilings/cancel/", views.cancel_ceilings, name="host-ceilings-cancel"),
    path("<slug:slug>/", views.detail, name="detail"),
    path("<slug:slug>.json", views.detail_json, name="detail-json"),
    path("<slug:slug>/delete/", views.delete, name="delete"),
]
