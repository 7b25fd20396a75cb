"""What users keep of an exploration: sweeps, devices with changed figures, and runs of the point."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from hardware.models import Hardware
from hardware.services import figures_of, save_private
from llmcompare.accounts.models import Team, User
from llmcompare.common.errors import WHOLE_FORM, FieldErrors
from llmcompare.common.saying import said
from llmcompare.explore import making
from llmcompare.explore.answers import ROW_HEADER, Exploration
from llmcompare.explore.asked import Place, Question
from llmcompare.explore.models import SavedSweep
from llmcompare.runs.models import Run
from llmcompare.runs.services import launch_run

#: Sweeps that one user may keep.
MAX_SWEEPS = 500


def save_sweep(
    *,
    owner: User,
    exploration: Exploration,
    query: str,
    name: str,
    visibility: str = SavedSweep.Visibility.PRIVATE,
    team: Team | None = None,
) -> SavedSweep:
    """Keep the answer as it is now, every point with it. The same answer under the same name is the first one. Raises :class:`FieldErrors`."""
    errors = {}
    name = " ".join(name.replace("\x00", "").split())  # PostgreSQL takes no NUL
    if not name or len(name) > 150:
        errors["name"] = gettext("Give the sweep a name of 1 to 150 characters.")
    if visibility not in SavedSweep.Visibility.values:
        errors["visibility"] = gettext("Choose who may see it.")
    if visibility == SavedSweep.Visibility.TEAM and (team is None or not owner.teams.filter(pk=team.pk).exists()):
        errors["team"] = gettext("Choose one of your teams.")
    if not exploration.answered:
        errors[WHOLE_FORM] = gettext("There is no answer to keep yet: its closed form is not there.")
    if errors:
        raise FieldErrors(errors)
    document = exploration.document() | {"header": list(ROW_HEADER), "rows": list(exploration.rows())}
    document = json.loads(json.dumps(document))  # as it comes back out of the row
    about = {
        "owner": owner,
        "name": name,
        "query": query,
        "visibility": visibility,
        "team": team if visibility == SavedSweep.Visibility.TEAM else None,
    }
    with transaction.atomic():
        # One at a time per user, or a click that came twice would make two.
        User.objects.select_for_update().get(pk=owner.pk)
        for same in SavedSweep.objects.editable_by(owner).filter(**about):
            if same.document == document:
                return same
        _check_room(owner)
        return SavedSweep.objects.create(**about, document=document)


def _check_room(owner: User) -> None:
    if SavedSweep.objects.editable_by(owner).count() >= MAX_SWEEPS:
        text = gettext("You keep %(max_sweeps)s sweeps already. Delete one first.")
        raise FieldErrors({WHOLE_FORM: text % {"max_sweeps": MAX_SWEEPS}})


def delete_sweep(*, sweep: SavedSweep) -> None:
    """Into the bin; :func:`restore_sweep` takes it out again."""
    SavedSweep.objects.filter(pk=sweep.pk, deleted_at=None).update(deleted_at=timezone.now())


@transaction.atomic
def restore_sweep(*, sweep: SavedSweep) -> None:
    """Raises :class:`FieldErrors` when others took its place meanwhile."""
    User.objects.select_for_update().get(pk=sweep.owner_id)
    _check_room(sweep.owner)
    SavedSweep.objects.filter(pk=sweep.pk).update(deleted_at=None)


def keep_device(*, owner: User, place: Place, question: Question) -> Hardware:
    """The place's datasheet with the factors of the question applied, as a private device of ``owner``. The same again is the first one.
    Raises :class:`FieldErrors`."""
    source, factors = place.hardware, question.factors
    if source is None:
        raise FieldErrors({"hardware": gettext("This host has not said yet what hardware it is.")})
    if not question.is_scaled:
        raise FieldErrors({"hardware": gettext("Nothing is changed: move a factor away from 1 first.")})
    words = [f"× {factor:g} {name}" for name, factor in factors.items() if factor != 1]
    values: dict[str, Any] = {f.name: getattr(source, f.name) for f in Hardware._meta.concrete_fields}
    for name in ("id", "slug", "created", "updated", "owner", "source"):
        values.pop(name)
    values |= {
        "name": f"{source.name[:80]} {', '.join(words)}"[:120],
        "memory_bytes": None if source.memory_bytes is None else round(source.memory_bytes * factors["memory"]),
        "memory_bandwidth": None if source.memory_bandwidth is None else source.memory_bandwidth * factors["bandwidth"],
        "peak_flops": {k: None if v is None else v * factors["flops"] for k, v in source.peak_flops.items()},
        "note": gettext_noop("From %(hardware)s in an exploration.") % {"hardware": source},
    }
    made = Hardware(**values)
    with transaction.atomic():
        # One at a time per user, or a click that came twice would make two.
        User.objects.select_for_update().get(pk=owner.pk)
        same = Hardware.objects.filter(owner=owner, name=made.name, kind=made.kind, note=made.note)
        if (first := next((row for row in same if figures_of(row) == figures_of(made)), None)) is not None:
            return first
        try:
            return save_private(owner=owner, hardware=made, before=figures_of(source))
        except ValidationError:
            text = gettext(
                "With these factors its figures are beyond what a device here can have. Move them closer to 1."
            )
            raise FieldErrors({"hardware": text}) from None


def ask_for_forms(*, user: User, exploration: Exploration) -> None:
    """Have every form made that the question misses, and those anew that other libraries made. Raises :class:`QuotaExceeded`."""
    for item in exploration.series:
        if item.model_spec is None or item.workload is None:
            continue
        if item.state == "missing":
            making.ask(user=user, model=item.model_spec, workload=item.workload, kernel_threads=item.threads)
        elif item.stale and item.form is not None:
            making.remake(user=user, form=item.form, model=item.model_spec, workload=item.workload)


def run_point(*, owner: User, exploration: Exploration, index: int, idempotency_key: str | None = None) -> Run:
    """A stored estimate of the asked point of one series; the same ``idempotency_key`` again is the first one. Raises :class:`FieldErrors`."""
    if exploration.question.is_scaled:
        raise FieldErrors(
            {WHOLE_FORM: gettext("A run needs a device that exists here: keep the changed device as yours first.")}
        )
    item = exploration.series[index]
    if item.workload is None:
        raise FieldErrors({name: said(text) for name, text in item.wrong.items()} or {WHOLE_FORM: said(item.problem)})
    return launch_run(
        owner=owner,
        kind=Run.Kind.ESTIMATE,
        model=item.model,
        hardware=None if item.place.host else item.place.hardware,
        host=item.place.host,
        workload=exploration.question.form.workload(),
        idempotency_key=idempotency_key,
    )
