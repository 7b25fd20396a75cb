"""Registered folders: what lies under them, and taking a model from there; models of the Hub."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from rest_framework import serializers, status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from llmcompare.api.schema import operation
from llmcompare.api.serializers import ModelDetailSerializer, Strict
from llmcompare.catalog import folders, hub
from llmcompare.catalog.models import Folder


class FoundSerializer(serializers.Serializer):
    path = serializers.CharField(help_text="from the folder; names the model in POST")
    name = serializers.CharField()
    format = serializers.CharField(help_text="safetensors or gguf")
    bytes = serializers.IntegerField(help_text="of the weights; 0: unknown")
    files = serializers.IntegerField()
    stored = serializers.CharField(allow_blank=True, help_text="formats of the stored weights")
    digest = serializers.CharField(allow_blank=True)
    covers = serializers.CharField(help_text="what the digest stands for")
    problem = serializers.CharField(allow_blank=True, help_text="why it cannot be used; empty where it can")


class FolderSerializer(serializers.Serializer):
    slug = serializers.CharField(source="folder.slug")
    name = serializers.CharField(source="folder.name")
    holds = serializers.CharField(source="folder.holds", help_text="models or prompts")
    problem = serializers.CharField(allow_blank=True, help_text="why it cannot be looked at")
    models = FoundSerializer(source="found.models", many=True)
    prompt_files = serializers.SerializerMethodField(help_text="path → bytes")
    cut = serializers.BooleanField(source="found.cut", help_text="true: there is more than was looked at")

    def get_prompt_files(self, content: folders.Content) -> dict[str, int]:
        return dict(content.found.prompts)


class UseSerializer(Strict):
    path = serializers.CharField(max_length=400, help_text="as listed")


@operation(
    "get_folders",
    summary="Registered folders of the server with the models and prompt files under them",
    tags=["models"],
    responses={200: FolderSerializer(many=True)},
)
@api_view(["GET"])
def folder_list(request: Request) -> Response:
    return Response(FolderSerializer(folders.contents(), many=True).data)


@operation(
    "use_folder_model",
    summary="Make a model of what lies in a registered folder, for everybody here; made once",
    tags=["models"],
    request=UseSerializer,
    responses={200: ModelDetailSerializer},
    errors=(400, 404),
)
@api_view(["POST"])
def use(request: Request, slug: str) -> Response:
    folder = get_object_or_404(Folder, slug=slug, active=True)
    form = UseSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    model = folders.use_model(folder=folder, path=form.validated_data["path"])
    return Response(ModelDetailSerializer(model).data, status=status.HTTP_200_OK)


class HubSerializer(Strict):
    hub = serializers.CharField(
        max_length=400, help_text="organisation/name, or organisation/name@revision: a commit, a branch or a tag"
    )


@operation(
    "add_hub_model",
    summary="Add a model of the Hub at the commit of a revision, for everybody here; made once for each commit",
    description="Fetches the configuration only; needs LLMCOMPARE_HUB=on.",
    tags=["models"],
    request=HubSerializer,
    responses={200: ModelDetailSerializer},
    errors=(400,),
)
@api_view(["POST"])
def add_from_hub(request: Request) -> Response:
    form = HubSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    return Response(ModelDetailSerializer(hub.add_model(text=form.validated_data["hub"])).data)
