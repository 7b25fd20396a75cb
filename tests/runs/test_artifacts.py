"""Files of a run: stored under its claim, handed out to those who see the run, as they are."""

from __future__ import annotations

import gzip
import hashlib
import threading

import pytest
from django.db import OperationalError
from django.urls import reverse

from llmcompare.common.errors import FieldErrors
from llmcompare.runs import lifecycle
from llmcompare.runs.executor import Watch
from llmcompare.runs.models import Artifact
from llmcompare.runs.services import delete_run
from llmcompare.runs.validation import check_inputs
from llmcompare.sharing.services import create_link
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_artifact, make_hardware, make_model, make_run

TEXT = b'{"traceEvents": []}'


def facts_of(data: bytes) -> dict:
    return {
        "file": "trace.json.gz",
        "bytes": len(TEXT),
        "stored_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "cut": None,
    }


@pytest.fixture
def running(owner):
    run = make_run(owner, kind="measure")
    return lifecycle.claim(run_id=run.pk, worker="host-a:1")


def test_a_later_attempt_replaces_the_file_and_a_lost_claim_writes_none(running):
    for text in (b"{}", TEXT):
        data = gzip.compress(text)
        assert lifecycle.keep_artifact(run=running, kind="trace", data=data, facts=facts_of(data))
    assert gzip.decompress(running.artifacts.get().data) == TEXT
    running.claim = "somebody else's"
    assert not lifecycle.keep_artifact(run=running, kind="memory", data=b"", facts=facts_of(b""))
    assert running.artifacts.count() == 1


def test_a_full_disk_costs_a_line_in_the_log_not_the_run(running, monkeypatch):
    def full(**options):
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(lifecycle, "keep_artifact", full)
    watch = Watch(running, threading.Event())
    watch.artifact("trace", b"x", facts_of(b"x"))
    assert not watch.reason
    assert "trace.json.gz could not be stored" in running.events.last().message
    assert running.events.last().level == "warning"


def test_the_page_links_to_the_file_and_it_is_a_download(owner, owner_client):
    run = make_run(owner, document=DOCUMENT)
    made = make_artifact(run)
    address = reverse("runs:artifact", args=[run.public_id, "trace.json.gz"])
    page = owner_client.get(reverse("runs:detail", args=[run.public_id])).content.decode()
    assert f'href="{address}"' in page
    assert "ui.perfetto.dev" in page
    answer = owner_client.get(address)
    assert hashlib.sha256(answer.content).hexdigest() == made.sha256
    assert gzip.decompress(answer.content) == TEXT
    assert answer["Content-Type"] == "application/gzip"
    assert answer["Content-Disposition"] == f'attachment; filename="run-{run.public_id}-trace.json.gz"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "Content-Encoding" not in answer


def test_files_of_others_and_of_the_bin_and_other_names_are_not_there(owner, owner_client, stranger_client):
    run = make_run(owner, document=DOCUMENT)
    make_artifact(run)
    address = reverse("runs:artifact", args=[run.public_id, "trace.json.gz"])
    assert stranger_client.get(address).status_code == 404
    for name in ("memory.json.gz", "trace", "trace.json", "..", "%00"):
        assert owner_client.get(reverse("runs:detail", args=[run.public_id]) + f"artifacts/{name}").status_code == 404
    delete_run(run=run)
    assert owner_client.get(address).status_code == 404
    run.delete()
    assert not Artifact.objects.exists()


def test_a_shared_page_has_no_files(owner, client):
    run = make_run(owner, document=DOCUMENT | {"artifacts": {"trace": facts_of(b"x")}}, state="done")
    made = make_artifact(run)
    _, token = create_link(owner=owner, runs=[run])
    page = client.get(reverse("sharing:open", args=[token])).content.decode()
    assert "trace.json.gz" not in page
    assert made.sha256 not in page
    assert "artifacts" not in client.get(reverse("sharing:open", args=[token]) + ".json").content.decode()


def test_only_a_measurement_is_asked_for_files_of_known_kinds(db):
    asked = {"model": make_model(), "hardware": make_hardware(), "host": None, "workload": {}}
    for kind, files in (("estimate", ["trace"]), ("estimate", ["passwords"]), ("measure", ["passwords"])):
        with pytest.raises(FieldErrors) as caught:
            check_inputs(kind=kind, artifacts=files, **asked)
        assert "artifacts" in caught.value.errors
    assert check_inputs(kind="estimate", artifacts=[], **asked).freeze().artifacts is None
