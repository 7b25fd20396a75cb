"""What is true of the server stays on the server."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from llmcompare.sharing.services import create_link
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_host, make_model, make_run
from tests.security.cast import browser_of, script_of

FOLDER = "/srv/portal/data/weights/small"


@pytest.mark.parametrize("who", ["owner", "stranger", "staff"])
def test_no_export_says_where_weights_lie_on_the_server(who, owner, stranger, staff):
    model = make_model(weights="local", weights_path=FOLDER)
    run = make_run(owner, document=DOCUMENT, model=model, visibility="public")
    assert run.spec["model"]["weights_path"] == FOLDER
    user = {"owner": owner, "stranger": stranger, "staff": staff}[who]
    browser, script = browser_of(user), script_of(user)
    for client, path in (
        (browser, f"/runs/{run.public_id}/"),
        (browser, f"/runs/{run.public_id}.json"),
        (browser, f"/runs/{run.public_id}.csv"),
        (browser, f"/models/{model.slug}/"),
        (browser, f"/models/{model.slug}.json"),
        (script, f"/api/v1/runs/{run.public_id}/"),
        (script, f"/api/v1/runs/{run.public_id}/document/"),
        (script, f"/api/v1/runs/{run.public_id}/export.json"),
        (script, f"/api/v1/models/{model.slug}/"),
    ):
        response = client.get(path)
        assert response.status_code == 200, path
        assert FOLDER.encode() not in response.getvalue(), path


def test_the_error_on_a_shared_page_names_no_machine(owner, anonymous_client):
    host = make_host(slug="lab-gpu-7", name="Lab GPU 7")
    error = "The worker was lost 3 times, the last time on lab-gpu-7 during “load”. Lab GPU 7 is off. The lab-gpu-70 is not meant."
    run = make_run(owner, state="failed", error=error, worker="lab-gpu-7:123", host=host)
    _, token = create_link(owner=owner, runs=[run])
    for path in ("", "export.json", "export.csv"):
        text = anonymous_client.get(f"/s/{token}/{path}").getvalue().decode()
        assert "lab-gpu-7 " not in text
        assert "Lab GPU 7" not in text
    assert "the last time on [host] during" in text
    assert "lab-gpu-70" in text


def test_the_maker_of_a_link_is_told_that_the_title_is_shown(owner, owner_client):
    run = make_run(owner, document=DOCUMENT, title="For the board")
    page = owner_client.get(f"/runs/{run.public_id}/share/").content.decode()
    assert "For the board" in page
    assert "figures and the title" in page


def log_in(address: str, forged: str, password: str = "wrong", name: str = "owner"):
    return Client(REMOTE_ADDR=address).post(
        "/api/v1/auth/login/",
        {"username": name, "password": password},
        content_type="application/json",
        headers={"x-forwarded-for": forged},
    )


def test_a_made_up_header_gives_no_new_tries(owner, monkeypatch):
    monkeypatch.undo()  # the throttles of this folder's fixture are what is tested
    cache.clear()
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"login": "10/min"})
    answers = [log_in("10.0.0.1", f"9.9.9.{n}", name=f"user{n}").status_code for n in range(12)]
    assert answers == [403] * 10 + [429] * 2
    cache.clear()


def test_behind_a_proxy_a_stranger_does_not_lock_somebody_else_out(owner, settings):
    settings.BEHIND_PROXY = True
    for _ in range(9):
        last = log_in("10.0.0.1", "made.up, 198.51.100.7")
    assert last.status_code == 429
    assert log_in("10.0.0.1", "198.51.100.7, 203.0.113.5", "correct horse battery").status_code == 201


def test_without_a_proxy_the_header_counts_for_nothing(owner):
    answers = {log_in("10.0.0.1", f"9.9.9.{n}").status_code for n in range(8)}
    assert answers == {403, 429}
