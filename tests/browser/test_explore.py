"""The what-if page as people use it: a real worker makes the form, sliders move, the address follows. At desk and phone width."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest

from tests.browser.audit import complaints
from tests.browser.conftest import DESKTOP, PHONE, assert_no_sideways_scroll, follow, log_in, open_window

QUESTION = "/explore/?model=gpt2&hardware=nvidia-h100-sxm5-80gb&hardware=nvidia-l4-24gb&lengths=64..512*2&output_tokens=64&input_tokens=128"
MOST_BYTES = 700_000


def make(visit, portal) -> None:
    """The form of GPT-2, made by the worker of the portal when somebody asks for it."""
    page = visit.page
    page.goto(portal.url + QUESTION)
    button = page.locator("button:has-text('Make')")
    if button.count():
        button.click()
    page.locator("#shown-title").wait_for(timeout=120_000)


def asked_json(page) -> dict:
    """The export of the address that the window shows."""
    parts = urlsplit(page.url)
    return json.loads(page.request.get(f"{parts.scheme}://{parts.netloc}/explore.json?{parts.query}").text())


def shown(page, metric: str) -> float:
    return float(page.locator(f"[data-metric={metric}] data").get_attribute("value"))


def test_from_an_empty_page_to_an_answer(visit, portal):
    page = visit.page
    page.goto(portal.url + "/explore/")
    page.select_option("#add-model", "tinyllama-1-1b")
    page.wait_for_url(re.compile("model=tinyllama"))
    page.select_option("#add-hardware", "nvidia-h100-sxm5-80gb")
    page.wait_for_url(re.compile("hardware=nvidia-h100"))
    if page.locator("button:has-text('Make')").count():
        page.click("button:has-text('Make')")
    page.locator("#shown-title").wait_for(timeout=120_000)
    assert "optimistic bound" in page.inner_text("#answer")
    assert page.locator("svg.heat rect").count() > 9
    page.locator("[data-chart=curve-data] .main-svg").first.wait_for(state="attached")
    assert_no_sideways_scroll(visit)
    visit.assert_clean()


def test_a_slider_changes_answer_and_address_without_loading_the_page(visit, portal):
    make(visit, portal)
    page = visit.page
    page.evaluate("window.sameDocument = true")
    before = shown(page, "e2e_latency")
    slider = page.locator("[data-slider-for=id_batch_size]")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("batch_size=8"))
    assert page.input_value("#id_batch_size") == "8"
    page.wait_for_function(
        "value => Number(document.querySelector('[data-metric=e2e_latency] data').value) !== value", arg=before
    )
    told = asked_json(page)
    assert told["question"]["workload"]["batch_size"] == 8
    for metric in ("ttft", "tpot", "e2e_latency", "output_throughput", "peak_memory"):
        assert shown(page, metric) == told["series"][0]["metrics"][metric]["value"]
    page.locator("[data-chart=curve-data] .main-svg").first.wait_for(state="attached")
    drawn = page.evaluate("document.querySelector('[data-chart=curve-data]').data.map(t => t.y)")
    assert drawn == [line["y"] for line in told["curves"]["lines"]]
    drawn = page.evaluate("document.querySelector('[data-chart=frontier-data]').data.map(t => t.x)")
    assert drawn == [[p["interactivity"] for p in line["points"]] for line in told["frontier"]["lines"]]
    assert page.evaluate("window.sameDocument") is True
    page.fill("#id_batch_size", "3")
    page.wait_for_url(re.compile("batch_size=3"))
    assert slider.get_attribute("aria-valuetext") == "3"
    assert_no_sideways_scroll(visit)
    visit.assert_clean()


def test_the_latest_question_wins(visit, portal):
    make(visit, portal)
    page = visit.page
    for value in (2, 4, 8, 16, 32, 64):
        page.fill("#id_batch_size", str(value))
    page.wait_for_url(re.compile("batch_size=64"))
    page.wait_for_load_state("networkidle")
    assert shown(page, "e2e_latency") == asked_json(page)["series"][0]["metrics"]["e2e_latency"]["value"]
    visit.assert_clean()


def test_bad_input_is_said_and_nothing_is_lost(visit, portal):
    make(visit, portal)
    page = visit.page
    page.fill("#id_input_tokens", "-5")
    page.locator("#answer [role=alert]").wait_for()
    assert "Enter a whole number" in page.inner_text("#answer")
    assert page.input_value("#id_input_tokens") == "-5"
    page.fill("#id_input_tokens", "64")
    page.locator("#shown-title").wait_for()
    visit.assert_clean()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_without_javascript_it_is_a_form_and_its_answer(browser, portal, viewport):
    ready = open_window(browser, viewport)
    log_in(ready, portal)
    make(ready, portal)
    plain = browser.new_context(
        viewport=viewport, java_script_enabled=False, storage_state=ready.page.context.storage_state()
    )
    page = plain.new_page()
    page.goto(portal.url + QUESTION)
    page.fill("#id_batch_size", "16")
    follow(page, "button:has-text('Answer')")
    assert "batch_size=16" in page.url
    assert page.locator("[data-metric=ttft] data").inner_text()
    assert page.locator("svg.heat rect").count() > 9
    page.locator("summary:has-text('The same as a table')").first.click()
    assert page.locator("section[aria-labelledby=heat-title] table tbody tr").first.is_visible()
    assert page.locator("[data-slider-for]").first.is_hidden()
    plain.close()
    ready.page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_for_screen_readers_and_keyboards(browser, portal, theme):
    window = open_window(browser, PHONE, color_scheme=theme, bypass_csp=True)
    log_in(window, portal)
    make(window, portal)
    window.page.locator("[data-chart] .main-svg").first.wait_for(state="attached")
    window.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = complaints(window.page)
    window.page.context.close()
    assert not found, "\n".join(found)


def test_the_page_with_its_charts_is_light(browser, portal):
    window = open_window(browser, DESKTOP)
    log_in(window, portal)
    make(window, portal)
    fresh = browser.new_context(viewport=DESKTOP, storage_state=window.page.context.storage_state())
    page = fresh.new_page()
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(portal.url + QUESTION)
    page.locator("[data-chart=frontier-data] .main-svg").first.wait_for(state="attached")
    sizes = {urlsplit(a.url).path: a.request.sizes()["responseBodySize"] for a in answers}
    fresh.close()
    window.page.context.close()
    assert sum(sizes.values()) < MOST_BYTES, sizes
    assert not any("cartesian" in name for name in sizes), "the heat map needs no bundle"
    print("bytes:", sum(sizes.values()), sizes)
