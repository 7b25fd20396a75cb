"""Vertex AI: connections, machines and their prices, deployments with their leases, operations. What is asked for here, workers carry out."""

from __future__ import annotations

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.accounts.models import Team
from llmcompare.api.schema import operation
from llmcompare.api.serializers import Strict
from llmcompare.cloud import connections, deployments
from llmcompare.cloud.models import Connection, Deployment, Operation
from llmcompare.cloud.presentation import (
    connection_json,
    deployment_json,
    machine_rows,
    operation_json,
    shown,
)
from llmcompare.common.errors import FieldErrors

MOST_LISTED = 200


class ConnectionSerializer(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    project = serializers.CharField()
    region = serializers.CharField()
    credential_kind = serializers.CharField()
    allowed = serializers.BooleanField(help_text="whether an administrator lets workers use it")
    owner = serializers.CharField()
    team = serializers.CharField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True, help_text="when its project was last read completely")
    read_error = serializers.CharField(
        allow_blank=True, help_text="why the last reading failed; empty where it did not"
    )
    reading = serializers.BooleanField(help_text="true: a reading was asked for")
    models = serializers.ListField(child=serializers.DictField())
    endpoints = serializers.ListField(child=serializers.DictField())


class NewConnectionSerializer(Strict):
    name = serializers.CharField(max_length=100)
    project = serializers.CharField(max_length=63, help_text="the project's id")
    region = serializers.CharField(max_length=40)
    credential_kind = serializers.ChoiceField(choices=["impersonate", "adc", "secret", "token"])
    credential = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        help_text="a service account's address or a reference, never a key",
    )
    team = serializers.SlugField(required=False, allow_null=True, help_text="a team in which you are an editor")


class MachineSerializer(serializers.Serializer):
    machine_type = serializers.CharField()
    label = serializers.CharField()
    series = serializers.CharField()
    tpu = serializers.BooleanField(help_text="for estimates, and for containers that serve on TPUs")
    usd_per_hour = serializers.FloatField(allow_null=True, help_text="of one machine; null: unknown")
    price_words = serializers.CharField(help_text="whose price it is and of which day, or why none is known")
    compiled = serializers.DateField(help_text="day of the list of machines")


class DeploymentSerializer(serializers.Serializer):
    id = serializers.CharField()
    connection = serializers.CharField()
    owner = serializers.CharField()
    name = serializers.CharField()
    model = serializers.CharField()
    source = serializers.CharField()
    machine_type = serializers.CharField()
    replicas = serializers.IntegerField()
    spot = serializers.BooleanField()
    dedicated = serializers.BooleanField()
    state = serializers.ChoiceField(choices=Deployment.State.values)
    stop_reason = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    expires_at = serializers.DateTimeField(help_text="then it is undeployed")
    idle_minutes = serializers.IntegerField(allow_null=True)
    used_at = serializers.DateTimeField(allow_null=True)
    created = serializers.DateTimeField()
    ready_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    usd_per_hour = serializers.FloatField(allow_null=True, help_text="of all replicas; null: unknown")
    price_words = serializers.CharField(allow_blank=True)
    accrued_usd_estimated = serializers.FloatField(
        allow_null=True, help_text="time × replicas × price so far; null: unknown. Google's bill decides"
    )
    endpoint_in_cloud = serializers.CharField(allow_blank=True)
    endpoint = serializers.CharField(allow_null=True, help_text="id of the endpoint for runs, once it is ready")


class NewDeploymentSerializer(Strict):
    connection = serializers.CharField(max_length=16)
    model = serializers.CharField(
        max_length=300, help_text="id of a model that the connection listed, or an open model"
    )
    name = serializers.CharField(max_length=60, help_text="of the new endpoint")
    confirm = serializers.CharField(max_length=60, help_text="the name again: what it costs was read")
    machine_type = serializers.CharField(max_length=60)
    source = serializers.ChoiceField(choices=Deployment.Source.values, default="model")
    replicas = serializers.IntegerField(default=1)
    spot = serializers.BooleanField(default=False)
    dedicated = serializers.BooleanField(default=True)
    lease_hours = serializers.IntegerField(default=1)
    idle_minutes = serializers.IntegerField(required=False, allow_null=True, default=None)


class ExtendSerializer(Strict):
    hours = serializers.IntegerField(help_text="from now")


class OperationSerializer(serializers.Serializer):
    id = serializers.CharField()
    kind = serializers.CharField()
    title = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(choices=Operation.State.values)
    stage = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    created = serializers.DateTimeField()
    finished = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True)


def _connections(request: Request) -> QuerySet[Connection]:
    return Connection.objects.visible_to(request.user).select_related("owner", "team")


def _usable(request: Request, public_id: str) -> Connection:
    usable = Connection.objects.usable_by(request.user).select_related("owner", "team")
    return get_object_or_404(usable, public_id=public_id)


def _answer(deployment: Deployment) -> dict:
    row = Deployment.objects.select_related("connection", "owner", "endpoint").get(pk=deployment.pk)
    return deployment_json(shown([row])[0])


@operation(
    "get_cloud_connections",
    methods=["GET"],
    summary="Connections to Vertex AI, with models and endpoints as last read",
    tags=["cloud"],
    responses={200: ConnectionSerializer(many=True)},
)
@operation(
    "create_cloud_connection",
    methods=["POST"],
    summary="Name a project, a region and how workers log in there; a worker checks it",
    tags=["cloud"],
    request=NewConnectionSerializer,
    responses={201: ConnectionSerializer},
    errors=(400,),
)
@api_view(["GET", "POST"])
@sensitive_variables()
def connection_list(request: Request) -> Response:
    if request.method == "GET":
        return Response([connection_json(one) for one in _connections(request)[:MOST_LISTED]])
    form = NewConnectionSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    values = dict(form.validated_data)
    slug = values.pop("team", None)
    team = Team.objects.filter(slug=slug, members=request.user.pk).first() if slug else None
    if slug and team is None:
        raise FieldErrors({"team": _("Choose one of the teams in which you are an editor.")})
    made = connections.create(owner=request.user, team=team, **values)
    return Response(connection_json(made), status=status.HTTP_201_CREATED)


@operation(
    "read_cloud_connection",
    summary="Have a worker read the project now: also the check of its credentials",
    tags=["cloud"],
    request=None,
    responses={202: ConnectionSerializer},
    errors=(404,),
)
@api_view(["POST"])
def connection_read(request: Request, public_id: str) -> Response:
    found = _usable(request, public_id)
    connections.ask_to_read(connection=found)
    found.refresh_from_db()
    return Response(connection_json(found), status=status.HTTP_202_ACCEPTED)


@operation(
    "get_cloud_machines",
    summary="Machines of Vertex AI with what is known of their prices in the connection's region",
    tags=["cloud"],
    responses={200: MachineSerializer(many=True)},
    errors=(404,),
)
@api_view(["GET"])
def machine_list(request: Request, public_id: str) -> Response:
    found = get_object_or_404(_connections(request), public_id=public_id)
    return Response([row.to_json() for row in machine_rows(found.region)])


@operation(
    "get_cloud_operations",
    summary="What workers did and do in the project, newest first",
    tags=["cloud"],
    responses={200: OperationSerializer(many=True)},
    errors=(404,),
)
@api_view(["GET"])
def operation_list(request: Request, public_id: str) -> Response:
    found = get_object_or_404(_connections(request), public_id=public_id)
    return Response([operation_json(one) for one in found.operations.all()[:MOST_LISTED]])


@operation(
    "get_cloud_deployments",
    methods=["GET"],
    summary="Deployments, newest first: state, lease, cost so far (estimated)",
    tags=["cloud"],
    responses={200: DeploymentSerializer(many=True)},
)
@operation(
    "deploy_to_cloud",
    methods=["POST"],
    summary="Deploy a model for the time of a lease; costs money from then until it is undeployed",
    description="`confirm` repeats the endpoint's name. 429 where a spending cap stands against it.",
    tags=["cloud"],
    request=NewDeploymentSerializer,
    responses={202: DeploymentSerializer},
    errors=(400, 404),
)
@api_view(["GET", "POST"])
def deployment_list(request: Request) -> Response:
    if request.method == "GET":
        seen = Deployment.objects.visible_to(request.user).select_related("connection", "owner", "endpoint")
        return Response([deployment_json(item) for item in shown(list(seen[:MOST_LISTED]))])
    form = NewDeploymentSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    values = dict(form.validated_data)
    connection, typed = _usable(request, values.pop("connection")), values.pop("confirm")
    if typed.strip() != values["name"]:
        raise FieldErrors({"confirm": _("Type the endpoint's name exactly: %s") % values["name"]})
    wish = deployments.make_wish(connection=connection, **values)
    made = deployments.deploy(user=request.user, wish=wish, typed=typed)
    return Response(_answer(made), status=status.HTTP_202_ACCEPTED)


@operation(
    "get_cloud_deployment",
    summary="One deployment",
    tags=["cloud"],
    responses={200: DeploymentSerializer},
    errors=(404,),
)
@api_view(["GET"])
def deployment(request: Request, public_id: str) -> Response:
    found = get_object_or_404(Deployment.objects.visible_to(request.user), public_id=public_id)
    return Response(_answer(found))


@operation(
    "extend_cloud_deployment",
    summary="Let the lease end so many hours from now",
    tags=["cloud"],
    request=ExtendSerializer,
    responses={200: DeploymentSerializer},
    errors=(400, 404),
)
@api_view(["POST"])
def deployment_extend(request: Request, public_id: str) -> Response:
    found = get_object_or_404(Deployment.objects.extendable_by(request.user), public_id=public_id)
    form = ExtendSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    deployments.extend(deployment=found, hours=form.validated_data["hours"])
    return Response(_answer(found))


@operation(
    "undeploy_from_cloud",
    summary="Undeploy it and delete its endpoint; once Google has ended deploying it, if it has not",
    tags=["cloud"],
    request=None,
    responses={202: DeploymentSerializer},
    errors=(404,),
)
@api_view(["POST"])
def deployment_stop(request: Request, public_id: str) -> Response:
    found = get_object_or_404(Deployment.objects.usable_by(request.user), public_id=public_id)
    deployments.stop(deployment=found, reason=Deployment.Stop.USER, by=request.user)
    return Response(_answer(found), status=status.HTTP_202_ACCEPTED)
