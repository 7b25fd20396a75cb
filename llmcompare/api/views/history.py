"""The history of repeated runs: the list of series, and one series with its figures, bands and steps."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.api.schema import operation
from llmcompare.history import asking, exports
from llmcompare.history.reading import LIST_METRICS

WHOSE = OpenApiParameter("whose", str, enum=["mine", "team", "public"], description="only the runs of these people")


@operation(
    "get_history",
    summary="Series of repeated runs, each with its newest figure against what is usual",
    description="At most the 500 series that ran last; `total` says how many there are. The same as /history.json.",
    tags=["history"],
    parameters=[
        OpenApiParameter("kind", str, enum=["measure", "estimate", "endpoint"], description="measurements by default"),
        OpenApiParameter("metric", str, enum=list(LIST_METRICS), description="the figure; e2e by default"),
        OpenApiParameter("show", str, enum=["outside"], description="only series whose newest run is not as usual"),
        OpenApiParameter("q", str, description="words in title, model or hardware"),
        OpenApiParameter("model", str, description="slug"),
        OpenApiParameter("hardware", str, description="slug"),
        OpenApiParameter("dtype", str),
        OpenApiParameter("tag", str, description="exactly; several with commas: all of them"),
        WHOSE,
    ],
    responses={200: OpenApiTypes.OBJECT},
)
@api_view(["GET"])
def history(request: Request) -> Response:
    return Response(asking.exported_list(request))


@operation(
    "get_series",
    summary="One series: every figure of its runs with look-back bands, steps, versions and marks",
    tags=["history"],
    parameters=[
        OpenApiParameter("lookback", int, enum=list(asking.LOOKBACKS), description="runs of a band; 20 by default"),
        WHOSE,
    ],
    responses={200: OpenApiTypes.OBJECT},
    errors=(404,),
)
@api_view(["GET"])
def series(request: Request, key: str) -> Response:
    return Response(exports.series_object(*asking.series_or_404(request, key)))
