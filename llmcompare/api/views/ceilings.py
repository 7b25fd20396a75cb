"""The ceilings of a host: rates that plain kernels reached on it, and asking for new ones."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from hardware import measurements
from hardware.models import Host
from llmcompare.api.errors import Refused
from llmcompare.api.hardware_serializers import AskCeilingsSerializer, HostCeilingsSerializer
from llmcompare.api.schema import operation


@operation(
    "get_host_ceilings",
    methods=["GET"],
    summary="The rates measured on a host, and how its newest measurement of them went",
    tags=["hardware"],
    responses={200: HostCeilingsSerializer},
    errors=(404,),
)
@operation(
    "measure_host_ceilings",
    methods=["POST"],
    summary="Have the ceilings of a host measured anew (staff, or with the permission); 200 when that is under way already",
    tags=["hardware"],
    request=AskCeilingsSerializer,
    responses={200: HostCeilingsSerializer, 202: HostCeilingsSerializer},
    errors=(400, 403, 404, 409),
)
@api_view(["GET", "POST"])
def ceilings(request: Request, slug: str) -> Response:
    host = get_object_or_404(Host, slug=slug)
    code = status.HTTP_200_OK
    if request.method == "POST":
        if not Host.objects.measurable_by(request.user).filter(pk=host.pk).exists():
            raise Refused(403, "forbidden", "Only staff may have the ceilings of a host measured.")
        asked = AskCeilingsSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            _, new = measurements.ask(host=host, user=request.user, quick=asked.validated_data["quick"])
        except ValueError as error:
            raise Refused(409, "cannot_measure", str(error)) from None
        code = status.HTTP_202_ACCEPTED if new else status.HTTP_200_OK
    body = {
        "host": host.slug,
        "state": host.ceilings_state,
        "measurement": host.ceiling_measurements.select_related("asked_by").first(),
        "rows": host.ceilings.all(),
    }
    return Response(HostCeilingsSerializer(body).data, status=code)
