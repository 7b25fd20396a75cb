"""Models of the Hub in the portal: added by id, their weights fetched by a worker. Everything on the network is ``profiling.hub``'s matter.

The row says how a download stands: ``preparing`` (a worker fetches it, or will), ``local``, ``failed``; taking it back to ``random`` cancels
it. What was fetched stays on the disk and is gone on with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext

from llmcompare.catalog import services
from llmcompare.catalog.catalogue import config_digest, context_of
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.engine_texts import stored
from llmcompare.common.errors import FieldErrors
from profiling import hub as engine
from profiling.client import EngineError
from profiling.quantities import say
from profiling.spec import SpecError

ROOT = settings.DATA_DIR / "hub"
LOOK_TIMEOUT_S = 60
#: Seconds between looks at the row, and writes of the progress to it, while its weights are fetched.
LOOK_S = 1.0

Weights, Source = LanguageModel.Weights, LanguageModel.Source


def add_model(*, text: str) -> LanguageModel:
    """The model of ``organisation/name[@revision]`` at the commit that this is now, for everybody here; made once for each commit.

    Raises :class:`FieldErrors` at ``hub``.
    """
    try:
        repo, revision = engine.parse(text)
        look = engine.ask("hub_look", repo=repo, revision=revision, timeout_s=LOOK_TIMEOUT_S)
    except (SpecError, EngineError) as error:
        raise FieldErrors({"hub": str(error)}) from None
    slug = f"{slugify(repo.replace('/', '-').replace('.', '-'))[:80]}-{look['commit'][:12]}"
    known = LanguageModel.objects.filter(slug=slug, source=Source.HUB).first()
    if known is not None:
        return known
    config, architecture = look["config"], look["architecture"]
    model = LanguageModel(
        slug=slug,
        name=look["name"][: services.MAX_NAME],
        hf_id=repo,
        kind=services.guess_kind(config, architecture),
        model_type=config["model_type"],
        architecture=architecture,
        config=config,
        config_sha256=config_digest(config, architecture),
        max_context=context_of(config),
        weights_note=note_of(look),
        source=Source.HUB,
        hub=look,
    )
    try:
        facts = services.facts_or_refusal(model.to_spec())
    except FieldErrors as error:
        raise FieldErrors({"hub": " ".join(error.errors.values())}) from None
    if facts is not None:
        services.apply_facts(model, facts)
    try:
        with transaction.atomic():
            model.save()
    except IntegrityError:
        # Asked for twice at once: the first one is the model.
        return LanguageModel.objects.get(slug=slug, source=Source.HUB)
    return model


def note_of(look: dict[str, Any]) -> str:
    return stored("Hub, commit {commit}").format(commit=look["commit"])


def ask_for_weights(*, model: LanguageModel) -> None:
    """Have a worker fetch the weights. Raises :class:`FieldErrors` at ``hub`` when they cannot be used, or are too large for here."""
    look = model.hub or {}
    if model.source != Source.HUB or not engine.is_on():
        raise FieldErrors({"hub": engine.OFF})
    if look["problem"]:
        raise FieldErrors({"hub": look["problem"]})
    if look["bytes"] > engine.max_bytes():
        text = gettext("It has %(bytes)s, and at most %(max_bytes)s are downloaded here.") % {
            "bytes": say(look["bytes"], "B"),
            "max_bytes": say(engine.max_bytes(), "B"),
        }
        raise FieldErrors({"hub": text})
    waiting = LanguageModel.objects.filter(pk=model.pk, weights__in=(Weights.RANDOM, Weights.FAILED))
    waiting.update(weights=Weights.PREPARING, weights_note=stored("waits for a worker"), updated=timezone.now())


def cancel(*, model: LanguageModel) -> None:
    """Stop a download within about a second; what is there is used again."""
    fetched = LanguageModel.objects.filter(pk=model.pk, source=Source.HUB, weights=Weights.PREPARING)
    fetched.update(weights=Weights.RANDOM, weights_note=note_of(model.hub or {}), updated=timezone.now())


def wanted() -> LanguageModel | None:
    """A model whose weights are to be fetched, the one that waits longest."""
    return LanguageModel.objects.filter(source=Source.HUB, weights=Weights.PREPARING).order_by("updated", "pk").first()


def fetch(*, model: LanguageModel, should_stop: Callable[[], bool]) -> None:
    """Fetch the weights of ``model`` in this worker and write to its row how that went. Progress is its note meanwhile."""
    look, row = model.hub or {}, LanguageModel.objects.filter(pk=model.pk, weights=Weights.PREPARING)
    target = ROOT / look["repo"].replace("/", "--") / look["commit"]
    looked = {"at": 0.0, "gone": False}

    def progress(stage: str, fraction: float, message: str) -> None:
        if not looked["gone"] and stage == "download" and time.monotonic() - looked["at"] >= LOOK_S:
            looked["at"] = time.monotonic()
            looked["gone"] = not row.update(weights_note=message[:200])

    def stop() -> bool:
        if not looked["gone"] and time.monotonic() - looked["at"] >= LOOK_S:
            looked["at"] = time.monotonic()
            looked["gone"] = not row.exists()
        return should_stop() or bool(looked["gone"])

    try:
        marker = engine.ask("hub_download", look=look, target=str(target), on_progress=progress, should_stop=stop)
    except EngineError as error:
        if error.kind != "cancelled":
            note = stored("real weights could not be fetched: {message}").format(message=error.message)[:200]
            row.update(weights=Weights.FAILED, weights_note=note, updated=timezone.now())
        return
    place = {"weights_path": str(Path(target).resolve()), "weights_digest": marker["digest"]}
    row.update(weights=Weights.LOCAL, weights_note=note_of(look), updated=timezone.now(), **place)
