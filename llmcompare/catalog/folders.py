"""Registered folders: what lies under them, and making a model of it. Reading is ``profiling.folders``' matter."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.text import slugify
from django.utils.translation import gettext

from llmcompare.catalog import services
from llmcompare.catalog.catalogue import config_digest, context_of
from llmcompare.catalog.models import Folder, LanguageModel
from llmcompare.common.errors import FieldErrors
from profiling import folders as engine
from profiling.client import EngineError, warm_child
from profiling.prompts import read_file
from profiling.spec import SpecError

EXPORT_HEADER = ("folder", "path", "name", "format", "bytes", "files", "stored", "usable", "problem", "digest", "model")


@dataclass(frozen=True)
class Content:
    """An active folder with what lies under it; ``problem``: why it cannot be looked at. ``known``: path → model made of it."""

    folder: Folder
    found: engine.Listing
    known: dict[str, LanguageModel]
    problem: str = ""

    def models(self) -> list[tuple[engine.Found, LanguageModel | None]]:
        return [(one, self.known.get(one.path)) for one in self.found.models]


def contents() -> list[Content]:
    """Every active folder with its content, looked at now."""
    return [content_of(folder) for folder in Folder.objects.filter(active=True)]


def content_of(folder: Folder) -> Content:
    try:
        root = _root(folder)
    except SpecError as error:
        return Content(folder, engine.Listing(), {}, str(error))
    holds_models = folder.holds == Folder.Holds.MODELS
    found = engine.listing(root, models=holds_models, prompts=not holds_models)
    known = {model.folder_path: model for model in folder.taken.defer("config", "facts")}
    return Content(folder, found, known)


def export_rows(shown: Iterable[Content]) -> list[list[Any]]:
    """One row a model below :data:`EXPORT_HEADER`; where the folder lies on the server is not said."""
    rows = []
    for content in shown:
        for one, model in content.models():
            usable, slug = not one.problem, model.slug if model else None
            about = [one.name, one.format, one.bytes or None, one.files or None, one.stored]
            rows.append([content.folder.slug, one.path, *about, usable, one.problem, one.digest, slug])
    return rows


def use_model(*, folder: Folder, path: str) -> LanguageModel:
    """The model of what lies at ``path`` under ``folder``, for everybody here. Made once; its files are looked at anew every time.

    Raises :class:`FieldErrors` at ``path`` with why it cannot be used.
    """
    if not folder.active or folder.holds != Folder.Holds.MODELS:
        raise FieldErrors({"path": gettext("No models are taken from this folder.")})
    try:
        root = _root(folder)
        found = engine.used(root, engine.inside(root, path))
        real = engine.inside(root, found.path)
    except SpecError as error:
        raise FieldErrors({"path": str(error)}) from None
    if len(str(real)) > 500 or len(found.path) > 400:
        raise FieldErrors({"path": gettext("Its path is too long to be kept.")})
    model = LanguageModel.objects.filter(folder=folder, folder_path=found.path).first()
    if model is not None and model.weights_digest == found.digest:
        return model
    model = _described(model or _new(folder, found), _complete(found, real), real)
    facts = _facts(model)
    if facts is not None:
        services.apply_facts(model, facts)
    try:
        with transaction.atomic():
            model.save()
    except IntegrityError:
        # Asked for twice at once: the first one is the model.
        return LanguageModel.objects.get(folder=folder, folder_path=found.path)
    return model


def prompt_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Prompt files of active folders in groups: (folder, [(slug:path, path)])."""
    groups = []
    for folder in Folder.objects.filter(active=True, holds=Folder.Holds.PROMPTS):
        found = content_of(folder).found.prompts
        if found:
            groups.append((folder.name, [(f"{folder.slug}:{path}", path) for path, _ in found]))
    return groups


def prompts_of(chosen: str, at: str) -> list[str]:
    """The prompts of a file as :func:`prompt_choices` names it, read now. Raises :class:`SpecError` at ``at``."""
    slug, _, path = chosen.partition(":")
    folder = Folder.objects.filter(active=True, holds=Folder.Holds.PROMPTS, slug=slug).first()
    if folder is None:
        raise SpecError(at, gettext("There is no such file any more. Choose another one."))
    try:
        root = _root(folder)
    except SpecError as error:
        raise SpecError(at, str(error)) from None
    return read_file(engine.inside(root, path, at), at)


def problem_of(model: LanguageModel) -> str:
    """Why a model of a folder cannot be run now, empty where it can (or is of no folder)."""
    if model.folder is None:
        return ""
    if not model.folder.active:
        return gettext("%(name)s lies in a folder that is not used any more. Choose another model.") % {
            "name": model.name
        }
    try:
        root = _root(model.folder)
        found = engine.used(root, Path(model.weights_path))
    except SpecError as error:
        return str(error)
    if found.digest != model.weights_digest:
        return gettext(
            "The files of %(name)s have changed since it was taken from its folder. Take it from there again (Models, Folders)."
        ) % {"name": model.name}
    return ""


def is_active(root: str) -> bool:
    """Whether an active folder has this real path, or it holds what came from the Hub: asked again when a run begins."""
    if root == str(settings.DATA_DIR / "hub"):
        return True
    return Folder.objects.filter(active=True, holds=Folder.Holds.MODELS, path=root).exists()


def _root(folder: Folder) -> Path:
    """The real path, which must still be the one that was registered: it could have been replaced by a link."""
    real = engine.real_root(folder.path)
    if str(real) != folder.path:
        raise SpecError(
            "path",
            gettext("The folder was replaced by a link to another one. An administrator has to register it anew."),
        )
    return real


def _complete(found: engine.Found, real: Path) -> engine.Found:
    """What was found with its configuration: that of a GGUF file is read by the engine."""
    if found.format != "gguf":
        return found
    try:
        said = warm_child().request("gguf", {"source": str(real)}, timeout_s=services.INSPECT_TIMEOUT_S)
    except EngineError as error:
        raise FieldErrors({"path": error.message}) from None
    return replace(found, config=said["config"], stored=said["stored"])


def _new(folder: Folder, found: engine.Found) -> LanguageModel:
    slug = f"{slugify(found.name)[:80]}-{secrets.token_hex(4)}".lstrip("-")
    return LanguageModel(slug=slug, source=LanguageModel.Source.FOLDER, folder=folder, folder_path=found.path)


def _described(model: LanguageModel, found: engine.Found, real: Path) -> LanguageModel:
    config = found.config or {}
    model.name, model.config = found.name[: services.MAX_NAME], config
    model.architecture, model.model_type = config["architectures"][0], config["model_type"]
    model.kind = services.guess_kind(config, model.architecture)
    model.config_sha256, model.facts = config_digest(config, model.architecture), None
    model.max_context = context_of(config)
    model.weights, model.weights_path = LanguageModel.Weights.LOCAL, str(real)
    model.weights_note = engine.gguf_note(found.stored) if found.format == "gguf" else ""
    model.weights_digest = found.digest
    return model


def _facts(model: LanguageModel) -> dict[str, Any] | None:
    try:
        return services.facts_or_refusal(model.to_spec())
    except FieldErrors as error:
        raise FieldErrors({"path": " ".join(error.errors.values())}) from None
