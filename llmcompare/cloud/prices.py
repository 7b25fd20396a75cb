"""What a machine costs per hour, as far as it is known here, and in whose words. Unknown is an answer; zero never is."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext_noop as _

from llmcompare.cloud.machines import Machine, machines
from llmcompare.cloud.models import MachinePrice


@dataclass(frozen=True)
class Price:
    """USD per hour of one machine with its accelerators; None: unknown. ``words``: whose price it is and of which day, or why none is known, in
    English: they are kept with what is deployed, and said in the language of whoever reads them."""

    usd_per_hour: Decimal | None
    words: str

    def times(self, replicas: int) -> Decimal | None:
        return None if self.usd_per_hour is None else self.usd_per_hour * replicas


def price_of(machine: Machine, region: str, *, spot: bool = False) -> Price:
    """An administrator's entry, else the list price that its source gives for this region. List prices are on-demand: none of them is a spot price."""
    entered = MachinePrice.objects.filter(machine_type=machine.name, region=region, spot=spot).first()
    return _price(machine, region, spot, entered)


def prices_in(region: str) -> dict[str, Price]:
    """Of every machine by its name, on demand: one query."""
    entered = {row.machine_type: row for row in MachinePrice.objects.filter(region=region, spot=False)}
    return {name: _price(machine, region, False, entered.get(name)) for name, machine in machines().items()}


def _price(machine: Machine, region: str, spot: bool, entered: MachinePrice | None) -> Price:
    if entered is not None:
        source = f": {entered.note}" if entered.note else ""
        words = _("Entered by an administrator, dated %(day)s%(source)s") % {"day": entered.dated, "source": source}
        return Price(entered.usd_per_hour, words)
    listed = machine.listed
    if listed is None:
        return Price(None, _("No price of this machine is known here."))
    if spot:
        return Price(None, _("Spot prices change by the day and are not known here."))
    if not listed.dated:
        return Price(None, _("Only a price without a date is known here, which says nothing about today."))
    if not listed.holds_in(region):
        words = _(
            "No price for %(region)s is known here; the Compute Engine list price in %(other)s was %(price)s USD per hour (%(day)s)."
        )
        where = {"region": region, "other": listed.region, "price": f"{listed.usd_per_hour:.4f}", "day": listed.dated}
        return Price(None, words % where)
    words = _("Compute Engine list price, dated %(day)s; Vertex AI adds its own fee, which is not known here.")
    return Price(listed.usd_per_hour, words % {"day": listed.dated})
