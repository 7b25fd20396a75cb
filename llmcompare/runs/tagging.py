"""Tags: words on runs by which lists are narrowed. Lower case, without commas, up to 40 characters."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.utils.translation import gettext

from llmcompare.accounts.models import User
from llmcompare.common.errors import FieldErrors
from llmcompare.runs.models import Run, RunTag

MAX_LENGTH = 40
TAGS_OF_A_RUN = 20


def tag_names(text: str) -> list[str]:
    """The tags in a text that separates them by commas, as they are stored, each once."""
    parts = (" ".join(part.replace("\x00", "").split()).casefold() for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def add_tags(*, runs: Sequence[Run], by: User, text: str) -> list[str]:
    """Put the tags of ``text`` on every one of ``runs`` (from ``editable_by``); a run keeps those that it has. Returns their names.

    Raises :class:`FieldErrors`; then no run has changed.
    """
    names = tag_names(text)
    too_long = [name for name in names if len(name) > MAX_LENGTH]
    if not names:
        raise FieldErrors({"tags": gettext("Enter a tag, or several with commas between them.")})
    if too_long:
        raise FieldErrors(
            {
                "tags": gettext("A tag has at most %(max_length)s characters; “%(too_long)s” is longer.")
                % {"max_length": MAX_LENGTH, "too_long": too_long[0][:60]}
            }
        )
    with transaction.atomic():
        locked = Run.objects.select_for_update().filter(pk__in=[run.pk for run in runs])
        present: dict[int, set[str]] = {run.pk: set() for run in locked}
        for run_id, name in RunTag.objects.filter(run__in=present).values_list("run", "name"):
            present[run_id].add(name)
        full = [pk for pk, has in present.items() if len(has | set(names)) > TAGS_OF_A_RUN]
        if full:
            raise FieldErrors(
                {
                    "tags": gettext("A run has at most %(tags_of_a_run)s tags. Remove some first.")
                    % {"tags_of_a_run": TAGS_OF_A_RUN}
                }
            )
        RunTag.objects.bulk_create(
            RunTag(run_id=pk, name=name, by=by) for pk, has in present.items() for name in names if name not in has
        )
    return names


def remove_tags(*, runs: Sequence[Run], text: str) -> int:
    """Take the tags of ``text`` off ``runs`` (from ``editable_by``); returns how many were taken off."""
    names = tag_names(text)
    return RunTag.objects.filter(run__in=[run.pk for run in runs], name__in=names).delete()[0]
