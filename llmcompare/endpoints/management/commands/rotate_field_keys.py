"""``manage.py rotate_field_keys``: encrypt the stored API keys of endpoints with a new field key."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from llmcompare.endpoints import crypto
from llmcompare.endpoints.rotation import rotate


class Command(BaseCommand):
    help = (
        "Encrypt the stored API keys of endpoints anew. With LLMCOMPARE_FIELD_KEYS, with its first key: put a new one before the old one, "
        "restart web server and workers, run this, take the old one out. Without it, with a new key that this makes. --new prints a key."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--new", action="store_true", help="print a new field key for LLMCOMPARE_FIELD_KEYS, do nothing else"
        )

    def handle(self, *args, **options):
        if options["new"]:
            self.stdout.write(crypto.new_field_key())
            return
        done = rotate()
        self.stdout.write(f"{done.count} keys of endpoints are encrypted with the newest field key.")
        if done.unreadable:
            ids = ", ".join(done.unreadable)
            self.stderr.write(f"{len(done.unreadable)} cannot be read and have to be entered again: {ids}")
        if crypto.from_environment():
            self.stdout.write("The other keys can be taken out of LLMCOMPARE_FIELD_KEYS now.")
