"""``manage.py load_catalogue``: hardware and models from the files in the repository. Safe to repeat."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from hardware.services import load_catalogue as load_hardware
from llmcompare.catalog.services import load_catalogue as load_models


class Command(BaseCommand):
    help = "Load the hardware and model catalogues; rows that an administrator edited stay as they are."

    def handle(self, *args, **options):
        hardware, models = load_hardware(), load_models()
        self.stdout.write(f"Catalogues: hardware {hardware}; models {models}.")
        for slug in (*hardware.kept, *models.kept):
            self.stdout.write(f"  kept as edited here: {slug}")
