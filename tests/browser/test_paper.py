"""On paper: the charts of Explore, of a kept sweep, of history and of a host are there, nothing that would have to be pressed, nothing cut."""

from __future__ import annotations

import pytest

from tests.browser.conftest import DESKTOP, DRAWN, open_window, until

#: Pages of the furnished portal → charts that paper has, at least.
CHARTED = {"explore": 1, "sweep": 1, "series-measured": 1, "host": 1}
#: A4 less the margins that Chromium leaves, in CSS pixels.
PAPER = {"width": 718, "height": 1000}
#: What nobody presses on paper, and sees nevertheless.
PRESSED = """Array.from(document.querySelectorAll(
      "button, input:not([type=hidden]), select, textarea, .btn, .site-header, .site-footer, .modebar, .pagination, .skip-link, .mark-form, .explore-keep, [data-zoom]"))
    .filter(e => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && e.getClientRects().length)
    .map(e => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`)"""
#: Charts and texts that end right of the sheet, and boxes that hide a part of what is in them: both are lost on paper.
CUT = """(() => {
    const found = [], sheet = document.documentElement.clientWidth;
    for (const e of document.querySelectorAll("main *")) {
        if (!e.checkVisibility({checkVisibilityCSS: true}) || e.closest(".visually-hidden")) { continue; }
        const box = e.getBoundingClientRect(), way = getComputedStyle(e);
        const name = `${e.tagName} ${e.getAttribute("class") || ""} ${e.textContent.trim().slice(0, 40)}`;
        if (box.width && !e.closest("svg svg, .main-svg *") && box.right > sheet + 1) { found.push(`${name}: ends at ${Math.round(box.right)} of ${sheet}`); }
        if (!(e instanceof SVGElement) && way.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1) { found.push(`${name}: hides ${e.scrollWidth - e.clientWidth} px`); }
    }
    return found;
})()"""
CHARTS = """Array.from(document.querySelectorAll("[data-chart]")).map(e => {
    const drawing = e.querySelector(".main-svg"), box = drawing ? drawing.getBoundingClientRect() : {width: 0, height: 0};
    return [Math.round(box.width), Math.round(box.height), e.querySelectorAll(".trace, .heatmaplayer image").length];
})"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", CHARTED)
def test_paper_has_the_charts_and_nothing_to_press_and_nothing_is_cut(browser, furnished, signed_in_state, name, theme):
    window = open_window(browser, DESKTOP, storage_state=signed_in_state, color_scheme=theme)
    page = window.page
    page.goto(furnished.portal.url + furnished.pages[name])
    until(page, DRAWN)
    on_screen = page.evaluate(CHARTS)
    assert page.evaluate(PRESSED), "there is something to press on the screen, or nothing is proven here"
    page.emulate_media(media="print", color_scheme=theme)
    page.set_viewport_size(PAPER)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    until(page, DRAWN)
    assert page.evaluate(PRESSED) == []
    charts = page.evaluate(CHARTS)
    assert len(charts) == len(on_screen) >= CHARTED[name]
    for (width, height, traces), (_width, _height, before) in zip(charts, on_screen, strict=True):
        assert 200 < width <= PAPER["width"]
        assert height > 100
        assert traces == before, "what is drawn on the screen is drawn on paper"
    assert page.evaluate(CUT) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    window.assert_clean()
    page.context.close()
