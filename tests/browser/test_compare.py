"""The comparison in a real Chromium: one selection on every side, by mouse and keyboard, in the address; paper; the same for visitors."""

from __future__ import annotations

import json

import pytest

from llmcompare.sharing.services import create_link
from tests import factories
from tests.browser.conftest import DESKTOP, DRAWN, PHONE, assert_no_sideways_scroll, follow, until
from tests.browser.test_run_page import STORED, Pages, params

GPT2, LLAMA = (
    json.loads((STORED / f"{name}.json").read_text()) for name in ("estimate_gpt2", "estimate_llama3_70b_h100")
)
AT = "document.querySelectorAll('[data-graph]')[{at}].cy.nodes('.at').map(n => n.data('node').match)"
OPEN = "&graphs=1&open0=*&open1=*"


@pytest.fixture
def pages(browser, live_server, transactional_db):
    made = Pages(browser, live_server, factories.make_user("reader"))
    made.runs = [factories.make_run(made.user, document=document) for document in (GPT2, LLAMA)]
    yield made
    for window in made.windows:
        window.page.context.close()


def address(pages, more: str = "") -> str:
    return f"{pages.server.url}/compare/?runs={','.join(run.public_id for run in pages.runs)}{more}"


def tap(page, graph: int, match: str) -> None:
    """A click in the middle of the node, where it is on the screen."""
    place = page.evaluate(
        """([at, match]) => {
          const holder = document.querySelectorAll("[data-graph]")[at], cy = holder.cy;
          const node = cy.nodes().filter(n => n.data("node").match === match && !n.data("node").open)[0];
          cy.center(node);
          const middle = holder.getBoundingClientRect().y + node.renderedPosition().y - innerHeight / 2;
          window.scrollBy({top: middle, behavior: "instant"});
          const box = holder.getBoundingClientRect(), p = node.renderedPosition();
          // The graph learns where it is now from the event of scrolling, which comes with the next frame.
          return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done({x: box.x + p.x, y: box.y + p.y}))));
        }""",
        [graph, match],
    )
    page.mouse.click(place["x"], place["y"])


def test_a_node_selects_its_counterpart_everywhere(pages):
    window = pages.open(address(pages, OPEN))
    page = window.page
    until(page, DRAWN)
    tap(page, 0, "head lm_head")
    until(page, "new URLSearchParams(location.search).get('at') === 'head lm_head'")
    assert page.evaluate(AT.format(at=0)) == page.evaluate(AT.format(at=1)) == ["head lm_head"]
    assert page.locator("tr.is-selected[data-at='head lm_head']").count() == 1
    assert "lm_head" in page.inner_text("[data-selected]")
    kept = page.evaluate(
        "document.querySelector('[data-chart=roofline-data]').data.flatMap(t => (t.selectedpoints || []).map(i => t.customdata[i][2]))"
    )
    assert kept
    assert {key.split("|")[1] for key in kept} == {"lm_head"}
    assert {key.split("|")[0] for key in kept} == {"0", "1"}
    # The other graph has brought it into view.
    assert page.evaluate(
        "(() => { const cy = document.querySelectorAll('[data-graph]')[1].cy, p = cy.nodes('.at')[0].position(), e = cy.extent();"
        " return p.y > e.y1 && p.y < e.y2; })()"
    )
    # The address is the view: whoever opens it sees the same, and a switch keeps it.
    page.reload()
    until(page, DRAWN)
    until(page, f"({AT.format(at=1)}).length === 1")
    page.click("#layers .layer-switch a:text-is('FLOPs')")
    page.wait_for_url("**by=flops**")
    assert params(page)["at"] == "head lm_head"
    page.click("[data-selected] a")
    until(page, "!new URLSearchParams(location.search).has('at')")
    assert page.locator("tr.is-selected").count() == 0
    window.assert_clean()


def test_the_keyboard_alone_selects_in_graphs_and_tables(pages):
    window = pages.open(address(pages, "&graphs=1"))
    page = window.page
    until(page, DRAWN)
    page.locator("[data-graph]").nth(1).focus()
    for _ in range(4):  # past the tokens that come in and go out, which are no part of the model
        page.keyboard.press("ArrowDown")
    until(page, "new URLSearchParams(location.search).has('at')")
    chosen = params(page)["at"]
    assert chosen in page.evaluate(AT.format(at=1))
    page.locator("a.layer-select[data-select='role:mlp']").focus()
    page.keyboard.press("Enter")
    until(page, "new URLSearchParams(location.search).get('at') === 'role:mlp'")
    assert page.locator("tr.is-selected").count() > 2
    for at in (0, 1):
        assert page.evaluate(AT.format(at=at))
    page.keyboard.press("Enter")
    until(page, "!new URLSearchParams(location.search).has('at')")
    window.assert_clean()


def test_a_module_is_opened_with_what_is_selected(pages):
    window = pages.open(address(pages, "&graphs=1&open1=-&at=role:mlp"))
    page = window.page
    until(page, DRAWN)
    page.locator("[data-graph]").nth(1).focus()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
        if page.locator("[data-graph-card]:not([hidden]) a.btn:text-is('Open this module')").count():
            break
    page.keyboard.press("Enter")
    until(page, "new URLSearchParams(location.search).get('open1') !== '-'")
    assert params(page).get("at")
    until(page, DRAWN)
    window.assert_clean()


def test_a_point_of_the_rooflines_selects(pages):
    window = pages.open(address(pages))
    page = window.page
    until(page, DRAWN)
    point = page.locator("[data-chart=roofline-data] .scatterlayer .points path").last
    point.scroll_into_view_if_needed()
    point.click(force=True)
    until(page, "new URLSearchParams(location.search).has('at')")
    assert page.locator("tr.is-selected").count() >= 1
    window.assert_clean()


def test_without_javascript_a_row_is_selected_by_its_link(pages):
    window = pages.open(address(pages), java_script_enabled=False)
    page = window.page
    follow(page, "a.layer-select[data-select='role:norm']")
    assert params_of(page.url)["at"] == ["role:norm"]
    assert page.locator("tr.is-selected[data-at='role:norm']").count() == 1
    assert page.locator("[data-selected]").is_visible()
    follow(page, "[data-selected] a")
    assert "at" not in params_of(page.url)


def params_of(url: str) -> dict[str, list[str]]:
    from urllib.parse import parse_qs, urlsplit

    return parse_qs(urlsplit(url).query)


def test_paper_has_everything_and_nothing_to_press(pages):
    window = pages.open(address(pages, "&graphs=1"), DESKTOP, color_scheme="dark")
    page = window.page
    until(page, DRAWN)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert not page.locator(".site-header").is_visible()
    assert not page.locator(".layer-switches").first.is_visible()
    assert page.locator("[data-chart=bar-data] .main-svg").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_visitor_has_the_same_charts_and_the_same_selection(pages, browser, viewport):
    from tests.browser.conftest import open_window

    _, token = create_link(owner=pages.user, runs=pages.runs)
    window = open_window(browser, viewport)
    pages.windows.append(window)
    page = window.page
    page.goto(f"{pages.server.url}/s/{token}/?graphs=1&open0=*&open1=*")
    until(page, DRAWN)
    assert page.locator("[data-chart]").count() == 3
    tap(page, 1, "head lm_head")
    until(page, "new URLSearchParams(location.search).get('at') === 'head lm_head'")
    assert page.evaluate(AT.format(at=0)) == ["head lm_head"]
    assert_no_sideways_scroll(window)
    window.assert_clean()
