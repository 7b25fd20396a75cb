"""The switch of languages, as people use it: with scripts and without them, at desk and phone width."""

from __future__ import annotations

import pytest

from tests.browser.conftest import DESKTOP, PHONE, assert_no_sideways_scroll, follow, log_in, open_window


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def reader(request, browser, portal):
    """A window of somebody whose browser asks for Chinese; the account is as it was afterwards."""
    window = open_window(browser, DESKTOP, locale="zh-CN", java_script_enabled=request.param)
    yield window
    window.page.goto(portal.url + "/accounts/profile/")
    window.page.select_option("#id_language", "")
    window.page.click("main form button[type=submit]")
    window.page.context.close()


def heading(page) -> str:
    return page.inner_text("h1")


def choose(page, language: str) -> None:
    page.click(".language-menu summary")
    follow(page, f".language-menu button[value={language}]")


def test_a_reader_changes_the_language_and_it_stays(reader, portal):
    page = reader.page
    page.goto(portal.url + "/accounts/login/?next=/hardware/")
    assert (heading(page), page.get_attribute("html", "lang")) == ("登录", "zh-hans")
    choose(page, "en")
    assert (heading(page), page.get_attribute("html", "lang")) == ("Log in", "en")
    assert page.url.endswith("/accounts/login/?next=/hardware/")
    page.fill("input[name=username]", portal.username)
    page.fill("input[name=password]", portal.password)
    follow(page, "button.btn-primary[type=submit]")
    assert heading(page) == "Hardware"
    page.goto(portal.url + "/hardware/?q=h100&sort=memory")
    choose(page, "zh-hans")
    assert heading(page) == "硬件"
    assert page.url.endswith("/hardware/?q=h100&sort=memory")
    assert page.locator("main table a.run-name").first.inner_text().startswith("NVIDIA H100")
    page.context.clear_cookies(name="django_language")
    page.goto(portal.url + "/models/")
    assert heading(page) == "模型"
    reader.assert_clean()


def test_scripts_speak_the_language_of_the_page(browser, portal):
    window = open_window(browser, PHONE)
    log_in(window, portal)
    page = window.page
    page.context.add_cookies([{"name": "django_language", "value": "zh-hans", "url": portal.url}])
    page.goto(portal.url + "/models/")
    assert page.evaluate("lcText('tick-many', {count: 3})") == "已勾选 3 个运行。"
    assert page.evaluate("lcText('no-such-text')") == "no-such-text"
    page.click(".navbar-toggler")
    page.click(".language-menu summary")
    page.locator(".language-menu button[value=en]").wait_for(state="visible")
    assert page.inner_text(".language-menu button[value=en]") == "English"
    assert_no_sideways_scroll(window)
    window.assert_clean()
    page.context.close()
