"""Everything that writes about history: marks at runs. Callers pass runs that they fetched through ``editable_by``."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from llmcompare.accounts.models import User
from llmcompare.common.errors import FieldErrors
from llmcompare.history.models import Mark
from llmcompare.runs.models import Run

MAX_TEXT = 500
MARKS_OF_A_RUN = 20


def add_mark(*, run: Run, by: User, kind: str, text: str) -> Mark:
    """Say that a change at ``run`` is expected, or annotate it. Raises :class:`FieldErrors`.

    A run begins at most one expected change: marking it again replaces the words.
    """
    text = text.replace("\x00", "").strip()
    errors = {}
    if kind not in Mark.Kind.values:
        errors["kind"] = gettext("Choose one of %(choices)s.") % {"choices": ", ".join(Mark.Kind.values)}
    if not text:
        errors["text"] = gettext("Say why: whoever looks at this later wants to know.")
    elif len(text) > MAX_TEXT:
        errors["text"] = gettext("The text has %(count)s characters; %(max_text)s fit.") % {
            "count": len(text),
            "max_text": MAX_TEXT,
        }
    if errors:
        raise FieldErrors(errors)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        _make_room(run.pk, kind)
        return Mark.objects.create(run=run, by=by, kind=kind, text=text)


def _make_room(run_id: int, kind: str) -> None:
    """Take the place of another expected change; raises :class:`FieldErrors` where no more marks fit."""
    kept = Mark.objects.kept().filter(run=run_id)
    replaced = kept.filter(kind=kind).count() if kind == Mark.Kind.EXPECTED else 0
    if kept.count() - replaced >= MARKS_OF_A_RUN:
        raise FieldErrors(
            {
                "text": gettext("This run has %(marks_of_a_run)s marks, as many as fit. Remove one first.")
                % {"marks_of_a_run": MARKS_OF_A_RUN}
            }
        )
    if replaced:
        kept.filter(kind=kind).update(deleted_at=timezone.now())


def remove_mark(*, mark: Mark) -> None:
    """Take a mark away; :func:`restore_mark` brings it back."""
    Mark.objects.kept().filter(pk=mark.pk).update(deleted_at=timezone.now())


def restore_mark(*, mark: Mark) -> None:
    """Put a removed mark back, in place of another expected change that was marked meanwhile. Raises :class:`FieldErrors` where no more
    marks fit."""
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=mark.run_id)
        if Mark.objects.kept().filter(pk=mark.pk).exists():
            return
        _make_room(mark.run_id, mark.kind)
        Mark.objects.filter(pk=mark.pk).update(deleted_at=None)
