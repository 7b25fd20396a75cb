"""``manage.py new_cloud_label``: a copy of a portal's database gets a label of its own in the cloud."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from llmcompare.cloud.copies import take_own_label
from llmcompare.cloud.models import Deployment, Guard


class Command(BaseCommand):
    help = (
        "For a copy of a database, before its first worker starts: gives it a label of its own, so that it leaves alone what the portal that "
        "it was copied from has deployed. Deployments that are under way end in this database and go on in the other. Asks for the present "
        "label to be typed."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("--label", help="the present label, instead of typing it")

    def handle(self, *args, **options) -> None:
        label, active = Guard.get().instance, Deployment.objects.active().count()
        self.stdout.write(f"This database has the label {label}, and {active} deployments that have not ended.")
        if active:
            self.stdout.write(
                "They are left to the portal that this database was copied from. If this is not a copy, nobody undeploys them, and they go "
                "on costing money."
            )
        typed = options["label"]
        if typed is None:
            typed = input("Type the label to give this database another one: ")
        if typed.strip() != label:
            raise CommandError("That is not its label: nothing was changed.")
        done = take_own_label()
        self.stdout.write(
            f"The label is {done.label} now. {done.deployments} deployments and {done.operations} operations were left to the other portal. "
            "Its models in the cloud are not this portal's any more: upload your own."
        )
