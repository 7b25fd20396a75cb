"""``vertex_doctor`` against the stand-in: it reads, it deploys only when it was confirmed, and it leaves nothing."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from llmcompare.cloud import leases, reading
from llmcompare.cloud.client import open_cloud
from llmcompare.cloud.doctor import CLEANING_ATTEMPTS, Doctor
from llmcompare.cloud.google.labels import UNTIL
from llmcompare.cloud.google.resources import Machine
from llmcompare.cloud.models import Operation
from tests.standins.vertex.fixture import REGION


@pytest.fixture
def doctor(hand, tmp_path, monkeypatch, capsys):
    """Calls the command; gives its output and the steps of its transcript. ``typed``: a rule from the prompt to the answer."""
    file = tmp_path / "transcript.jsonl"

    def call(*options: str, typed=lambda prompt: prompt.split()[1], token: str = "token-alpha"):
        monkeypatch.setattr("builtins.input", typed)
        arguments = ["--project", "project-alpha", "--region", REGION, "--credential", f"token:{token}"]
        call_command("vertex_doctor", *arguments, "--transcript", str(file), "--pause", "0.05", *options)
        return capsys.readouterr().out, [json.loads(line) for line in file.read_text().splitlines()]

    call.file = file
    return call


def steps(lines):
    return {line["step"]: line["ok"] for line in lines if "step" in line}


def test_it_looks_and_changes_nothing(doctor, hand):
    out, lines = doctor()
    assert "Everything is right" in out
    assert list(steps(lines)) == ["log in", "list models", "list endpoints", "one query of Cloud Monitoring"]
    assert not [row for row in hand.vertex.requests() if row[0].startswith(("Create", "Deploy", "Upload", "Delete"))]
    assert "token-alpha" not in doctor.file.read_text() + out


def test_it_says_what_is_wrong(doctor, hand, capsys):
    with pytest.raises(CommandError, match="list models"):
        doctor(token="token-nobody")
    assert "credentials" in capsys.readouterr().out


def test_a_cycle_deploys_asks_and_leaves_nothing(doctor, hand):
    out, lines = doctor("--deploy-cycle", "--image", "tests/echo")
    assert all(steps(lines).values())
    assert "g2-standard-4" in out
    assert "0.71 USD per hour" in out
    asked = next(line for line in lines if line.get("step") == "ask once")
    assert "one two three" in asked["found"]["answer"]
    assert hand.endpoints() == []
    assert hand.vertex.state()["models"] == []


def test_without_the_typed_name_nothing_is_deployed(doctor, hand):
    with pytest.raises(CommandError, match="Not confirmed"):
        doctor("--deploy-cycle", "--image", "tests/echo", typed=lambda prompt: "yes")
    assert hand.endpoints() == []
    with pytest.raises(CommandError, match="--model"):
        doctor("--deploy-cycle")


def test_a_cycle_that_fails_leaves_nothing_either(doctor, hand):
    hand.vertex.fail_operation("DeployModel", 8, "The following quotas are exceeded: CustomModelServingL4GPUs")
    hand.vertex.fail("DeleteEndpoint", 503, "not now", times=2)
    with pytest.raises(CommandError, match="deploy"):
        doctor("--deploy-cycle", "--image", "tests/echo")
    lines = [json.loads(line) for line in doctor.file.read_text().splitlines()]
    assert steps(lines)["undeploy and delete the endpoint"]
    assert hand.endpoints() == []
    assert hand.vertex.state()["models"] == []


def test_it_takes_a_connection_of_the_portal(connection, hand, capsys):
    call_command("vertex_doctor", "--connection", connection.public_id)
    assert "Everything is right" in capsys.readouterr().out


def cycle(connection, say=lambda text: None):
    machine = Machine("g2-standard-4", "NVIDIA_L4", 1)
    with open_cloud(connection) as cloud:
        return Doctor(cloud, say, None, pause_s=0.01).cycle(machine=machine, name="doctors", image="tests/echo")


def test_workers_of_the_portal_leave_a_cycle_alone_while_it_lasts(connection, hand, monkeypatch):
    monkeypatch.setattr(reading, "GRACE", timedelta(0))
    seen = []

    def say(text):
        if "  deploy (" in text:
            hand.read(connection)
            seen.append((hand.there(), Operation.objects.filter(kind="clear").count()))

    assert cycle(connection, say)
    assert seen == [(["doctors"], 0)]


def test_what_a_lost_cycle_leaves_is_undeployed_by_workers(connection, hand, monkeypatch):
    monkeypatch.setattr(reading, "GRACE", timedelta(0))
    with open_cloud(connection) as cloud:
        cloud.create_endpoint("doctors", extra={UNTIL: "1700000000"})
    hand.work(until=lambda: hand.endpoints() == ["doctors"])
    hand.read(connection)
    hand.work()
    assert hand.endpoints() == []


def test_whoever_interrupts_a_cycle_while_google_deploys_leaves_nothing(connection, hand, monkeypatch):
    real, pauses = time.sleep, []
    with hand.vertex.held("DeployModel") as release:

        def sleep(seconds):
            real(seconds)
            if hand.vertex.requests("DeployModel"):
                pauses.append(seconds)
            if len(pauses) == 1:
                raise KeyboardInterrupt
            if len(pauses) > CLEANING_ATTEMPTS + 5:
                release()

        monkeypatch.setattr(time, "sleep", sleep)
        with pytest.raises(KeyboardInterrupt):
            cycle(connection)
    assert hand.endpoints() == []


def test_no_cycle_while_an_administrator_stopped_everything(doctor, hand, staff):
    leases.stop_everything(by=staff)
    with pytest.raises(CommandError, match="stopped"):
        doctor("--deploy-cycle", "--image", "tests/echo")
    assert hand.endpoints() == []
