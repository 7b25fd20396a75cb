"""Models, hardware and hosts: what a run can be made of."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Q
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from hardware.models import Hardware, Host
from llmcompare.api.hardware_serializers import HardwareDetailSerializer, HardwareSerializer, HostSerializer
from llmcompare.api.pagination import Pages
from llmcompare.api.schema import operation, page_of
from llmcompare.api.serializers import ModelDetailSerializer, ModelSerializer, ModelUploadSerializer
from llmcompare.catalog.models import LanguageModel
from llmcompare.catalog.services import upload_model
from llmcompare.common.errors import FieldErrors

PAGE = [
    OpenApiParameter("page", int, description="from 1"),
    OpenApiParameter("page_size", int, description="up to 500; 50 by default"),
]
SEARCH = OpenApiParameter("q", str, description="part of the name")


def paged(queryset, serializer, request: Request) -> Response:
    pages = Pages()
    return pages.get_paginated_response(serializer(pages.paginate_queryset(queryset, request), many=True).data)


@operation(
    "get_available_models",
    methods=["GET"],
    summary="List the models that runs can be made of",
    tags=["models"],
    parameters=[*PAGE, SEARCH],
    responses={200: page_of(ModelSerializer)},
    errors=(404,),
)
@operation(
    "upload_model",
    methods=["POST"],
    summary="Add a private model by its config.json",
    tags=["models"],
    request=ModelUploadSerializer,
    responses={201: ModelDetailSerializer},
    errors=(400,),
)
@api_view(["GET", "POST"])
def models(request: Request) -> Response:
    if request.method == "POST":
        form = ModelUploadSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.CONFIG_UPLOAD_BYTES:
            raise FieldErrors({"config": f"A config.json may have up to {settings.CONFIG_UPLOAD_BYTES} bytes."})
        model = upload_model(owner=request.user, **form.validated_data)
        return Response(ModelDetailSerializer(model).data, status=status.HTTP_201_CREATED)
    asked = request.query_params.get("q", "").replace("\x00", "")
    found = LanguageModel.objects.visible_to(request.user)
    return paged(found.filter(Q(name__icontains=asked) | Q(hf_id__icontains=asked)), ModelSerializer, request)


@operation(
    "get_model",
    summary="One model with its configuration",
    tags=["models"],
    responses={200: ModelDetailSerializer},
    errors=(404,),
)
@api_view(["GET"])
def model(request: Request, slug: str) -> Response:
    return Response(
        ModelDetailSerializer(get_object_or_404(LanguageModel.objects.visible_to(request.user), slug=slug)).data
    )


@operation(
    "get_hardware_configurations",
    summary="List the hardware that estimates can be made for",
    tags=["hardware"],
    parameters=[*PAGE, SEARCH],
    responses={200: page_of(HardwareSerializer)},
    errors=(404,),
)
@api_view(["GET"])
def hardware_list(request: Request) -> Response:
    asked = request.query_params.get("q", "").replace("\x00", "")
    found = Hardware.objects.visible_to(request.user)
    return paged(found.filter(Q(name__icontains=asked) | Q(vendor__icontains=asked)), HardwareSerializer, request)


@operation(
    "get_hardware",
    summary="One hardware entry with the confidence of each figure",
    tags=["hardware"],
    responses={200: HardwareDetailSerializer},
    errors=(404,),
)
@api_view(["GET"])
def hardware(request: Request, slug: str) -> Response:
    return Response(
        HardwareDetailSerializer(get_object_or_404(Hardware.objects.visible_to(request.user), slug=slug)).data
    )


@operation(
    "get_hosts",
    summary="List the machines that measurements can run on",
    tags=["hardware"],
    parameters=PAGE,
    responses={200: page_of(HostSerializer)},
    errors=(404,),
)
@api_view(["GET"])
def hosts(request: Request) -> Response:
    online = set(Host.objects.online().values_list("pk", flat=True))
    pages = Pages()
    page = pages.paginate_queryset(Host.objects.select_related("hardware"), request)
    for host in page:
        host.online = host.pk in online
    return pages.get_paginated_response(HostSerializer(page, many=True).data)
