"""On PostgreSQL: two confirmations at the same moment do not pass a cap together, one that is sent twice deploys once, one operation is taken by one worker, a lease
that was extended is not swept, and nothing is deployed through a connection that is deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RACE = """
import django; django.setup()
import threading
from django.core.management import call_command
from django.db import connections as databases
from django.utils import timezone
from llmcompare.accounts.models import User
from llmcompare.cloud import connections, deployments, leases, operations
from llmcompare.cloud.models import Connection, Deployment, Operation, SpendingCap
from llmcompare.common.errors import FieldErrors, QuotaExceeded
call_command("migrate", verbosity=0)
user = User.objects.create_user("racer")
SpendingCap.objects.create(user=user, deployments=1, usd_per_hour=100)
model = {"id": "7", "name": "projects/p/locations/us-central1/models/7", "title": "seven", "ours": True}
here = Connection.objects.create(owner=user, name="here", project="project-alpha", region="us-central1", credential_kind="adc",
                                 allowed_at=timezone.now(), models_found=[model])
start, ends = threading.Barrier(8), []
def together(work):
    def run(number):
        start.wait()
        try:
            ends.append(work(number))
        finally:
            databases.close_all()
    threads = [threading.Thread(target=run, args=[number]) for number in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
def confirm(number):
    wish = deployments.make_wish(connection=here, name=f"race-{number}", model="7", machine_type="g2-standard-4")
    try:
        deployments.deploy(user=user, wish=wish, typed=wish.name)
        return "deployed"
    except QuotaExceeded:
        return "refused"
together(confirm)
print(ends.count("deployed"), ends.count("refused"), Deployment.objects.count())
ends.clear()
pk = Operation.objects.get().pk
together(lambda number: operations.claim(operation_id=pk, worker=f"w:{number}") is not None)
print(ends.count(True))
ends.clear()
row = Deployment.objects.get()
together(lambda number: deployments.stop(deployment=row, reason="user"))
print(ends.count(True), Operation.objects.filter(kind="clear").count())
ends.clear()
SpendingCap.objects.update(deployments=20)
def again(number):
    try:
        deployments.deploy(user=user, wish=same[number], typed="same")
        return "deployed"
    except FieldErrors:
        return "refused"
same = [deployments.make_wish(connection=here, name="same", model="7", machine_type="g2-standard-4") for _ in range(8)]
together(again)
print(ends.count("deployed"), ends.count("refused"))
Deployment.objects.all().update(stop_reason="user", state="ended")
broken = 0
for turn in range(10):
    ends.clear()
    one = Deployment.objects.create(connection=here, owner=user, name=f"lease-{turn}", model_name="m", model_title="m", state="ready",
                                    machine_type="g2-standard-4", ready_at=timezone.now(), expires_at=timezone.now())
    def extend_or_sweep(number):
        if number % 2:
            return "swept" if leases.stop_due() else "nothing"
        try:
            deployments.extend(deployment=Deployment.objects.get(pk=one.pk), hours=1 + number)
            return "extended"
        except FieldErrors:
            return "too late"
    together(extend_or_sweep)
    one.refresh_from_db()
    broken += ("extended" in ends) == bool(one.stop_reason) or ends.count("swept") != bool(one.stop_reason)
print(broken)
Deployment.objects.all().update(stop_reason="user", state="ended")
broken = 0
for turn in range(10):
    gone = Connection.objects.create(owner=user, name=f"gone-{turn}", project="project-alpha", region="us-central1", credential_kind="adc",
                                     allowed_at=timezone.now(), models_found=[model])
    wishes = [deployments.make_wish(connection=gone, name=f"gone-{n}", model="7", machine_type="g2-standard-4") for n in range(8)]
    def delete_or_deploy(number):
        try:
            if number % 2:
                connections.delete(connection=gone)
            else:
                deployments.deploy(user=user, wish=wishes[number], typed=wishes[number].name)
        except FieldErrors:
            pass
    together(delete_or_deploy)
    gone.refresh_from_db()
    left = Deployment.objects.filter(connection=gone)
    broken += gone.deleted_at is not None and left.exists()
    left.update(stop_reason="user", state="ended")
print(broken)
"""


@pytest.mark.slow
def test_caps_claims_and_stops_hold_when_eight_come_at_once(postgres_database, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RACE],
        cwd=ROOT,
        env=os.environ
        | {
            "DATABASE_URL": postgres_database,
            "DJANGO_SETTINGS_MODULE": "llmcompare.settings",
            "LLMCOMPARE_DATA": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:6] == ["1 7 1", "1", "1 1", "1 7", "0", "0"]
