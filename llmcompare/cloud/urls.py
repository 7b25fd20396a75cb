"""Addresses of the cloud pages."""

from __future__ import annotations

from django.urls import path

from llmcompare.cloud import views, views_deploy, views_deployment

app_name = "cloud"
urlpatterns = [
    path("", views.home, name="list"),
    path("new/", views.new, name="new"),
    path("stop/", views.stop_everything, name="stop-everything"),
    path("open/", views.open_again, name="open-again"),
    path("deployments/<slug:public_id>/", views_deployment.deployment, name="deployment"),
    path("deployments/<slug:public_id>/status/", views_deployment.status, name="deployment-status"),
    path("deployments/<slug:public_id>/extend/", views_deployment.extend, name="extend"),
    path("deployments/<slug:public_id>/stop/", views_deployment.stop, name="stop"),
    path("deployments/<slug:public_id>/traffic/", views_deployment.traffic, name="traffic"),
    path("<slug:public_id>/", views.connection, name="connection"),
    path("<slug:public_id>/read/", views.read, name="read"),
    path("<slug:public_id>/allow/", views.allow, name="allow"),
    path("<slug:public_id>/delete/", views.delete, name="delete"),
    path("<slug:public_id>/restore/", views.restore, name="restore"),
    path("<slug:public_id>/upload/", views_deploy.upload, name="upload"),
    path("<slug:public_id>/models/<slug:model_id>/delete/", views_deploy.delete_model, name="model-delete"),
    path("<slug:public_id>/deploy/", views_deploy.deploy, name="deploy"),
    path("<slug:public_id>/garden/", views_deploy.garden, name="garden"),
]
