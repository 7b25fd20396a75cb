"""What every page has: the frame, the policy, the error pages; and nobody gets in without an account."""

from __future__ import annotations

import pytest
from django.test import RequestFactory
from django.views import defaults

PAGES = ["/", "/runs/", "/runs/new/", "/compare/", "/history/"]


@pytest.mark.parametrize("address", PAGES)
def test_pages_render_for_a_new_user_and_say_the_next_step(owner_client, address):
    response = owner_client.get(address)
    assert response.status_code == 200
    page = response.content.decode()
    assert 'href="/runs/new/"' in page
    assert "Skip to the content" in page
    assert 'name="csrfmiddlewaretoken"' in page  # log out


@pytest.mark.parametrize("address", [*PAGES, "/runs.csv", "/runs.json", "/compare.csv", "/compare.json", "/runs/x.csv"])
def test_anonymous_visitors_are_sent_to_the_login(anonymous_client, address):
    response = anonymous_client.get(address)
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("address", PAGES)
def test_policy_allows_this_host_only(owner_client, address):
    policy = owner_client.get(address)["Content-Security-Policy"]
    assert "script-src 'self';" in policy + ";"
    assert "style-src 'self';" in policy + ";"
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_open_page_is_marked_in_the_navigation(owner_client):
    page = owner_client.get("/compare/").content.decode()
    assert page.count('aria-current="page"') == 1
    assert '<a class="nav-link" href="/compare/" aria-current="page">' in page


@pytest.mark.parametrize(
    ("view", "status"), [(defaults.page_not_found, 404), (defaults.permission_denied, 403), (defaults.bad_request, 400)]
)
def test_error_pages_say_what_to_do_and_not_what_went_wrong_inside(view, status, owner):
    request = RequestFactory().get("/x/")
    request.user = owner
    response = view(request, RuntimeError("secret detail"))
    assert response.status_code == status
    assert b"To the dashboard" in response.content
    assert b"secret detail" not in response.content


def test_server_error_page_needs_nothing():
    response = defaults.server_error(RequestFactory().get("/x/"))
    assert response.status_code == 500
    assert b"Something broke" in response.content


def test_robots_are_not_told_where_shared_links_are(anonymous_client):
    text = anonymous_client.get("/robots.txt").content.decode()
    assert text.startswith("User-agent: *")
    assert "/s/" not in text


def test_pages_are_compressed_for_those_who_take_it(owner_client):
    plain = owner_client.get("/runs/")
    small = owner_client.get("/runs/", headers={"accept-encoding": "gzip"})
    assert small["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in small["Vary"]
    assert len(small.content) < len(plain.content) / 2
    assert "Content-Encoding" not in plain
