"""The interactive documentation of the API under the policy of all pages."""

from __future__ import annotations

from tests.api.test_schema import OPERATIONS
from tests.browser.conftest import DESKTOP, open_window


def test_the_interactive_page_works_under_the_strict_policy(browser, live_server):
    """No inline script or style, nothing from another host: the browser has nothing to complain about."""
    window = open_window(browser, DESKTOP)
    page, elsewhere = window.page, []
    page.on("request", lambda r: elsewhere.append(r.url) if not r.url.startswith((live_server.url, "data:")) else None)
    page.goto(live_server.url + "/api/v1/docs/")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() == len(OPERATIONS)
    page.click("[id$=run_analysis] .opblock-summary")
    page.wait_for_selector(".try-out__btn")
    page.click(".try-out__btn")
    page.wait_for_selector(".opblock .execute")
    window.assert_clean()
    assert elsewhere == []
    page.context.close()
