"""axe over every page: nothing serious or critical, on a desk and on a phone, light and dark."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import DESKTOP, PHONE, log_in, open_window
from tests.browser.screenshots import find_pages
from tests.browser.test_first_run import SMOLLM2

# drf-spectacular's page is swagger-ui's own markup, the administration Django's.
NOT_OURS = {"api-docs", "admin"}


def start_estimate(visit, portal, model: str, hardware: str) -> None:
    page = visit.page
    page.goto(f"{portal.url}/runs/new/?kind=estimate&model={model}&hardware={hardware}")
    page.click("aside button[type=submit]:has-text('Start')")
    page.wait_for_url(re.compile(r"/runs/[\w-]{16}/"), timeout=60_000)
    page.wait_for_selector("#summary", timeout=120_000)


@pytest.fixture(scope="module")
def filled(browser, portal):
    """A portal with two estimates, so that run and comparison pages have something to show."""
    window = open_window(browser, DESKTOP)
    log_in(window, portal)
    for hardware in ("nvidia-h100-sxm5-80gb", "nvidia-h200-sxm-141gb"):
        start_estimate(window, portal, SMOLLM2, hardware)
    pages = find_pages(window.page, portal.url)
    window.page.context.close()
    return pages


def complaints(page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{page.url}: {v['id']} ({v['impact']}): {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_has_a_serious_violation(browser, portal, filled, viewport, theme):
    window = open_window(
        browser, viewport, color_scheme=theme, bypass_csp=True
    )  # axe is injected; our own policy would refuse it
    log_in(window, portal)
    found: list[str] = []
    for name, path in filled.items():
        if name in NOT_OURS:
            continue
        window.page.goto(portal.url + path)
        if window.page.locator("[data-chart]").count():
            window.page.locator("[data-chart] .main-svg").first.wait_for(state="attached")
        found += complaints(window.page)
    window.page.context.close()
    assert {"run-estimate", "compare-estimates"} <= set(filled)
    assert not found, "\n".join(found)


def test_the_page_before_the_log_in_has_no_serious_violation(browser, portal):
    window = open_window(browser, PHONE, bypass_csp=True)
    window.page.goto(portal.url + "/accounts/login/")
    found = complaints(window.page)
    window.page.context.close()
    assert not found, "\n".join(found)
