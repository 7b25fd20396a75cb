"""The written and the interactive documentation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.api.test_schema import OPERATIONS
from tests.browser.conftest import CHROMIUM_FLAGS, chromium_path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_is_in_the_guide(operation):
    assert operation in GUIDE.read_text()


@pytest.mark.slow
@pytest.mark.browser
def test_the_interactive_page_works_under_the_strict_policy(live_server):
    """No inline script or style, nothing from another host: the browser has nothing to complain about."""
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        assert os.environ.get("CI") != "true", "Chromium is not installed"
        pytest.skip("Chromium is not installed")
    complaints = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        page = chromium.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.expose_function("complain", lambda text: complaints.append(text))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => window.complain(e.violatedDirective));"
        )
        page.on(
            "request", lambda r: complaints.append(r.url) if not r.url.startswith((live_server.url, "data:")) else None
        )
        page.goto(live_server.url + "/api/v1/docs/")
        page.wait_for_selector(".opblock")
        assert page.locator(".opblock").count() == len(OPERATIONS)
        page.click("[id$=run_analysis] .opblock-summary")
        page.wait_for_selector(".try-out__btn")
        page.click(".try-out__btn")
        page.wait_for_selector(".opblock .execute")
        chromium.close()
    assert complaints == []
