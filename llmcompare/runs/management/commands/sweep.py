"""``manage.py sweep``: what every worker does by itself every few seconds, once and by hand."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from llmcompare.runs.sweep import sweep


class Command(BaseCommand):
    help = "Bring runs whose worker was lost on their way again (workers do this by themselves)."

    def handle(self, *args, **options):
        swept = sweep()
        self.stdout.write(
            f"{swept.put_back} put back, {swept.failed} failed, {swept.cancelled} cancelled, {swept.rung} rung for again."
        )
