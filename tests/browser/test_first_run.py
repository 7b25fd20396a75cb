"""What a newcomer does on the first day, in a real browser against the real portal and its worker: at a desk and on a phone."""

from __future__ import annotations

import csv
import json
import re
import time

import pytest

from tests.browser.conftest import DESKTOP, assert_no_sideways_scroll, follow, open_parts, open_window

SMOLLM2 = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"


def wait_for_real_weights(visit, portal, *, seconds: float = 600) -> None:
    """The worker converts the weights in the background after the first start, once it has measured the ceilings; on a loud machine
    that takes minutes. The model's page says when they are there."""
    deadline = time.monotonic() + seconds
    while True:
        visit.page.goto(f"{portal.url}/models/{SMOLLM2}/")
        if "being prepared" not in visit.page.inner_text("main"):
            return
        assert time.monotonic() < deadline, visit.page.inner_text("main")[:500]
        visit.page.wait_for_timeout(1000)


def wait_for_host(visit, portal, *, seconds: float = 90) -> None:
    """The new-run page offers this machine as soon as its worker has reported."""
    deadline = time.monotonic() + seconds
    while True:
        visit.page.goto(f"{portal.url}/runs/new/?kind=measure&model={SMOLLM2}")
        if visit.page.locator("#id_host option:not([value=''])").count():
            return
        assert time.monotonic() < deadline, "no host came online"
        visit.page.wait_for_timeout(500)


def start_and_wait(visit, *, seconds: float) -> None:
    visit.page.click("aside button[type=submit]:has-text('Start')")
    visit.page.wait_for_url(re.compile(r"/runs/[\w-]{16}/"))
    visit.page.wait_for_selector("#summary, .run-failed, [role=alert]", timeout=seconds * 1000)
    assert visit.page.locator("#summary").count(), visit.page.inner_text("main")[:3000]


def download(visit, name: str) -> str:
    with visit.page.expect_download() as waiting:
        visit.page.click(f".run-actions a:text-is('{name}')")
    return waiting.value.path().read_text(encoding="utf-8-sig")


def script_data(visit, element_id: str) -> dict:
    return json.loads(visit.page.locator(f"#{element_id}").text_content())


@pytest.mark.timeout(1200)
def test_measure_smollm2_export_and_share(visit, portal, browser):
    page = visit.page
    wait_for_real_weights(visit, portal)
    wait_for_host(visit, portal)

    page.fill("#id_prompt", QUESTION)
    page.fill("#id_batch_size", "1")
    page.fill("#id_output_tokens", "64")
    page.click("details:has(#id_iterations) > summary")
    page.fill("#id_iterations", "2")
    start_and_wait(visit, seconds=480)

    open_parts(page)
    assert "Paris" in page.inner_text("#output")
    for key in ("ttft", "tpot", "e2e_latency", "peak_memory"):
        tile = page.locator(f"#tile-{key}")
        assert tile.locator(".origin-badge").inner_text().lower().startswith("measured"), key
        assert float(tile.locator("data").get_attribute("value")) > 0, key
    assert page.locator("#tile-ttft .error").count(), "the estimate's error stands beside the measurement"
    page.wait_for_selector(".chart-roofline .main-svg")
    page.wait_for_selector("[data-graph] canvas")
    assert "dequantised from Q4_1" in page.inner_text("main")

    # A decoder block shows both residual connections: around attention and around the MLP.
    page.goto(page.url.split("?")[0] + "?stage=prefill&open=.,model,model.layers,model.layers.0")
    graph = script_data(visit, "network-graph")
    inside = [e for e in graph["edges"] if e["kind"] == "residual" and "model.layers.0#" in e["target"]]
    assert len({edge["target"] for edge in inside}) == 2, inside
    assert_no_sideways_scroll(visit)

    document = json.loads(download(visit, "JSON"))
    assert document["schema"] == "llmcompare-run"
    assert "Paris" in document["output"]["texts"][0]
    rows = list(csv.DictReader(download(visit, "CSV").splitlines()))
    ttft = next(row for row in rows if (row["section"], row["metric"]) == ("metric", "ttft"))
    assert float(ttft["value"]) == document["metrics"]["ttft"]["value"]
    assert (ttft["unit"], ttft["origin"]) == ("s", "measured")

    page.click(".run-actions a:text-is('Share')")
    page.click("button:has-text('Make the link')")
    link = page.input_value("#share-url")
    private = open_window(browser, page.viewport_size)
    private.page.goto(link)
    private.page.wait_for_selector("#summary")
    open_parts(private.page)
    private.page.wait_for_selector(".chart-roofline .main-svg")
    shown = private.page.inner_text("body")
    assert QUESTION not in shown, "texts are shared only when the sharer ticks them"
    assert "admin" not in shown
    assert_no_sideways_scroll(private)
    private.assert_clean()
    private.page.context.close()
    visit.assert_clean()


def test_llama_3_70b_on_h100_is_estimated_without_weights(visit, portal):
    page = visit.page
    page.goto(f"{portal.url}/runs/new/?kind=estimate&model=llama-3-70b&hardware=nvidia-h100-sxm5-80gb")
    page.select_option("#id_dtype", "bf16")
    start_and_wait(visit, seconds=60)
    assert "does not fit" in page.locator("#tile-peak_memory").inner_text()
    assert page.locator("#tile-ttft .origin-badge").inner_text().lower().startswith("estimated")
    open_parts(page)
    page.wait_for_selector(".chart-roofline .main-svg")
    page.wait_for_selector("[data-graph] canvas")
    assert_no_sideways_scroll(visit)
    visit.assert_clean()


def test_bad_input_is_answered_at_the_field_and_nothing_is_lost(visit, portal):
    page = visit.page
    page.goto(f"{portal.url}/runs/new/?kind=estimate&model=gpt2&hardware=nvidia-h100-sxm5-80gb")
    page.fill("#id_input_tokens", "5000")
    page.fill("#id_batch_size", "0")
    page.fill("#id_title", "kept")
    page.click("aside button[type=submit]:has-text('Start')")
    page.wait_for_selector(".field-error")
    assert "/runs/new/" in page.url
    assert page.input_value("#id_title") == "kept"
    assert page.input_value("#id_input_tokens") == "5000"
    assert page.locator("#id_batch_size[aria-invalid=true]").count()
    # A refused form is an answer 422, which the browser notes in its console: that is not a fault of the page.
    assert [c for c in visit.complaints if "422" not in c] == []


def test_every_page_is_clean(visit, portal):
    """Of a portal that has nothing yet, and of one with a worker; ``test_every_page`` has all others."""
    page = visit.page
    for path in ("/", "/models/", f"/models/{SMOLLM2}/", "/models/upload/", "/hardware/", "/hardware/nvidia-h100-sxm5-80gb/",
                 "/runs/", "/runs/new/", "/compare/", "/shares/", "/accounts/profile/", "/accounts/tokens/", "/api/v1/docs/"):  # fmt: skip
        page.goto(portal.url + path)
        page.wait_for_load_state("networkidle")
        assert page.locator("main, #swagger-ui").count(), path
        if path != "/api/v1/docs/":
            assert_no_sideways_scroll(visit)
    visit.assert_clean()


def test_reading_and_launching_work_without_javascript(browser, portal):
    window = open_window(browser, DESKTOP, java_script_enabled=False)
    page = window.page
    page.goto(portal.url + "/accounts/login/")
    page.fill("input[name=username]", portal.username)
    page.fill("input[name=password]", portal.password)
    follow(page, "main button[type=submit]")
    page.goto(f"{portal.url}/runs/new/?kind=estimate&model=gpt2&hardware=nvidia-h100-sxm5-80gb")
    page.click("aside button[type=submit]:has-text('Start')")
    page.wait_for_url(re.compile(r"/runs/[\w-]{16}/"))
    deadline = time.monotonic() + 60
    while not page.locator("#summary").count():
        assert time.monotonic() < deadline
        page.wait_for_timeout(500)
        page.reload()
    assert page.locator("#tile-ttft data").inner_text()
    assert page.locator(".layer-table tbody tr").count() > 5
    page.context.close()
