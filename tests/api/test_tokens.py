"""Log in by the API, use the token, give it back."""

from datetime import timedelta

from django.utils import timezone

from tests.api.conftest import ApiClient

PASSWORD = "correct horse battery"


def log_in(client, **fields):
    return client.send("auth/login/", {"username": "owner", "password": PASSWORD} | fields)


def test_a_token_works_until_it_is_given_back(owner, anonymous_api):
    made = log_in(anonymous_api)
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    header = {"Authorization": f"Token {made.json()['token']}"}
    assert anonymous_api.get("/api/v1/runs/", headers=header).status_code == 200
    assert anonymous_api.send("auth/logout/", **header).status_code == 204
    assert anonymous_api.get("/api/v1/runs/", headers=header).status_code == 401


def test_the_token_expires_when_asked(owner, anonymous_api):
    days = (log_in(anonymous_api, days=7).json()["expires"])[:10]
    assert days == (timezone.now() + timedelta(days=7)).date().isoformat()
    assert log_in(anonymous_api, days=0).json()["errors"].keys() == {"days"}


def test_a_wrong_password_is_refused_in_the_shape_of_all_errors(owner, anonymous_api):
    answer = log_in(anonymous_api, password="wrong")
    assert answer.status_code == 403
    assert answer.json() == {"code": "wrong_password", "message": "Name or password is wrong.", "errors": {}}


def test_an_inactive_user_gets_no_token_and_old_ones_stop(owner, owner_api, anonymous_api):
    owner.is_active = False
    owner.save()
    assert log_in(anonymous_api).status_code == 403
    assert owner_api.read("runs/").status_code == 401


def test_too_many_wrong_passwords_lock_the_account_even_for_the_right_one(owner, anonymous_api, settings, monkeypatch):
    monkeypatch.setattr("llmcompare.api.views.tokens.LoginThrottle.allow_request", lambda *_: True)
    for _ in range(settings.AXES_FAILURE_LIMIT):
        log_in(anonymous_api, password="wrong")
    answer = log_in(anonymous_api)
    assert answer.status_code == 429
    assert answer.json()["code"] == "locked_out"


def test_guessing_is_slowed_down(owner, anonymous_api, settings):
    answers = [log_in(anonymous_api, username=f"user{n}", password="wrong").status_code for n in range(12)]
    assert answers[:10] == [403] * 10
    assert answers[10:] == [429] * 2


def test_everything_else_needs_a_token(anonymous_api):
    for path in ("models/", "hardware/", "hosts/", "runs/", "compare/"):
        answer = anonymous_api.read(path)
        assert answer.status_code == 401
        assert answer.json()["code"] == "not_authenticated"
        assert answer["WWW-Authenticate"] == "Token"


def test_a_browser_session_needs_the_token_against_forgery(owner):
    browser = ApiClient()
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    assert browser.read("runs/").status_code == 200
    assert browser.send("runs/", {}).status_code == 403
