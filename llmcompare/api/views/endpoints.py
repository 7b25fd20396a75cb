"""Endpoints: servers of models that runs send requests to. A key goes in and never comes out."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db import transaction
from django.shortcuts import get_object_or_404
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from hardware.models import Hardware
from llmcompare.accounts.models import Team
from llmcompare.api.pagination import Pages
from llmcompare.api.schema import operation, page_of
from llmcompare.api.serializers import Strict
from llmcompare.api.views.catalogue import PAGE
from llmcompare.api.views.runs import visible_named
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints import presentation, probing, services
from llmcompare.endpoints.checking import MAX_KEY
from llmcompare.endpoints.models import MAX_MODEL, Endpoint
from profiling.remote.addresses import MAX_URL


class EndpointSerializer(serializers.Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField(help_text="openai (a server of the OpenAI protocol) or vertex (a deployment)")
    url = serializers.CharField(allow_blank=True)
    model = serializers.CharField(allow_blank=True, help_text="its name at the server; empty: not chosen yet")
    api = serializers.CharField(allow_null=True, help_text="chat or completions; null: found out by looking")
    key_set = serializers.BooleanField(help_text="whether a key is stored; it is never returned")
    private = serializers.BooleanField(help_text="its address may be in a private network that is open for endpoints")
    visibility = serializers.CharField(help_text="private, team or public")
    team = serializers.CharField(allow_null=True)
    owner = serializers.CharField()
    hardware = serializers.CharField(allow_null=True, help_text="slug; what an estimate beside its runs goes by")
    language_model = serializers.CharField(allow_null=True, help_text="slug of the catalogue's model, likewise")
    state = serializers.CharField(
        help_text="ready, checking, no_model, unknown, failed, or key: it must be entered again"
    )
    streams = serializers.BooleanField(allow_null=True, help_text="null: not seen yet")
    usage = serializers.BooleanField(allow_null=True, help_text="whether it counts its tokens; null: not seen yet")
    problem = serializers.CharField(allow_blank=True)
    probed_at = serializers.DateTimeField(allow_null=True)
    created = serializers.DateTimeField()


class LookSerializer(serializers.Serializer):
    state = serializers.CharField(help_text="queued, running, done or failed")
    progress = serializers.FloatField(help_text="0 to 1")
    message = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    created = serializers.DateTimeField()
    finished = serializers.DateTimeField(allow_null=True)


class EndpointDetailSerializer(EndpointSerializer):
    look = LookSerializer(allow_null=True, help_text="the newest look at the server")
    probe = serializers.JSONField(
        allow_null=True,
        help_text="what the last look that ended found: models, routes, abilities; null before the first",
    )


class EndpointFields(Strict):
    """What can be written. Meaning is checked by the service."""

    name = serializers.CharField(max_length=150)
    url = serializers.CharField(max_length=MAX_URL, help_text="up to /v1")
    model = serializers.CharField(max_length=MAX_MODEL, allow_blank=True, required=False)
    api = serializers.ChoiceField(Endpoint.Api.values, allow_null=True, required=False, help_text="null: find out")
    key = serializers.CharField(
        max_length=MAX_KEY,
        allow_blank=True,
        required=False,
        write_only=True,
        style={"input_type": "password"},
        help_text="left out: the stored one stays; empty: none. Another scheme, host or port needs it anew",
    )
    private = serializers.BooleanField(required=False, help_text="staff only")
    visibility = serializers.ChoiceField(Endpoint.Visibility.values, required=False)
    team = serializers.CharField(
        max_length=100, allow_null=True, required=False, help_text="slug; with visibility team"
    )
    hardware = serializers.CharField(max_length=200, allow_null=True, required=False, help_text="slug")
    language_model = serializers.CharField(max_length=200, allow_null=True, required=False, help_text="slug")


def visible_endpoint(request: Request, public_id: str) -> Endpoint:
    """The endpoint, or 404."""
    found = Endpoint.objects.visible_to(request.user)
    return get_object_or_404(found.select_related("owner", "team", "hardware", "language_model"), public_id=public_id)


def editable_endpoint(request: Request, public_id: str) -> Endpoint:
    """The same for changes: 404 for what one may not see, 403 for what one may only use."""
    endpoint = visible_endpoint(request, public_id)
    if not Endpoint.objects.editable_by(request.user).filter(pk=endpoint.pk).exists():
        raise PermissionDenied("You may use this endpoint but not change it.")
    return endpoint


def _shown(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    probe = probing.newest(endpoint)
    body = presentation.to_json(endpoint, request.user, probe) | {"look": probe, "probe": endpoint.probe}
    return EndpointDetailSerializer(body).data


@sensitive_variables()
def _draft(request: Request, given: dict[str, Any], stored: Endpoint | None) -> services.Draft:
    """What the request says over what is stored."""
    named = {
        "hardware": (Hardware, "GET /api/v1/hardware/"),
        "language_model": (LanguageModel, "GET /api/v1/models/"),
    }
    values: dict[str, Any] = {}
    for name in ("name", "url", "model", "api", "private", "visibility", "team", *named):
        if name not in given:
            if stored is not None:
                values[name] = getattr(stored, name)
            continue
        value = given[name]
        if name in named:
            value = visible_named(named[name][0], request, name, value, named[name][1])
        elif name == "team" and value is not None:
            value = Team.objects.filter(members=request.user, slug=value).first()
            if value is None:
                raise FieldErrors({"team": "Choose a team that you are a member of."})
        values[name] = "" if value is None and name == "api" else value
    return services.Draft(**values, key=given.get("key"))


def _ask(endpoint: Endpoint, request: Request) -> None:
    """Have it looked at, unless the user has too many looks under way: what was saved is saved."""
    with contextlib.suppress(FieldErrors):
        probing.ask(endpoint=endpoint, user=request.user)


@operation(
    "get_endpoints",
    methods=["GET"],
    summary="List the endpoints that you may use",
    tags=["endpoints"],
    parameters=PAGE,
    responses={200: page_of(EndpointSerializer)},
    errors=(404,),
)
@operation(
    "add_endpoint",
    methods=["POST"],
    summary="Register a server of the OpenAI protocol; a worker looks at what it can do",
    description="Addresses in private networks are refused, but for staff in networks that are open for endpoints.",
    tags=["endpoints"],
    request=EndpointFields,
    responses={201: EndpointDetailSerializer},
    errors=(400,),
)
@api_view(["GET", "POST"])
@sensitive_variables()
def endpoints(request: Request) -> Response:
    if request.method == "POST":
        form = EndpointFields(data=request.data)
        form.is_valid(raise_exception=True)
        endpoint = services.create(owner=request.user, draft=_draft(request, form.validated_data, None))
        _ask(endpoint, request)
        return Response(_shown(endpoint, request), status=status.HTTP_201_CREATED)
    found = Endpoint.objects.visible_to(request.user).select_related("owner", "team", "hardware", "language_model")
    pages = Pages()
    page = pages.paginate_queryset(found, request)
    rows = list(presentation.several_json(page, request.user))
    return pages.get_paginated_response(EndpointSerializer(rows, many=True).data)


@operation(
    "get_endpoint",
    methods=["GET"],
    summary="One endpoint with what was seen of its server",
    tags=["endpoints"],
    responses={200: EndpointDetailSerializer},
    errors=(404,),
)
@operation(
    "change_endpoint",
    methods=["PATCH"],
    summary="Change an endpoint; what is left out stays",
    tags=["endpoints"],
    request=EndpointFields(partial=True),
    responses={200: EndpointDetailSerializer},
    errors=(400, 403, 404),
)
@operation(
    "delete_endpoint",
    methods=["DELETE"],
    summary="Put an endpoint into the bin; its runs stay",
    tags=["endpoints"],
    responses={204: None},
    errors=(400, 403, 404),
)
@api_view(["GET", "PATCH", "DELETE"])
@sensitive_variables()
def endpoint(request: Request, public_id: str) -> Response:
    if request.method == "GET":
        return Response(_shown(visible_endpoint(request, public_id), request))
    found = editable_endpoint(request, public_id)
    if request.method == "DELETE":
        services.delete(endpoint=found)
        return Response(status=status.HTTP_204_NO_CONTENT)
    form = EndpointFields(data=request.data, partial=True)
    form.is_valid(raise_exception=True)
    with transaction.atomic():
        # What is left out stays as it is now, not as it was read: another request may have changed it meanwhile.
        found = Endpoint.objects.select_for_update().get(pk=found.pk)
        changed = services.update(endpoint=found, by=request.user, draft=_draft(request, form.validated_data, found))
    if changed:
        _ask(found, request)
    return Response(_shown(visible_endpoint(request, public_id), request))


@operation(
    "probe_endpoint",
    summary="Have a worker look at the server again; read the endpoint to see how far it is",
    tags=["endpoints"],
    request=None,
    responses={202: EndpointDetailSerializer},
    errors=(400, 403, 404),
)
@api_view(["POST"])
def probe(request: Request, public_id: str) -> Response:
    found = editable_endpoint(request, public_id)
    probing.ask(endpoint=found, user=request.user)
    return Response(_shown(found, request), status=status.HTTP_202_ACCEPTED)
