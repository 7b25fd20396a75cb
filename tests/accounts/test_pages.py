"""Accounts: log in and out, lock-out, password, API tokens, teams, and the admin of users."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.test import APIRequestFactory

from llmcompare.accounts import services
from llmcompare.accounts.models import Membership, Team, User
from llmcompare.accounts.services import create_token
from llmcompare.common.errors import FieldErrors

LOGIN = "/accounts/login/"
RIGHT = "correct horse battery"


def log_in(client, password, username="owner", **extra):
    return client.post(LOGIN, {"username": username, "password": password}, **extra)


def user_of(token: str):
    """Whom the API takes the bearer of ``token`` for."""
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Token {token}")
    return TokenAuthentication().authenticate(request)[0]


# --- log in and out ---


def test_logging_in_leads_to_the_page_that_was_asked_for(owner, anonymous_client):
    answer = anonymous_client.get("/accounts/tokens/")
    assert answer.url == f"{LOGIN}?next=/accounts/tokens/"
    answer = anonymous_client.post(LOGIN, {"username": "owner", "password": RIGHT, "next": "/accounts/tokens/"})
    assert answer.url == "/accounts/tokens/"
    assert anonymous_client.get("/accounts/tokens/").status_code == 200


def test_another_site_is_no_page_to_go_on_to(owner, anonymous_client):
    answer = anonymous_client.post(LOGIN, {"username": "owner", "password": RIGHT, "next": "https://evil.example/"})
    assert answer.url == "/"


def test_a_wrong_password_is_said_and_the_name_kept(owner, anonymous_client):
    page = log_in(anonymous_client, "wrong")
    html = page.content.decode()
    assert page.status_code == 200
    assert 'value="owner"' in html
    assert 'role="alert"' in html


def test_logging_out_takes_a_post(owner_client):
    assert owner_client.get("/accounts/logout/").status_code == 405
    owner_client.post("/accounts/logout/")
    assert owner_client.get("/accounts/profile/").status_code == 302


def test_repeated_wrong_passwords_lock_this_user_from_this_address_only(owner, stranger, anonymous_client, settings):
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        assert log_in(anonymous_client, "wrong").status_code == 200
    locked = log_in(anonymous_client, "wrong")
    assert locked.status_code == 429
    assert "Too many wrong passwords" in locked.content.decode()
    assert log_in(anonymous_client, RIGHT).status_code == 429  # even the right one
    assert log_in(anonymous_client, RIGHT, username="stranger").status_code == 302
    assert log_in(anonymous_client, RIGHT, REMOTE_ADDR="10.1.2.3").status_code == 302


# --- profile and password ---


def test_the_profile_changes_ones_own_name_and_nothing_else(owner, owner_client):
    owner_client.post("/accounts/profile/", {"first_name": "Ada", "email": "ada@example.org", "is_staff": "on"})
    owner.refresh_from_db()
    assert (owner.first_name, owner.email, owner.is_staff) == ("Ada", "ada@example.org", False)
    page = owner_client.post("/accounts/profile/", {"first_name": "Ada", "email": "no address"})
    assert list(page.context["form"].errors) == ["email"]


def test_a_new_password_works_and_the_old_one_does_not(owner, owner_client, anonymous_client):
    data = {"old_password": RIGHT, "new_password1": "a much longer phrase 9", "new_password2": "a much longer phrase 9"}
    assert list(owner_client.post("/accounts/password/", data | {"old_password": "x"}).context["form"].errors) == [
        "old_password"
    ]
    assert owner_client.post("/accounts/password/", data).status_code == 302
    assert owner_client.get("/accounts/profile/").status_code == 200  # still logged in here
    assert log_in(anonymous_client, RIGHT).status_code == 200
    assert log_in(anonymous_client, "a much longer phrase 9").status_code == 302


# --- API tokens ---


def test_a_token_is_shown_once_works_and_can_be_revoked(owner, owner_client):
    page = owner_client.post("/accounts/tokens/", {"days": "30"})
    token = page.context["token"]
    assert token in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert user_of(token) == owner
    stored = AuthToken.objects.get()
    assert timedelta(days=29) < stored.expiry - timezone.now() <= timedelta(days=30)

    html = owner_client.get("/accounts/tokens/").content.decode()
    assert token not in html
    assert stored.token_key[:8] in html

    owner_client.post("/accounts/tokens/revoke/", {"digest": stored.digest})
    assert not AuthToken.objects.exists()
    with pytest.raises(Exception, match="Invalid token"):
        user_of(token)


def test_a_token_without_end_and_an_unknown_duration(owner_client):
    owner_client.post("/accounts/tokens/", {"days": ""})
    assert AuthToken.objects.get().expiry is None
    page = owner_client.post("/accounts/tokens/", {"days": "9999"})
    assert list(page.context["form"].errors) == ["days"]
    assert AuthToken.objects.count() == 1


def test_tokens_are_made_and_revoked_by_post_only(owner, owner_client):
    owner_client.get("/accounts/tokens/", {"days": "30"})
    assert not AuthToken.objects.exists()
    token, _ = create_token(owner=owner, days=1)
    assert owner_client.get("/accounts/tokens/revoke/", {"digest": token.digest}).status_code == 405
    assert AuthToken.objects.count() == 1


def test_nobody_sees_or_revokes_the_token_of_another(owner, stranger_client, staff_client):
    token, _ = create_token(owner=owner, days=1)
    for other in (stranger_client, staff_client):
        assert token.token_key[:8] not in other.get("/accounts/tokens/").content.decode()
        assert other.post("/accounts/tokens/revoke/", {"digest": token.digest}).status_code == 404
    assert AuthToken.objects.count() == 1


def test_there_is_an_end_to_tokens_and_expired_ones_do_not_count(owner, owner_client, monkeypatch):
    monkeypatch.setattr(services, "MAX_TOKENS_PER_USER", 1)
    create_token(owner=owner, days=1)
    with pytest.raises(FieldErrors, match="as many as one user may"):
        create_token(owner=owner, days=1)
    page = owner_client.post("/accounts/tokens/", {"days": "1"})
    assert "as many as one user may" in page.content.decode()
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    create_token(owner=owner, days=1)
    assert "expired" in owner_client.get("/accounts/tokens/").content.decode()


# --- teams ---


def test_the_teams_page_shows_ones_own_teams_only(owner_client, stranger_client, teammate, team):
    html = owner_client.get("/accounts/teams/").content.decode()
    assert "teammate" in html
    assert "Viewer" in html
    html = stranger_client.get("/accounts/teams/").content.decode()
    assert "teammate" not in html
    assert "You are in no team yet" in html


def test_the_teams_page_takes_a_fixed_number_of_queries(owner, owner_client, teammate, django_assert_num_queries):
    for number in range(3):
        Membership.objects.create(team=Team.objects.create(name=f"T{number}", slug=f"t{number}"), user=owner)
    with django_assert_num_queries(4):  # session, user, teams, members with their users
        owner_client.get("/accounts/teams/")


# --- admin ---


def test_staff_make_users_and_teams_in_the_admin(staff_client, owner):
    add = reverse("admin:accounts_user_add")
    password = "a much longer phrase 9"
    data = {"username": "newcomer", "password1": password, "password2": password, "usable_password": "true"}
    assert staff_client.post(add, data).status_code == 302
    newcomer = User.objects.get(username="newcomer")
    assert newcomer.check_password(password)
    assert staff_client.get(reverse("admin:accounts_user_change", args=[newcomer.pk])).status_code == 200

    members = {"membership_set-TOTAL_FORMS": "1", "membership_set-INITIAL_FORMS": "0"}
    members |= {"membership_set-0-user": owner.pk, "membership_set-0-role": "editor"}
    answer = staff_client.post(reverse("admin:accounts_team_add"), {"name": "Blue", "slug": "blue"} | members)
    assert answer.status_code == 302
    assert Membership.objects.get(team__slug="blue").role == "editor"
    for name in ("accounts_user", "accounts_team"):
        assert staff_client.get(reverse(f"admin:{name}_changelist")).status_code == 200


def test_the_admin_is_for_staff(owner_client):
    assert owner_client.get(reverse("admin:index")).status_code == 302
