"""An endpoint from its address to its abilities, in a real browser, with the portal's own worker and a real server: desktop and phone, with
the keyboard's order, without JavaScript, light and dark."""

from __future__ import annotations

import re

import pytest

from tests.browser.audit import complaints
from tests.browser.conftest import DESKTOP, PHONE, assert_no_sideways_scroll, log_in, open_window
from tests.endpoints.servers import running

SECRET = "sk-Zq7-never-to-be-found-in-the-browser"


@pytest.fixture(scope="module")
def server():
    with running() as (base, _):
        yield base


@pytest.fixture(scope="module")
def lab(browser, portal):
    """The administrator opened this machine for endpoints."""
    window = open_window(browser, DESKTOP)
    log_in(window, portal)
    page = window.page
    page.goto(f"{portal.url}/admin/endpoints/privatenetwork/add/")
    page.fill("input[name=name]", "This machine")
    page.fill("input[name=network]", "127.0.0.0/8")
    page.click("input[name=_save]")
    page.wait_for_url(re.compile(r"/privatenetwork/$"))
    page.context.close()


def enter(page, portal, base: str, name: str, private: bool = True) -> None:
    page.goto(f"{portal.url}/endpoints/new/")
    page.fill("#id_name", name)
    page.fill("#id_url", base)
    page.fill("#id_key", SECRET)
    page.set_checked("#id_private", private)
    page.click("form.panel button[type=submit]")


def test_from_an_address_to_what_the_server_can_do(visit, portal, lab, server):
    page = visit.page
    enter(page, portal, server, "Ours", private=False)
    assert "private or reserved" in page.inner_text("#id_url_error")
    assert page.input_value("#id_name") == "Ours"
    assert page.input_value("#id_key") == ""
    assert_no_sideways_scroll(visit)
    page.check("#id_private")
    page.fill("#id_key", SECRET)
    page.click("form.panel button[type=submit]")

    # The page follows the worker by itself until there is a list to choose from.
    page.wait_for_selector("#id_model", timeout=60_000)
    assert page.locator("#id_model option").all_inner_texts() == ["choose …", "big", "small"]
    page.select_option("#id_model", "small")
    page.click("button:has-text('Take this model')")
    page.wait_for_selector("main .state-badge:has-text('ready')", timeout=60_000)
    table = page.inner_text("[aria-labelledby=abilities-title] table")
    assert re.search(r"/chat/completions\s+yes\s+the one that is used", table)
    assert re.search(r"Streams\s+yes", table)
    assert_no_sideways_scroll(visit)
    assert SECRET not in page.content()

    page.click("button:has-text('Delete')")
    page.click("button:has-text('Undo')")
    page.wait_for_selector("text=is back")
    page.goto(f"{portal.url}/endpoints/")
    assert page.locator("a.run-name:has-text('Ours')").count() >= 1
    assert_no_sideways_scroll(visit)
    visit.assert_clean()


def test_it_works_without_javascript(browser, portal, lab, server):
    window = open_window(browser, PHONE, java_script_enabled=False)
    log_in(window, portal)
    page = window.page
    enter(page, portal, server, "Without scripts")
    for _ in range(120):
        if page.locator("#id_model").count():
            break
        page.wait_for_timeout(500)
        page.reload()
    page.select_option("#id_model", "big")
    page.click("button:has-text('Take this model')")
    for _ in range(120):
        if page.locator("main .state-badge:has-text('ready')").count():
            break
        page.wait_for_timeout(500)
        page.reload()
    assert page.locator("main .state-badge:has-text('ready')").count()
    window.page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_have_no_serious_violation(browser, portal, lab, server, viewport, theme):
    window = open_window(browser, viewport, color_scheme=theme, bypass_csp=True)
    log_in(window, portal)
    page = window.page
    enter(page, portal, server, f"For axe {theme} {viewport['width']}", private=False)
    found = complaints(page)  # with errors at the fields
    page.check("#id_private")
    page.click("form.panel button[type=submit]")
    page.wait_for_selector("#id_model", timeout=60_000)
    detail = page.url
    for path in (detail, f"{detail}edit/", f"{portal.url}/endpoints/", f"{portal.url}/endpoints/new/"):
        page.goto(path)
        found += complaints(page)
        assert_no_sideways_scroll(window)
    window.page.context.close()
    assert found == []


def test_the_key_is_in_no_file_of_the_portal(portal, lab, server, browser):
    """Last in this file: after everything that was entered above, the database, logs and messages as they lie on the disk."""
    window = open_window(browser, DESKTOP)
    log_in(window, portal)
    enter(window.page, portal, server, "Searched for")
    window.page.wait_for_selector("#id_model", timeout=60_000)
    window.page.context.close()
    files = [path for path in portal.data.rglob("*") if path.is_file() and "static" not in path.parts]
    assert any(path.name == "db.sqlite3" for path in files)
    assert any(path.name == "field_keys" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
