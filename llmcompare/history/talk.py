"""What people write on a run: its notes (one text, of those who may change the run) and comments (of everybody who sees it).

Callers pass runs from ``visible_to`` (comments) or ``editable_by`` (notes), and comments from :func:`own_comments`.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext

from llmcompare.accounts.models import User
from llmcompare.common.errors import FieldErrors
from llmcompare.history.models import Comment, NotesEdit
from llmcompare.runs.models import Run

MAX_COMMENT = 5_000
MAX_NOTES = 20_000
COMMENTS_OF_A_RUN = 500
#: Former notes that are kept for a run.
NOTES_KEPT = 20


def own_comments(user: User) -> QuerySet[Comment]:
    """Comments that the user wrote on runs that they still see, deleted ones included."""
    return Comment.objects.filter(by=user, run__in=Run.objects.visible_to(user)).select_related("run")


def _checked(text: str, most: int, field: str) -> str:
    text = text.replace("\x00", "").replace("\r\n", "\n").strip()
    if len(text) > most:
        raise FieldErrors(
            {
                field: gettext("The text has %(count)s characters; %(most)s fit.")
                % {"count": f"{len(text):,}", "most": f"{most:,}"}
            }
        )
    return text


def add_comment(*, run: Run, by: User, text: str) -> Comment:
    """Raises :class:`FieldErrors` for a text that is empty or too long."""
    text = _checked(text, MAX_COMMENT, "comment")
    if not text:
        raise FieldErrors({"comment": gettext("Write something first.")})
    with transaction.atomic():
        _check_room(run.pk)
        return Comment.objects.create(run=run, by=by, text=text)


def _check_room(run_id: int, besides: int | None = None) -> None:
    """Raises :class:`FieldErrors` where no more comments fit. Within a transaction: one at a time per run."""
    Run.objects.select_for_update().get(pk=run_id)
    if Comment.objects.kept().filter(run=run_id).exclude(pk=besides).count() >= COMMENTS_OF_A_RUN:
        raise FieldErrors(
            {
                "comment": gettext("This run has %(comments_of_a_run)s comments, as many as fit.")
                % {"comments_of_a_run": COMMENTS_OF_A_RUN}
            }
        )


def edit_comment(*, comment: Comment, text: str) -> None:
    """Replace the text; the one before is kept for :func:`undo_edit`."""
    text = _checked(text, MAX_COMMENT, "comment")
    if not text:
        raise FieldErrors({"comment": gettext("A comment cannot be empty. Delete it instead; that can be undone.")})
    # What it is now, not what it was when the page was made: another edit may have come in between.
    Comment.objects.filter(pk=comment.pk).exclude(text=text).update(
        text=text, before=F("text"), edited_at=timezone.now()
    )


def undo_edit(*, comment: Comment) -> None:
    """Back to the text before the last edit."""
    edited = Comment.objects.filter(pk=comment.pk, before__isnull=False)
    edited.update(text=F("before"), before=None, edited_at=None)


def delete_comment(*, comment: Comment) -> None:
    Comment.objects.kept().filter(pk=comment.pk).update(deleted_at=timezone.now())


def restore_comment(*, comment: Comment) -> None:
    """Raises :class:`FieldErrors` when others took its place meanwhile."""
    with transaction.atomic():
        _check_room(comment.run_id, besides=comment.pk)
        Comment.objects.filter(pk=comment.pk).update(deleted_at=None)


def write_notes(*, run: Run, by: User, text: str) -> None:
    """Replace the notes of a run; what they were is kept for :func:`undo_notes`."""
    text = _checked(text, MAX_NOTES, "notes")
    with transaction.atomic():
        before = Run.objects.select_for_update().get(pk=run.pk).notes
        if before == text:
            return
        NotesEdit.objects.create(run=run, by=by, before=before)
        Run.objects.filter(pk=run.pk).update(notes=text)
        old = NotesEdit.objects.filter(run=run).values_list("pk", flat=True)[NOTES_KEPT:]
        NotesEdit.objects.filter(pk__in=list(old)).delete()


def undo_notes(*, run: Run) -> bool:
    """Take the last change of the notes back; false when there is none."""
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        last = NotesEdit.objects.filter(run=run).first()
        if last is None:
            return False
        Run.objects.filter(pk=run.pk).update(notes=last.before)
        last.delete()
    return True
