"""Encrypting all stored keys anew with a newer field key, so that the older one can be thrown away."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from llmcompare.endpoints import crypto
from llmcompare.endpoints.models import Endpoint


@dataclass(frozen=True)
class Rotated:
    """``unreadable``: public ids of endpoints whose key was encrypted by none of the field keys; they are left as they are."""

    count: int
    unreadable: tuple[str, ...]


def rotate() -> Rotated:
    """Encrypt every stored key, those in the bin too, with the newest field key.

    Where the field keys are the file's, a new one is made first, and the older ones go when every key has been encrypted anew. A key that
    is entered meanwhile by a process that read the file before waits for the next rotation only if it was stored in that instant: then its
    endpoint says that it must be entered again.
    """
    own, older = not crypto.from_environment(), crypto.field_keys()
    if own:
        crypto.write_keys([crypto.new_field_key(), *older])
    count, unreadable = 0, []
    for pk in Endpoint.objects.exclude(sealed_key="").order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            endpoint = Endpoint.objects.select_for_update().filter(pk=pk).first()
            if endpoint is None or not endpoint.sealed_key:
                continue
            try:
                sealed = crypto.reseal(endpoint.sealed_key)
            except crypto.Unreadable:
                unreadable.append(endpoint.public_id)
                continue
            # One that was entered anew meanwhile has the newest field key already.
            count += Endpoint.objects.filter(pk=pk, sealed_key=endpoint.sealed_key).update(sealed_key=sealed)
    if own:
        # Those that were there at the begin, and no others: somebody else may rotate too, with a newer one.
        crypto.write_keys([key for key in crypto.field_keys() if key not in older])
    return Rotated(count, tuple(unreadable))
