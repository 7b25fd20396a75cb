"""``python manage.py vertex_doctor``: is everything right with a project of Vertex AI?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.machines import Machine, cheapest, machines
from llmcompare.cloud.models import Connection, Guard
from llmcompare.cloud.presentation import usd
from llmcompare.cloud.prices import price_of


class Command(BaseCommand):
    help = (
        "Logs in, lists models and endpoints and asks Cloud Monitoring once; changes nothing. "
        "With --deploy-cycle it also deploys, asks once and undeploys, after a typed confirmation: that costs money."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("--connection", help="id of a connection of the portal, from its address; or else:")
        parser.add_argument("--project", help="the project's id")
        parser.add_argument("--region", default="us-central1")
        parser.add_argument("--credential", default="adc", help="adc, impersonate:ACCOUNT, env:NAME or file:NAME")
        parser.add_argument("--deploy-cycle", action="store_true", help="deploy, predict, undeploy; costs money")
        parser.add_argument("--model", default="", help="of the cycle: id of a model of the project; or else:")
        parser.add_argument("--image", default="", help="of the cycle: a container image, uploaded and deleted again")
        parser.add_argument("--artifact-uri", default="", help="with --image: gs://… with the model's files")
        parser.add_argument("--machine", default="", help="of the cycle; the cheapest with a known price otherwise")
        parser.add_argument("--transcript", help="file for what happened; one in the data folder otherwise")
        parser.add_argument("--pause", type=float, default=5.0, help="seconds between looks at something long")

    def handle(self, *args: Any, **options: Any) -> None:
        from llmcompare.cloud.doctor import Doctor, fresh_name
        from llmcompare.cloud.google.errors import CloudError
        from llmcompare.cloud.google.resources import Machine as Wanted

        connection = self._connection(options)
        transcript = Path(
            options["transcript"] or settings.DATA_DIR / f"vertex_doctor_{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"
        )
        try:
            cloud = open_cloud(connection)
        except CloudError as error:
            raise CommandError(error.sentence) from None
        with cloud:
            doctor = Doctor(cloud, self.stdout.write, transcript, options["pause"])
            well = doctor.look()
            if well and options["deploy_cycle"]:
                if Guard.get().stopped_at is not None:
                    raise CommandError(
                        "An administrator stopped all deployments here (Cloud, Stop everything): nothing was deployed."
                    )
                machine, name = self._machine(connection.region, options["machine"]), fresh_name()
                self._confirm(connection, machine, name, options)
                wanted = Wanted(
                    machine_type=machine.name,
                    accelerator=machine.accelerator_type or None,
                    accelerators=machine.accelerator_count if machine.accelerator_type else 0,
                    tpu_topology=machine.tpu_topology or None,
                )
                well = doctor.cycle(
                    machine=wanted,
                    name=name,
                    model=options["model"],
                    image=options["image"],
                    artifact_uri=options["artifact_uri"],
                )
        self.stdout.write(f"Transcript: {transcript}")
        if not well:
            raise CommandError(f"Not everything is right: {', '.join(doctor.failed)}.")
        self.stdout.write("Everything is right.")

    def _connection(self, options: dict[str, Any]) -> Connection:
        """A stored connection, or one for this command alone that is not stored."""
        if options["connection"]:
            found = Connection.objects.kept().filter(public_id=options["connection"]).first()
            if found is None:
                raise CommandError("There is no such connection.")
            return found
        if not options["project"]:
            raise CommandError("Name a --connection or a --project.")
        kind, _colon, value = options["credential"].partition(":")
        if kind in ("env", "file"):
            kind, value = "secret", options["credential"]
        return Connection(
            name="doctor", project=options["project"], region=options["region"], credential_kind=kind, credential=value
        )

    def _machine(self, region: str, name: str) -> Machine:
        machine = machines().get(name) if name else cheapest(region)
        if machine is None:
            raise CommandError(
                f"There is no machine {name}." if name else f"No price for {region} is known: name a --machine."
            )
        return machine

    def _confirm(self, connection: Connection, machine: Machine, name: str, options: dict[str, Any]) -> None:
        """Say what it costs; go on only when the endpoint's name was typed."""
        if not options["model"] and not options["image"]:
            raise CommandError("The cycle needs a --model of the project, or an --image.")
        price = price_of(machine, connection.region)
        self.stdout.write(
            f"\nThis deploys on one {machine.label} in {connection.project}, {connection.region}: {usd(price.usd_per_hour)} per hour. "
            f"{price.words}\nIt usually takes 10 to 30 minutes, and everything is undeployed at the end."
        )
        typed = input(f"Type {name} to go on: ")
        if typed.strip() != name:
            raise CommandError("Not confirmed: nothing was deployed.")
