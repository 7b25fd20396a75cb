"""Addresses of the what-if page and of saved sweeps. An export is the address of its page with .csv or .json."""

from __future__ import annotations

from django.urls import path

from llmcompare.explore import views, views_sweeps

app_name = "explore"
urlpatterns = [
    path("explore/", views.page, name="page"),
    path("explore.json", views.page_json, name="json"),
    path("explore.csv", views.page_csv, name="csv"),
    path("explore/answer/", views.answer, name="answer"),
    path("explore/forms/", views.make_forms, name="make"),
    path("explore/forms/cancel/", views.cancel_forms, name="cancel"),
    path("explore/run/", views.run, name="run"),
    path("explore/device/", views.device, name="device"),
    path("explore/sweeps/", views_sweeps.sweeps, name="sweeps"),
    path("explore/sweeps/<str:public_id>.json", views_sweeps.sweep_json, name="sweep-json"),
    path("explore/sweeps/<str:public_id>.csv", views_sweeps.sweep_csv, name="sweep-csv"),
    path("explore/sweeps/<str:public_id>/", views_sweeps.sweep, name="sweep"),
    path("explore/sweeps/<str:public_id>/delete/", views_sweeps.delete, name="sweep-delete"),
    path("explore/sweeps/<str:public_id>/restore/", views_sweeps.restore, name="sweep-restore"),
]
