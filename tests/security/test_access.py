"""Every address, as everybody: the answers of ``access_table``."""

from __future__ import annotations

import re

import pytest
from django.urls import URLPattern, get_resolver, reverse

from tests.security.access_table import API, LOGIN, PAGES, TABLE, Case
from tests.security.cast import SECRET_TITLE, WHO, browser_of, make_world, script_of


def addresses(resolver=None, namespace="") -> dict[str, str]:
    """Name with namespace → pattern, of every address that the portal answers."""
    found = {}
    for item in (resolver or get_resolver()).url_patterns:
        if isinstance(item, URLPattern):
            if namespace == "admin:" and not item.name:
                continue  # the admin's own redirects
            assert item.name, f"{item.pattern} has no name"
            found[f"{namespace}{item.name}"] = str(item.pattern)
        else:
            found |= addresses(item, f"{namespace}{item.namespace}:" if item.namespace else namespace)
    return found


def test_every_address_has_a_row_in_the_table():
    known = {name for name in addresses() if not name.startswith("admin:")}
    assert known - set(TABLE) == set(), "new addresses: write down who may see them"
    assert set(TABLE) - known == set(), "rows of addresses that are gone"


@pytest.fixture
def world(owner, teammate, team):
    return make_world(owner, team)


@pytest.fixture
def people(owner, teammate, stranger, staff):
    return {"anonymous": None, "stranger": stranger, "teammate": teammate, "staff": staff, "owner": owner}


def filled(names: dict[str, str], world: dict[str, str]) -> dict[str, str]:
    return {key: value.format(**world) for key, value in names.items()}


def ask(client, name: str, case: Case, world: dict[str, str]):
    """The answer; an API gets JSON."""
    path = reverse(name, kwargs=filled(case.args, world))
    if case.method == "get":
        return client.get(path, filled(case.query, world))
    data = filled(case.data, world)
    more = {"content_type": "application/json"} if name in API else {}
    return getattr(client, case.method)(path, data, **more)


def describe(response) -> str | int:
    if response.status_code == 302 and response["Location"].startswith("/accounts/login/?next="):
        return LOGIN
    return response.status_code


ROWS = [
    pytest.param(name, case, id=f"{name}-{number}-{case.method}")
    for name, cases in TABLE.items()
    for number, case in enumerate(cases)
]


@pytest.mark.parametrize(("name", "case"), ROWS)
def test_access(name, case, world, people):
    got = {}
    wanted = dict(zip(WHO, case.answers, strict=True))
    for who, user in people.items():
        client = script_of(user) if name in API else browser_of(user)
        response = ask(client, name, case, world)
        assert_headers(response)
        got[who] = describe(response)
    wrong = {
        who: f"{answer}, not {wanted[who]}"
        for who, answer in got.items()
        if answer not in (wanted[who] if isinstance(wanted[who], tuple) else (wanted[who],))
    }
    assert not wrong, f"{name} {case.method} {case.args or case.query}: {wrong}"


CHANGES = [row for row in ROWS if row.values[1].method != "get" and row.values[0] not in ("api:login",)]


@pytest.mark.parametrize(("name", "case"), CHANGES)
def test_changes_by_a_browser_need_the_token_against_forgery(name, case, world, owner):
    """Also in the API: a session cookie alone must not be enough."""
    response = ask(browser_of(owner, enforce_csrf_checks=True), name, case, world)
    assert response.status_code == 403


def test_lists_show_only_what_one_may_see(world, people):
    for who, hidden in {"stranger": ["private", "team"], "teammate": ["private"], "staff": ["private", "team"]}.items():
        for name in (
            "dashboard",
            "runs:list",
            "runs:csv",
            "runs:json",
            "api:runs",
            "api:models",
            "catalog:list",
            "explore:page",
            "explore:sweeps",
            "endpoints:list",
            "endpoints:csv",
            "api:endpoints",
            "cloud:list",
            "api:cloud-connections",
        ):
            client = script_of(people[who]) if name in API else browser_of(people[who])
            text = read(client.get(reverse(name)))
            for key in [*hidden, "binned", "upload", "own_hardware", "sweep", "endpoint", "connection"]:
                assert world[key] not in text, (who, name, key)


def test_a_comparison_leaves_out_what_one_may_not_see(world, people):
    for name in ("runs:compare", "runs:compare-csv", "runs:compare-json"):
        query = {"runs": f"{world['private']},{world['team']},{world['public']}"}
        client = browser_of(people["stranger"])
        assert SECRET_TITLE not in read(client.get(reverse(name), query)), name
        assert SECRET_TITLE in read(browser_of(people["owner"]).get(reverse(name), query)), name


def read(response) -> str:
    return response.getvalue().decode()


ADMIN = sorted(name for name in addresses() if name.startswith("admin:"))


def test_the_admin_is_for_staff(people):
    """Its addresses come and go with the models; that each is closed to others does not depend on which."""
    assert len(ADMIN) > 10
    for name in ADMIN:
        for args in ([], ["1"], ["auth"], ["1", "1"]):
            try:
                path = reverse(name, args=args)
                break
            except Exception:
                continue
        else:
            continue
        if name in ("admin:login", "admin:logout", "admin:jsi18n"):
            continue
        for who in ("anonymous", "stranger", "owner"):
            response = browser_of(people[who]).get(path)
            assert response.status_code in (302, 403, 404), (name, who)
    assert browser_of(people["staff"]).get(reverse("admin:index")).status_code == 200


def test_what_cannot_be_seen_and_what_does_not_exist_look_the_same(world, people):
    for name in ("runs:detail", "runs:run-csv", "runs:run-json", "runs:status"):
        client = browser_of(people["stranger"])
        hidden = client.get(reverse(name, args=[world["private"]]))
        missing = client.get(reverse(name, args=["A" * 16]))
        assert hidden.status_code == missing.status_code == 404
        assert without_chance(hidden, world["private"]) == without_chance(missing, "A" * 16)


def without_chance(response, public_id: str) -> str:
    """The page without what differs each time: the token against forgery, and the id that was asked for."""
    return re.sub(r'(csrfmiddlewaretoken" value=")[^"]+', r"\1", response.content.decode()).replace(public_id, "")


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": ("same-origin", "unsafe-none"),
    "Referrer-Policy": ("same-origin", "no-referrer"),
}


def assert_headers(response) -> None:
    """Of every answer, also redirects, refusals and errors."""
    for header, wanted in HEADERS.items():
        assert response[header] in (wanted if isinstance(wanted, tuple) else (wanted,)), header
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_pages_have_no_inline_script_or_style(world, owner):
    """The policy would block them: the page would be broken without an error on the server."""
    for name, cases in PAGES.items():
        for case in cases:
            if case.method != "get":
                continue
            response = ask(browser_of(owner), name, case, world)
            if response.status_code != 200 or "html" not in response.get("Content-Type", ""):
                continue
            page = response.content.decode()
            for tag in page.split("<script")[1:]:
                head, _, body = tag.partition(">")
                if "application/json" not in head:
                    assert "src=" in head, (name, tag[:80])
                    assert not body.split("</script>")[0].strip(), (name, tag[:80])
            assert "<style" not in page, name
            assert ' style="' not in page, name
            assert " onclick=" not in page, name
            assert "javascript:" not in page, name


def test_robots_are_not_told_where_links_are(client):
    """A list of what must not be found is a map to it."""
    assert b"/s/" not in client.get("/robots.txt").content
