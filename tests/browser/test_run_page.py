"""The run page in a real Chromium: parts that fold, one selection everywhere, keyboard, paper, no script, a model of 2,000 nodes.

Served by Django's live server with stored documents: nothing has to be measured for it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import factories
from tests.browser.audit import complaints
from tests.browser.conftest import (
    DESKTOP,
    DRAWN,
    PHONE,
    TABLET,
    assert_no_sideways_scroll,
    follow,
    open_parts,
    open_window,
    show_in,
    until,
)
from tests.conftest import client_for
from tests.run_page import documents

STORED = Path(__file__).parents[1] / "data" / "documents"
MLP = "model.layers.0.mlp"


class Pages:
    """Windows of somebody who is signed in, and the addresses of the runs that they may see."""

    def __init__(self, browser, server, user) -> None:
        self.browser, self.server, self.user = browser, server, user
        self.windows: list = []

    def run(self, document) -> str:
        run = factories.make_run(self.user, document=document, kind=document["kind"])
        return f"{self.server.url}/runs/{run.public_id}/"

    def stored(self, name: str) -> str:
        return self.run(json.loads((STORED / f"{name}.json").read_text()))

    def open(self, address: str, viewport=DESKTOP, **options):
        window = open_window(self.browser, viewport, **options)
        session = client_for(self.user).cookies["sessionid"].value
        window.page.context.add_cookies([{"name": "sessionid", "value": session, "url": self.server.url}])
        window.page.goto(address)
        self.windows.append(window)
        return window


@pytest.fixture
def pages(browser, live_server, transactional_db):
    made = Pages(browser, live_server, factories.make_user("reader"))
    yield made
    for window in made.windows:
        window.page.context.close()


def params(page) -> dict[str, str]:
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")


def at_of(page) -> str | None:
    return params(page).get("at")


@pytest.mark.parametrize("viewport", [DESKTOP, TABLET, PHONE], ids=["desktop", "tablet", "phone"])
def test_every_view_is_clean(pages, viewport):
    """No console error, no refused style, no sideways scroll, nothing serious for axe in either theme, with every part open."""
    address = pages.stored("measure_smollm2")
    window = pages.open(address, viewport)
    for query in ("", "?per=module&view=icicle&area=memory", "?beside=1&by=bound&stage=decode", f"?at={MLP}&per=stage"):
        window.page.goto(address + query)
        open_parts(window.page)
        window.page.wait_for_selector(".chart-roofline .main-svg")
        window.page.wait_for_selector("[data-graph] canvas")
        assert_no_sideways_scroll(window)
    for theme in ("dark", "light"):
        show_in(window.page, theme)
        assert complaints(window.page) == []
    window.assert_clean()


def test_a_phone_shows_titles_and_one_tap_opens_the_roofline(pages):
    window = pages.open(pages.stored("measure_smollm2"), PHONE)
    page = window.page
    assert page.locator("details.run-fold[open]").count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") < 5 * PHONE["height"]
    page.click(".run-toc a[href='#roofline']")
    page.wait_for_selector(".chart-roofline .main-svg")
    until(page, f"document.querySelector('#roofline').getBoundingClientRect().top < {PHONE['height'] / 2}")
    until(page, "new URLSearchParams(location.search).get('parts') === 'roofline'")
    # The address holds what was opened: the same page for whoever it is sent to, whatever their screen.
    page.reload()
    page.wait_for_selector(".chart-roofline .main-svg")
    assert page.locator("details.run-fold[open]").evaluate_all("found => found.map(d => d.dataset.part)") == [
        "roofline"
    ]
    page.click("details[data-part=roofline] > summary")
    until(page, "!new URLSearchParams(location.search).has('parts')")
    window.assert_clean()


def test_a_desktop_opens_everything_and_remembers_what_was_closed(pages):
    window = pages.open(pages.stored("measure_smollm2"))
    page = window.page
    assert page.locator("details.run-fold:not([open])").count() == 0
    page.click("details[data-part=memory] > summary")
    until(page, "new URLSearchParams(location.search).has('parts')")
    assert "memory" not in params(page)["parts"].split(",")
    # A switch elsewhere keeps it, and so does the next page load.
    page.click("#network .run-switch a:text-is('decode')")
    page.wait_for_selector("table[aria-label='Modules of the decode stage']")
    assert "memory" not in params(page)["parts"].split(",")
    assert params(page)["stage"] == "decode"
    page.reload()
    assert page.locator("details[data-part=memory]:not([open])").count() == 1
    window.assert_clean()


def test_what_is_selected_in_one_place_is_selected_everywhere(pages):
    window = pages.open(pages.stored("measure_smollm2"))
    page = window.page
    page.wait_for_selector("[data-graph] canvas")
    page.wait_for_selector(".chart-roofline .main-svg")
    page.click(f".areas-wide a[data-path='{MLP}.gate_proj'] rect")
    assert at_of(page) == f"{MLP}.gate_proj"
    assert page.locator(f".layer-table tr.is-selected[data-path='{MLP}.gate_proj']").count() == 1
    assert page.locator(f".pair-table tr.is-selected[data-path='{MLP}.gate_proj']").count() == 1
    groups = page.locator("#operators tr.is-selected").evaluate_all("rows => rows.map(r => r.dataset.group)")
    assert set(groups) == {"mlp gate_proj"}
    assert page.evaluate("document.querySelector('[data-graph]').cy.nodes('.at').map(n => n.data('node').path)") == [
        f"{MLP}.gate_proj"
    ]
    kept = page.evaluate(
        "document.querySelector('.chart-roofline').data.flatMap(t => (t.selectedpoints || []).map(i => t.customdata[i][0]))"
    )
    assert {key.split("|")[1] for key in kept} == {"mlp gate_proj", "mlp.gate_proj"}
    # It is part of the address, and switches keep it.
    page.click("#areas .run-switch a:text-is('icicle')")
    until(page, "new URLSearchParams(location.search).get('view') === 'icicle'")
    assert at_of(page) == f"{MLP}.gate_proj"
    page.reload()
    page.wait_for_selector(f".layer-table tr.is-selected[data-path='{MLP}.gate_proj']")
    window.assert_clean()


def test_a_click_on_a_point_of_the_roofline_selects_its_modules(pages):
    window = pages.open(pages.stored("estimate_llama3_70b_h100") + "?per=module&points=prefill")
    page = window.page
    page.wait_for_selector(".chart-roofline .main-svg")
    point = page.locator(".chart-roofline .scatterlayer .points path").last
    point.scroll_into_view_if_needed()
    point.click(force=True)
    until(page, "new URLSearchParams(location.search).has('at')")
    assert page.locator(f".layer-table tr.is-selected[data-path='{at_of(page)}']").count() == 1
    window.assert_clean()


def test_modules_open_by_click_and_the_view_is_its_address(pages):
    window = pages.open(pages.stored("estimate_llama3_70b_h100") + "?open=-")
    page = window.page
    page.wait_for_selector("[data-graph] canvas")
    shown = "JSON.parse(document.getElementById('network-graph').textContent).nodes.length"
    before = page.evaluate(shown)
    page.focus("[data-graph]")
    page.keyboard.press("ArrowDown")
    for _ in range(before):
        if page.locator("[data-graph-card] a.btn:text-is('Open this module')").count():
            break
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "new URLSearchParams(location.search).get('open') !== '-'")
    until(page, f"{shown} > {before}")
    assert "model" in params(page)["open"]
    page.reload()
    assert page.evaluate(shown) > before
    window.assert_clean()


def test_the_keyboard_alone_reaches_areas_folds_and_tables(pages):
    window = pages.open(pages.stored("measure_smollm2"))
    page = window.page
    page.focus("details[data-part=areas] > summary")
    page.keyboard.press("Enter")
    assert page.locator("details[data-part=areas]:not([open])").count() == 1
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.areas') !== null"):
            break
    path = page.evaluate("document.activeElement.dataset.path")
    page.keyboard.press("Enter")
    assert (at_of(page) or ".").strip(".") == path
    window.assert_clean()


def test_reading_works_without_javascript(pages):
    address = pages.stored("measure_smollm2")
    window = pages.open(address, java_script_enabled=False)
    page = window.page
    assert page.locator("details.run-fold:not([open])").count() == 0
    assert page.locator(".areas-wide a.cell").first.is_visible()
    assert page.locator(".pair-table tbody tr").first.is_visible()
    assert not page.locator(".chart-roofline").is_visible()
    with page.expect_navigation(wait_until="load"):
        page.click(f".areas-wide a[data-path='{MLP}.gate_proj'] rect", force=True)
    assert page.url.startswith(f"{address}?at={MLP}.gate_proj")
    assert page.locator(f".layer-table tr.is-selected[data-path='{MLP}.gate_proj']").count() == 1
    follow(page, "#areas .run-switch a:text-is('icicle')")
    assert "view=icicle" in page.url
    assert f"at={MLP}.gate_proj" in page.url


def test_paper_has_every_part_open_and_in_light_colours(pages):
    window = pages.open(pages.stored("measure_smollm2"), PHONE, color_scheme="dark")
    page = window.page
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.run-fold:not([open])").count() == 0
    assert (
        page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--tone-compute').trim()")
        == "#b8430a"
    )
    assert page.locator(".areas-wide").first.is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("details.run-fold[open]").count() == 0


def test_a_model_of_two_thousand_nodes_opens_folded(pages):
    """Its time is a benchmark (benchmarks/graph_page.py); here it has to be there at all, and to be looked at."""
    document = documents.unfolded(100)
    assert len(document["graph"]["prefill"]["nodes"]) > 2000
    window = pages.open(pages.run(document))
    page = window.page
    page.wait_for_selector("[data-graph] canvas", timeout=15_000)
    drawn = page.evaluate("document.querySelector('[data-graph]').cy.nodes().length")
    assert 20 < drawn < 60
    page.click("#network .run-links a:text-is('open all')")
    until(
        page,
        "document.querySelector('[data-graph]').cy && document.querySelector('[data-graph]').cy.nodes().length > 60",
    )
    assert page.evaluate("document.querySelector('[data-graph]').cy.nodes().length") <= 500
    assert "stay closed" in page.inner_text("#network")
    window.assert_clean()


def test_figures_are_whole_after_the_window_changed_its_size(pages):
    document = json.loads((STORED / "measure_smollm2.json").read_text())
    document["memory"]["breakdown"] = documents.breakdown(document["memory"]["estimate"])
    window = pages.open(pages.run(document))
    page = window.page
    open_parts(page)
    until(page, DRAWN)
    heights = "Array.from(document.querySelectorAll('.chart .main-svg')).map(svg => svg.closest('.chart').clientHeight - svg.clientHeight)"
    for width in (DESKTOP["width"], 900):
        page.set_viewport_size({"width": width, "height": 700})
        until(page, f"document.querySelector('.chart .main-svg').clientWidth <= {width}")
        spare = page.evaluate(heights)
        assert spare
        assert min(spare) >= -4, "a figure is cut off"
    window.assert_clean()
