"""Which place an endpoint is: the number of its address among those that it has had, which says nothing of the address itself.

Runs keep the number, so that figures of two servers never become one history, and a run never goes to another server than the one that it
was asked of. An address that the endpoint had before has its number again.
"""

from __future__ import annotations

import hashlib

from django.db import transaction

from llmcompare.endpoints.models import Endpoint


def place_of(endpoint: Endpoint) -> int:
    """The number of the address that the endpoint has in the database now: 0 for the first that a run was asked of, 1 for the second, …"""
    with transaction.atomic():
        current = Endpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
        if current is None:
            return 0
        mark, places = _mark(current), current.places
        if mark not in places:
            places = [*places, mark]
            Endpoint.objects.filter(pk=current.pk).update(places=places)
    return places.index(mark)


def moved(endpoint: Endpoint, place: int | None) -> bool:
    """Whether the endpoint, as it was read, has another address than that of number ``place``. None: of a run from before there were numbers."""
    return place is not None and place < len(endpoint.places) and endpoint.places[place] != _mark(endpoint)


def _mark(endpoint: Endpoint) -> str:
    return hashlib.sha256(endpoint.url.encode()).hexdigest()
