"""Prices that are known, prices that are not, and how much somebody may have deployed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from llmcompare.cloud import caps, connections, deployments
from llmcompare.cloud.machines import cheapest, machines
from llmcompare.cloud.models import Connection, Deployment, MachinePrice, SpendingCap
from llmcompare.cloud.prices import price_of
from llmcompare.common.errors import FieldErrors, QuotaExceeded


@pytest.fixture
def here(owner) -> Connection:
    """A connection whose project is never asked."""
    from django.utils import timezone

    model = {"id": "7", "name": "projects/p/locations/us-central1/models/7", "title": "seven", "ours": True}
    return Connection.objects.create(
        owner=owner,
        name="here",
        project="project-alpha",
        region="us-central1",
        credential_kind="adc",
        allowed_at=timezone.now(),
        models_found=[model],
    )


def ask(connection: Connection, name: str, user=None, machine: str = "g2-standard-4", **more) -> Deployment:
    wish = deployments.make_wish(connection=connection, name=name, model="7", machine_type=machine, **more)
    return deployments.deploy(user=user or connection.owner, wish=wish, typed=name)


def test_a_list_price_counts_in_its_region_alone_and_says_whose_it_is(db):
    machine = machines()["g2-standard-4"]
    here = price_of(machine, "us-central1")
    assert here.usd_per_hour == Decimal("0.706832276")
    assert "Compute Engine list price, dated 2026-10-04" in here.words
    assert "own fee" in here.words
    elsewhere = price_of(machine, "europe-west4")
    assert elsewhere.usd_per_hour is None
    assert "us-central1" in elsewhere.words
    assert price_of(machine, "us-central1", spot=True).usd_per_hour is None


@pytest.mark.parametrize("name", ["a4-highgpu-8g", "a2-highgpu-8g", "g2-standard-12", "tpu7x-standard-4t"])
def test_no_price_an_undated_one_and_an_unchecked_one_are_unknown(db, name):
    assert price_of(machines()[name], "us-central1").usd_per_hour is None


def test_an_administrators_price_takes_the_place_of_the_list(db):
    MachinePrice.objects.create(
        machine_type="a4-highgpu-8g", region="us-central1", usd_per_hour=90, dated=date(2026, 11, 1), note="invoice"
    )
    found = price_of(machines()["a4-highgpu-8g"], "us-central1")
    assert found.usd_per_hour == 90
    assert "administrator" in found.words
    assert "2026-11-01: invoice" in found.words


def test_the_cheapest_machine_has_a_price_there_and_no_tpu(db):
    assert cheapest("us-central1").name == "g2-standard-4"
    assert cheapest("europe-west4") is None


def test_every_machine_has_a_hardware_of_the_catalogue(db):
    from django.core.management import call_command

    from hardware.models import Hardware

    call_command("load_catalogue", verbosity=0)
    slugs = {machine.hardware_slug for machine in machines().values()}
    assert slugs - set(Hardware.objects.values_list("slug", flat=True)) == set()


def test_only_so_many_at_a_time_and_ended_ones_do_not_count(here, settings):
    settings.CLOUD_MAX_DEPLOYMENTS = 2
    first = ask(here, "one")
    ask(here, "two")
    with pytest.raises(QuotaExceeded, match="2 deployments"):
        ask(here, "three")
    Deployment.objects.filter(pk=first.pk).update(state="ended")
    ask(here, "three")


def test_the_price_of_all_together_is_capped(here, settings):
    settings.CLOUD_MAX_USD_PER_HOUR = 2
    ask(here, "one", replicas=2)
    with pytest.raises(QuotaExceeded, match=r"0\.71 USD per hour.* 1\.41 USD"):
        ask(here, "two")
    SpendingCap.objects.create(user=here.owner, deployments=9, usd_per_hour=3)
    ask(here, "two")


def test_an_unknown_price_needs_the_allowance_of_staff(here, staff):
    with pytest.raises(FieldErrors, match="not known"):
        ask(here, "one", machine="a4-highgpu-8g")
    SpendingCap.objects.create(user=here.owner, deployments=9, usd_per_hour=3, unknown_prices=True)
    made = ask(here, "one", machine="a4-highgpu-8g")
    assert made.price is None
    ask(here, "two", user=staff, machine="a4-highgpu-8g")


def test_a_teams_cap_counts_what_all_its_members_deployed(here, team, teammate):
    Connection.objects.filter(pk=here.pk).update(team=team, visibility="team")
    here.refresh_from_db()
    SpendingCap.objects.create(team=team, deployments=1, usd_per_hour=100)
    ask(here, "one", user=teammate)
    with pytest.raises(QuotaExceeded, match="Your team"):
        ask(here, "two")


def test_a_cap_for_everybody_else_takes_the_place_of_the_settings(here):
    SpendingCap.objects.create(deployments=0, usd_per_hour=0)
    with pytest.raises(QuotaExceeded):
        ask(here, "one")
    assert caps.cap_of(user=here.owner).deployments == 0


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "Not Good"}, "name"),
        ({"machine": "n1-imaginary"}, "machine_type"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 99}, "replicas"),
        ({"lease_hours": 1000}, "lease_hours"),
        ({"idle_minutes": 1}, "idle_minutes"),
        ({"source": "garden"}, "model"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(here, wrong, field):
    with pytest.raises(FieldErrors) as caught:
        ask(here, **({"name": "good"} | wrong))
    assert list(caught.value.errors) == [field]


def test_the_name_must_be_typed(here):
    wish = deployments.make_wish(connection=here, name="good", model="7", machine_type="g2-standard-4")
    with pytest.raises(FieldErrors, match="exactly"):
        deployments.deploy(user=here.owner, wish=wish, typed="goood")
    assert not Deployment.objects.exists()


def test_a_confirmation_that_is_sent_twice_deploys_once(here, settings):
    """Both were checked before either was stored, as when a button is pressed twice."""
    settings.CLOUD_MAX_DEPLOYMENTS = 9
    values = {"connection": here, "name": "good", "model": "7", "machine_type": "g2-standard-4"}
    wishes = [deployments.make_wish(**values) for _ in range(2)]
    deployments.deploy(user=here.owner, wish=wishes[0], typed="good")
    with pytest.raises(FieldErrors, match="already"):
        deployments.deploy(user=here.owner, wish=wishes[1], typed="good")
    assert Deployment.objects.count() == 1


def test_there_is_one_rule_for_everybody_else(admin_client, here):
    """A second one would be stored, and not count."""
    add = "/admin/cloud/spendingcap/add/"
    for usd in (100, 1):
        page = admin_client.post(add, {"user": "", "team": "", "deployments": 9, "usd_per_hour": usd})
    assert "already exists" in page.content.decode()
    assert [cap.usd_per_hour for cap in SpendingCap.objects.all()] == [100]
    own = {"user": here.owner.pk, "team": "", "deployments": 1, "usd_per_hour": 1}
    assert admin_client.post(add, own).status_code == 302


def test_nothing_is_deployed_through_a_connection_that_was_deleted_meanwhile(here):
    """It would cost money where nobody looks: a deleted connection is not read."""
    wish = deployments.make_wish(connection=here, name="late", model="7", machine_type="g2-standard-4")
    connections.delete(connection=here)
    with pytest.raises(FieldErrors, match="deleted meanwhile"):
        deployments.deploy(user=here.owner, wish=wish, typed="late")
    assert not Deployment.objects.exists()
    connections.restore(connection=here)
    assert deployments.deploy(user=here.owner, wish=wish, typed="late")


def test_a_connection_comes_back_where_there_is_a_place_for_it(here, owner_client, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    owner_client.post(f"/cloud/{here.public_id}/delete/")
    values = {"project": "project", "region": "us-central1", "credential_kind": "impersonate"}
    account = "portal@project-1.iam.gserviceaccount.com"
    other = connections.create(owner=here.owner, name="Other", credential=account, **values)
    answer = owner_client.post(f"/cloud/{here.public_id}/restore/", follow=True)
    assert "You have 1 connections already" in answer.content.decode()
    assert list(type(here).objects.kept()) == [other]
