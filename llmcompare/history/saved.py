"""Saved views of the list of runs: filters, order, columns and page size under a name, for oneself or for a team."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext

from llmcompare.accounts.models import Team, User
from llmcompare.common.errors import FieldErrors
from llmcompare.history.models import SavedView
from llmcompare.runs.filters import RunFilter

#: What of the address belongs to a view. The page does not: it is a place in the list, not a way to look at it.
PARAMETERS = (*RunFilter.base_filters, "columns", "size")
MAX_QUERY = 1000
VIEWS_OF_A_USER = 100


def normal_query(params: Mapping[str, str]) -> str:
    """The query of a view: known parameters that say something, in a fixed order."""
    return urlencode([(name, params[name]) for name in PARAMETERS if params.get(name)], safe=",")


def query_of(text: str) -> str:
    """:func:`normal_query` of the query of an address."""
    return normal_query(dict(parse_qsl(text.replace("\x00", "")[: 4 * MAX_QUERY])))


def save_view(*, owner: User, name: str, query: str, team: Team | None = None) -> SavedView:
    """Keep a view under ``name``; one of the owner's with that name is replaced. Raises :class:`FieldErrors`.

    ``team``: its members see the view, too; the owner must be an editor of it.
    """
    name, query = " ".join(name.replace("\x00", "").split()), query_of(query)
    errors = {}
    if not name:
        errors["name"] = gettext("Give the view a name.")
    elif len(name) > 60:
        errors["name"] = gettext("The name has %(count)s characters; 60 fit.") % {"count": len(name)}
    if len(query) > MAX_QUERY:
        errors["query"] = gettext("The filters of this view are too long to be kept.")
    if team is not None and not owner.membership_set.filter(team=team, role="editor").exists():
        errors["team"] = gettext("Choose a team in which you are an editor.")
    if errors:
        raise FieldErrors(errors)
    try:
        with transaction.atomic():
            view = SavedView.objects.kept().select_for_update().filter(owner=owner, name=name).first()
            if view is None:
                _check_room(owner.pk)
                return SavedView.objects.create(owner=owner, name=name, query=query, team=team)
            view.query, view.team = query, team
            view.save(update_fields=["query", "team"])
            return view
    except IntegrityError:
        raise FieldErrors({"name": gettext("A view of that name was saved at the same moment. Try again.")}) from None


def _check_room(owner_id: int, besides: int | None = None) -> None:
    """Raises :class:`FieldErrors` where a user keeps as many views as fit. Within a transaction: one at a time per user."""
    User.objects.select_for_update().get(pk=owner_id)
    if SavedView.objects.kept().filter(owner=owner_id).exclude(pk=besides).count() >= VIEWS_OF_A_USER:
        raise FieldErrors(
            {
                "name": gettext("You have %(views_of_a_user)s views, as many as fit. Delete one first.")
                % {"views_of_a_user": VIEWS_OF_A_USER}
            }
        )


def change_view(*, view: SavedView, query: str) -> None:
    """Let the view show what ``query`` shows; ``view`` is from ``editable_by``."""
    query = query_of(query)
    if len(query) > MAX_QUERY:
        raise FieldErrors({"query": gettext("The filters of this view are too long to be kept.")})
    SavedView.objects.filter(pk=view.pk).update(query=query)


def delete_view(*, view: SavedView) -> None:
    SavedView.objects.kept().filter(pk=view.pk).update(deleted_at=timezone.now())


def restore_view(*, view: SavedView) -> None:
    """Bring a deleted view back. Raises :class:`FieldErrors` when another one has its name by now, or its place."""
    try:
        with transaction.atomic():
            _check_room(view.owner_id, besides=view.pk)
            SavedView.objects.filter(pk=view.pk).update(deleted_at=None)
    except IntegrityError:
        raise FieldErrors(
            {"name": gettext("Another view is called “%(name)s” by now. Delete that one first.") % {"name": view.name}}
        ) from None
