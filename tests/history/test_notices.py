"""Notices of ended runs: opt-in, once, by page and by a real SMTP conversation; a mail server never harms a run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from llmcompare.history import notices, tasks
from llmcompare.history.models import Notice, NoticeSettings
from llmcompare.runs import lifecycle
from llmcompare.runs.models import Run
from tests import factories
from tests.history.smtp import SmtpSink
from tests.runs.documents import estimate_document

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "my secret question"


@pytest.fixture
def mail_server(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST, settings.EMAIL_HOST_USER = "127.0.0.1", ""
    settings.EMAIL_TIMEOUT = 5
    with SmtpSink() as sink:
        settings.EMAIL_PORT = sink.port
        yield sink


def ended(owner, *, seconds=120, state="done", ago=timedelta(0), **fields) -> Run:
    finished = (
        timezone.now() - ago + timedelta(seconds=1)
    )  # after the settings were made, in the same moment of the test
    return factories.make_run(
        owner, state=state, started=finished - timedelta(seconds=seconds), finished=finished, **fields
    )


def want(user, **fields):
    return notices.choose(user=user, **({"page": True, "mail": False, "at_least_s": 60} | fields))


# --- opt-in ---


def test_nobody_is_told_without_asking(owner, owner_client, mail_server):
    ended(owner)
    assert notices.collect() == 0
    assert owner_client.get("/notices/bell/").status_code == 204
    assert "Notices are off" in owner_client.get("/notices/").content.decode()
    want(owner, page=False, mail=False)
    ended(owner)
    assert notices.collect() == 0
    assert mail_server.sessions == 0


def test_settings_are_made_under_the_account(owner_client, owner):
    assert owner_client.get("/accounts/notices/").status_code == 200
    answer = owner_client.post("/accounts/notices/", {"page": "on", "at_least_s": "300"})
    assert answer.status_code == 302
    chosen = NoticeSettings.objects.get(user=owner)
    assert (chosen.page, chosen.mail, chosen.at_least_s) == (True, False, 300)


@pytest.mark.parametrize(("at_least", "status"), [("", 422), ("-1", 422), ("x", 422), ("1e9", 422), (str(10**12), 422)])
def test_settings_without_sense_are_refused_at_their_field(owner_client, at_least, status):
    answer = owner_client.post("/accounts/notices/", {"page": "on", "at_least_s": at_least})
    assert answer.status_code == status
    assert 'id="id_at_least_s_error"' in answer.content.decode()
    assert not NoticeSettings.objects.exists()


def test_an_e_mail_needs_an_address(owner_client, owner):
    owner.email = ""
    owner.save()
    answer = owner_client.post("/accounts/notices/", {"mail": "on", "at_least_s": "1"})
    assert "has no e-mail address" in answer.content.decode()
    assert not NoticeSettings.objects.exists()


def test_what_ended_while_nothing_was_wanted_is_not_told_afterwards(owner):
    want(owner)
    want(owner, page=False)
    NoticeSettings.objects.update(since=timezone.now() - timedelta(hours=5))
    ended(owner, ago=timedelta(hours=1))
    want(owner)
    assert notices.collect() == 0


# --- which runs ---


def test_a_long_run_is_told_once(owner):
    want(owner)
    run = ended(owner)
    assert notices.collect() == 1
    assert notices.collect() == 0
    assert Notice.objects.get().run == run


@pytest.mark.parametrize(
    "fields",
    [{"seconds": 59}, {"state": "cancelled"}, {"ago": timedelta(days=2)}, {"deleted_at": timezone.now()}],
    ids=["short", "cancelled", "old", "deleted"],
)
def test_other_runs_are_not_told(owner, fields):
    want(owner)
    NoticeSettings.objects.update(since=timezone.now() - timedelta(days=9))
    ended(owner, **fields)
    assert notices.collect() == 0


def test_nobody_is_told_of_the_runs_of_others(owner, teammate, team):
    want(teammate)
    ended(owner, visibility="team", team=team)
    assert notices.collect() == 0


def test_a_notice_comes_after_the_run_was_finished_by_its_worker(owner):
    """Through the real life of a run: claimed, finished, told."""
    want(owner, at_least_s=0)
    run = lifecycle.claim(run_id=factories.make_run(owner).pk, worker="here:1")
    assert notices.collect() == 0
    assert lifecycle.finish(run=run, document=estimate_document())
    assert notices.collect() == 1


# --- e-mail ---


def test_an_e_mail_goes_out_once_and_has_no_prompt(owner, mail_server, settings):
    settings.PUBLIC_URL = "https://perf.example.org"
    want(owner, page=False, mail=True)
    run = ended(
        owner,
        title="Big\nrun",
        workload={"prompt": PROMPT},
        state="failed",
        error=f"Cannot read {PROMPT}",
        error_phase="decode",
    )
    notices.collect()
    assert notices.send_due() == 1
    assert notices.send_due() == 0
    ((sender, receivers, message),) = mail_server.received
    assert receivers == ["owner@example.org"]
    assert sender == settings.DEFAULT_FROM_EMAIL
    assert message["Subject"] == "[llmcompare] Failed: Big run"
    text = message.get_content()
    assert f"https://perf.example.org/runs/{run.public_id}/" in text
    assert "2 min" in text or "120 s" in text
    assert "phase “decode”" in text
    assert "https://perf.example.org/accounts/notices/" in text
    assert PROMPT not in message.as_string()
    assert Notice.objects.get().mail == "sent"


def test_two_workers_send_one_e_mail(owner, mail_server):
    want(owner, mail=True)
    ended(owner)
    notices.collect()
    now = timezone.now()
    notice = Notice.objects.get()
    Notice.objects.filter(pk=notice.pk).update(mail_next=now + notices.CLAIM)  # another worker is at it
    assert notices.send_due(now=now) == 0
    assert not notices._send(notice.pk, now)  # both had found it due
    assert notices.send_due(now=now + notices.CLAIM) == 1  # it died


@pytest.mark.parametrize("manner", ["refuse", "hang up"])
def test_a_mail_server_that_fails_is_tried_again_and_then_given_up(owner, mail_server, manner):
    mail_server.manner = manner
    want(owner, mail=True)
    run = ended(owner)
    notices.collect()
    now = timezone.now()
    for wait in (*notices.RETRY, timedelta(0)):
        assert notices.send_due(now=now) == 0
        assert notices.send_due(now=now) == 0  # not before its time
        now += wait
    notice = Notice.objects.get()
    assert (notice.mail, notice.mail_attempts, mail_server.sessions) == ("failed", 4, 4)
    assert notice.mail_error
    assert notices.send_due(now=now + timedelta(days=1)) == 0
    run.refresh_from_db()
    assert run.state == "done"


def test_it_arrives_when_the_mail_server_is_back(owner, mail_server):
    mail_server.manner = "refuse"
    want(owner, mail=True)
    ended(owner)
    notices.collect()
    notices.send_due()
    mail_server.manner = "accept"
    assert notices.send_due(now=timezone.now() + notices.RETRY[0]) == 1
    assert len(mail_server.received) == 1


def test_no_server_and_no_address_are_said_and_not_tried(owner, owner_client, settings):
    settings.EMAIL_HOST = ""
    want(owner, mail=True)
    ended(owner)
    notices.collect()
    assert notices.send_due() == 0
    assert "LLMCOMPARE_MAIL_HOST" in owner_client.get("/notices/").content.decode()
    assert "no mail server yet" in owner_client.get("/accounts/notices/").content.decode()


def test_the_thread_of_a_worker_survives_every_fault(monkeypatch):
    shutdown, calls = threading.Event(), []

    def broken():
        calls.append(1)
        raise RuntimeError("database away")

    def last():
        calls.append(2)
        shutdown.set()

    monkeypatch.setattr(tasks.notices, "collect", broken)
    monkeypatch.setattr(tasks.notices, "send_due", last)
    monkeypatch.setattr(tasks, "close_old_connections", lambda: None)
    monkeypatch.setattr(tasks.connections, "close_all", lambda: None)
    tasks.keep_telling(shutdown)
    assert calls == [1, 2]


def test_a_worker_that_starts_begins_to_tell(tmp_path):
    """What Celery imports when a worker starts: without it, nobody would ever be told."""
    code = (
        "from llmcompare.celery import app; import django; django.setup(); app.loader.import_default_modules(); import sys; "
        "assert 'llmcompare.history.tasks' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "llmcompare.settings"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- pages ---


def test_bell_counts_and_tells_only_what_is_new(owner, owner_client):
    want(owner)
    first = owner_client.get("/notices/bell/").content.decode()
    assert "bell-count" not in first
    assert "after=0" in first
    ended(owner, title="Finished <one>")
    notices.collect()
    page = owner_client.get("/notices/bell/").content.decode()
    assert "1 new notice" in page
    assert "Finished" not in page  # it was there before the page was: the number is enough
    told = owner_client.get("/notices/bell/?after=0").content.decode()
    assert "Finished &lt;one&gt;" in told
    newest = Notice.objects.get().pk
    assert f"after={newest}" in told
    assert "Finished" not in owner_client.get(f"/notices/bell/?after={newest}").content.decode()
    for nonsense in ("x", "-1", "9" * 30, "²"):
        assert owner_client.get("/notices/bell/", {"after": nonsense}).status_code == 200
    owner_client.post("/notices/seen/")
    assert "bell-count" not in owner_client.get("/notices/bell/").content.decode()


def test_lists_are_ones_own(owner, owner_client, stranger_client):
    want(owner)
    run = ended(owner, title="Mine alone")
    notices.collect()
    assert "Mine alone" in owner_client.get("/notices/").content.decode()
    assert owner_client.get("/notices.json").json()["notices"][0]["run"] == run.public_id
    assert run.public_id in owner_client.get("/notices.csv").getvalue().decode()
    for address in ("/notices/", "/notices.json", "/notices.csv"):
        assert b"Mine alone" not in stranger_client.get(address).getvalue()
    run.deleted_at = timezone.now()
    run.save()
    assert owner_client.get("/notices.json").json()["notices"] == []


def test_why_an_e_mail_was_not_sent_is_in_the_readers_language(owner, owner_client, settings):
    settings.EMAIL_HOST = ""
    want(owner, mail=True)
    ended(owner)
    notices.collect()
    notices.send_due()
    assert "This installation has no mail server" in owner_client.get("/notices/").content.decode()
    owner.language = "zh-hans"
    owner.save()
    page = owner_client.get("/notices/").content.decode()
    assert "此安装没有邮件服务器" in page
    assert "This installation has no mail server" not in page
