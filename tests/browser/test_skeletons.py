"""Skeletons: while something is still to come, its place has its shape and size; then it is gone; and when it cannot come, a sentence says so.

Requests are held back, or fail, in the browser; what answers them is real.
"""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone

from llmcompare.runs import extract
from llmcompare.runs.models import Run, RunDocument
from tests import factories
from tests.browser.conftest import DESKTOP, DRAWN, PHONE, open_window, until
from tests.browser.test_compare import GPT2, LLAMA
from tests.browser.test_run_page import Pages
from tests.run_page import documents

LIBRARIES = re.compile(r"/vendor/(plotly|cytoscape)[^?]*\.js")
#: Height of every figure and graph on the page, and where what follows the last of them stands.
HEIGHTS = """(() => {
  const boxes = Array.from(document.querySelectorAll("[data-chart], [data-graph]")).filter(box => box.clientWidth);
  return Object.fromEntries(boxes.map(box => [box.dataset.chart || box.dataset.graph, box.getBoundingClientRect().height]));
})()"""
SEEN = "Array.from(document.querySelectorAll('{}')).filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 8).length"
BUSY = "document.querySelectorAll('[aria-busy=true]').length"


class Held:
    """Requests whose address fits ``pattern`` (those of htmx alone, where ``htmx``) wait until they are let go, or fail."""

    def __init__(self, page, pattern, *, htmx: bool = False) -> None:
        self.page, self.pattern, self.htmx, self.routes, self.how = page, pattern, htmx, [], ""
        page.route(pattern, lambda route: self._take(route))

    def _take(self, route) -> None:
        if self.how or (self.htmx and "hx-request" not in route.request.headers):
            self._end(route)
        else:
            self.routes.append(route)

    def _end(self, route) -> None:
        if self.how == "fail":
            route.abort()
        else:
            route.continue_()

    def wait(self) -> None:
        for _ in range(1200):
            if self.routes:
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"nobody asked for {self.pattern}")

    def go(self) -> None:
        self._all("go")

    def fail(self) -> None:
        self._all("fail")

    def hold(self) -> None:
        self.how = ""

    def _all(self, how: str) -> None:
        self.how = how
        while self.routes:
            self._end(self.routes.pop())


def seen(page, selector: str) -> int:
    return page.evaluate(SEEN.format(selector))


def height(page, selector: str) -> float:
    return page.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().height")


@pytest.fixture
def pages(browser, live_server, transactional_db):
    made = Pages(browser, live_server, factories.make_user("reader"))
    yield made
    for window in made.windows:
        window.page.context.close()


@pytest.fixture
def window(browser, furnished, signed_in_state):
    made = open_window(browser, DESKTOP, storage_state=signed_in_state)
    made.page.set_default_timeout(60_000)
    yield made
    made.page.context.close()


def opened_with_held_libraries(pages, address: str, viewport=DESKTOP):
    window = pages.open("about:blank", viewport)
    window.page.set_default_timeout(60_000)
    held = Held(window.page, LIBRARIES)
    window.page.goto(address, wait_until="commit")
    held.wait()
    until(window.page, "document.readyState !== 'loading' && window.lcSkeleton !== undefined", seconds=60)
    return window, held


# --- what is drawn by scripts ---


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_figures_and_graphs_have_their_size_before_they_are_drawn(pages, viewport):
    compared = [factories.make_run(pages.user, document=document) for document in (GPT2, LLAMA)]
    ids = ",".join(run.public_id for run in compared)
    # On a phone the parts that the address names are open from the start.
    for address in (
        f"{pages.stored('measure_smollm2')}?parts=roofline,network,memory,samples",
        f"{pages.server.url}/compare/?runs={ids}&graphs=1",
    ):
        window, held = opened_with_held_libraries(pages, address, viewport)
        page = window.page
        before = page.evaluate(HEIGHTS)
        assert len(before) > 3, "the page has figures"
        assert seen(page, ":is([data-chart], [data-graph]) > .skeleton") == len(before)
        assert page.locator(".skeleton:not([aria-hidden=true])").count() == 0
        assert page.evaluate(BUSY) >= len(before)
        held.go()
        until(page, f"Object.keys({HEIGHTS}).length === {len(before)} && {DRAWN}", seconds=60)
        after = page.evaluate(HEIGHTS)
        moved = {name: (size, after[name]) for name, size in before.items() if abs(after[name] - size) > 0.6}
        assert not moved, "what is drawn has the size of its skeleton"
        assert page.locator(":is([data-chart], [data-graph]) > .skeleton").count() == 0
        assert page.evaluate(BUSY) == 0
        window.assert_clean()


def test_a_graph_is_seen_whole_in_the_room_that_the_server_reckoned(pages):
    """At a size at which its texts can be read; only what is higher than the largest box is not."""
    for address in (pages.stored("estimate_gpt2"), pages.run(documents.measured())):
        page = pages.open(f"{address}?beside=1").page
        until(page, DRAWN, seconds=60)
        found = page.evaluate(
            "Array.from(document.querySelectorAll('[data-graph]')).map(g => "
            "[g.cy.zoom(), g.cy.elements().renderedBoundingBox().h, g.clientHeight])"
        )
        assert found
        for zoom, drawn, room in found:
            assert zoom >= 0.77
            assert drawn <= room * 1.02
            assert room < 1.25 * drawn + 80, "no more room than it needs"


def test_a_script_that_does_not_come_leaves_a_sentence_and_no_skeleton(pages):
    window, held = opened_with_held_libraries(pages, pages.stored("estimate_gpt2"))
    page = window.page
    assert seen(page, ".skeleton")
    held.fail()
    until(page, "document.readyState === 'complete'", seconds=60)
    until(page, f"{SEEN.format('.skeleton')} === 0")
    assert page.evaluate(BUSY) == 0
    words = page.locator(":is([data-chart], [data-graph]) > .load-failed").all_inner_texts()
    assert len(words) == page.locator("[data-chart], [data-graph]").count() > 1
    assert all("could not be drawn" in text for text in words)


def test_without_any_script_of_ours_the_page_is_read_as_without_scripts(pages):
    window = pages.open("about:blank")
    page = window.page
    page.route(re.compile(r"/skeleton[^/]*\.js"), lambda route: route.abort())
    page.goto(pages.stored("estimate_gpt2"))
    until(page, f"{SEEN.format('.skeleton')} === 0")


# --- what is still being computed ---


def active(pages) -> Run:
    now = timezone.now()
    return factories.make_run(
        pages.user, state="running", progress=0.4, started=now, claim="somebody", lease_until=now + timedelta(hours=1)
    )


def test_a_run_under_way_shows_the_shape_of_its_result_until_that_is_there(pages):
    run = active(pages)
    window = pages.open(f"{pages.server.url}/runs/{run.public_id}/")
    page = window.page
    page.set_default_timeout(60_000)
    assert seen(page, ".run-coming .tile") == 8
    assert seen(page, ".run-coming .skeleton-chart") == 1
    assert page.get_attribute(".run-coming", "aria-busy") == "true"
    assert page.locator("#run-status[aria-busy]").count() == 0, "its progress is read out meanwhile"
    RunDocument.objects.create(run=run, data=GPT2)
    Run.objects.filter(pk=run.pk).update(
        state="done", progress=1.0, finished=timezone.now(), claim=None, lease_until=None
    )
    page.wait_for_selector("#tile-ttft")
    until(page, DRAWN, seconds=60)
    assert seen(page, ".skeleton") == 0
    window.assert_clean()


def test_a_server_that_is_away_is_said_and_the_skeleton_comes_back_with_it(pages):
    window = pages.open(f"{pages.server.url}/runs/{active(pages).public_id}/")
    page = window.page
    away = Held(page, "**/status/**")
    away.fail()
    page.wait_for_selector(".run-coming > .load-failed")
    assert "goes on asking" in page.inner_text(".run-coming > .load-failed")
    assert seen(page, ".run-coming .skeleton") == 0
    assert page.locator(".load-failed").count() == 1
    away.go()
    until(page, f"{SEEN.format('.run-coming .skeleton')} > 0", seconds=30)
    assert page.locator(".load-failed").count() == 0


def test_a_comparison_waits_for_extracts_that_are_being_prepared_and_then_has_them(pages, monkeypatch):
    monkeypatch.setattr(extract, "PAGE_S", -1.0)
    runs = [factories.make_run(pages.user, document=document) for document in (GPT2, LLAMA, GPT2)]
    window = pages.open("about:blank")
    page = window.page
    page.set_default_timeout(60_000)
    # The page itself makes one of three; each question of the page another one.
    held = Held(page, re.compile(r"/compare/"), htmx=True)
    page.goto(f"{pages.server.url}/compare/?runs={','.join(run.public_id for run in runs)}")
    assert "Being prepared" in page.inner_text(".notice-list")
    assert seen(page, "#pending .skeleton-chart") == 1
    assert page.get_attribute("#pending", "aria-busy") == "true"
    held.go()
    page.wait_for_selector("#layers-title")
    assert page.locator("#pending").count() == 0
    assert "Being prepared" not in page.inner_text("main")
    window.assert_clean()


# --- what is asked while one types ---


def test_the_preview_of_a_new_run_has_a_skeleton_the_first_time_and_then_old_figures(window, furnished):
    page = window.page
    held = Held(page, "**/runs/new/preview/**")
    fits = furnished.signed_in["new-estimate"].replace("llama-3-70b", "llama-3-8b")  # what does not fit has more to say
    page.goto(furnished.portal.url + fits)
    held.wait()
    until(page, f"{SEEN.format('#preview .skeleton')} > 0")
    assert page.get_attribute("#preview", "aria-busy") == "true"
    before, start = height(page, "#preview"), height(page, ".start")
    held.go()
    page.wait_for_selector("#preview .preview-main[data-figures]")
    until(page, "!document.querySelector('#preview').hasAttribute('aria-busy')")
    assert seen(page, "#preview .skeleton") == 0
    assert height(page, "#preview") == pytest.approx(before, rel=0.35)
    assert height(page, ".start") == start
    held.hold()
    page.fill("#id_batch_size", "4")
    held.wait()
    page.wait_for_selector("#preview.is-stale .preview-main[data-figures]")
    assert seen(page, "#preview .skeleton") == 0
    held.fail()
    page.wait_for_selector("#preview > .load-failed[role=alert]")
    assert "question before" in page.inner_text("#preview > .load-failed")
    assert page.locator("#preview[aria-busy]").count() == 0


def test_a_first_preview_that_fails_is_said(window, furnished):
    page = window.page
    page.route("**/runs/new/preview/**", lambda route: route.fulfill(status=500, body="no"))
    page.goto(furnished.portal.url + furnished.signed_in["new-estimate"])
    page.wait_for_selector("#preview > .load-failed[role=alert]")
    assert seen(page, "#preview .skeleton") == 0


def asked_again(furnished, **changes: str) -> str:
    query = parse_qs(urlsplit(furnished.signed_in["explore"]).query)
    query |= {name: [value] for name, value in changes.items()}
    return f"{furnished.portal.url}/explore/?" + "&".join(
        f"{name}={one}" for name, all_ in query.items() for one in all_
    )


def test_an_answer_of_explore_has_a_skeleton_the_first_time(window, furnished):
    page = window.page
    page.goto(asked_again(furnished, input_tokens="-5"))
    assert page.locator("#answer [data-figures]").count() == 0
    held = Held(page, "**/explore/answer/**")
    page.fill("#id_input_tokens", "64")
    held.wait()
    until(page, f"{SEEN.format('#answer > .skeleton')} === 1")
    assert seen(page, "#answer .alert") == 0, "what was wrong before is not said of what is asked now"
    assert page.get_attribute("#answer", "aria-busy") == "true"
    before = height(page, "#answer")
    held.go()
    page.wait_for_selector("#answer [data-figures]")
    until(page, DRAWN, seconds=60)
    assert seen(page, ".skeleton") == 0
    assert page.evaluate(BUSY) == 0
    assert height(page, "#answer") == pytest.approx(before, rel=0.35)


def test_figures_of_explore_stay_dimmed_while_the_next_are_asked(window, furnished):
    page = window.page
    page.goto(asked_again(furnished))
    until(page, DRAWN, seconds=60)
    before = height(page, "#answer")
    held = Held(page, "**/explore/answer/**")
    page.fill("#id_batch_size", "2")
    held.wait()
    page.wait_for_selector("#answer.is-stale[aria-busy=true]")
    assert height(page, "#answer") == before
    assert seen(page, "#answer .skeleton") == 0
    until(page, "getComputedStyle(document.querySelector('#answer > section')).opacity === '0.5'")
    held.go()
    page.wait_for_selector("#answer:not(.is-stale):not([aria-busy])")
    assert page.evaluate("getComputedStyle(document.querySelector('#answer > section')).opacity") == "1"
    held.hold()
    page.fill("#id_batch_size", "4")
    held.wait()
    held.fail()
    page.wait_for_selector("#answer.is-stale > .load-failed[role=alert]")
    assert page.locator("#answer[aria-busy]").count() == 0
    held.go()
    page.fill("#id_batch_size", "8")
    page.wait_for_selector("#answer:not(.is-stale)")
    assert page.locator(".load-failed").count() == 0


def test_a_search_for_runs_to_add_shows_lines_to_come(window, furnished):
    page = window.page
    page.goto(furnished.portal.url + furnished.signed_in["compare-estimates"])
    page.evaluate("window.sameDocument = true")
    before = height(page, "#add-found")
    held = Held(page, re.compile(r"/compare/\?.*add="))
    page.fill("#add-search", "Nightly")
    page.press("#add-search", "Enter")
    held.wait()
    until(page, f"{SEEN.format('#add-found .skeleton li')} === 6")
    assert seen(page, "#add-found .run-name") == 0
    assert height(page, "#add-found") >= before, "the box does not shrink meanwhile"
    lines = height(page, "#add-found .skeleton li")
    held.go()
    page.wait_for_selector("#add-found .run-name:has-text('Nightly')")
    assert seen(page, "#add-found .skeleton") == 0
    assert height(page, "#add-found li") == pytest.approx(lines, rel=0.25)
    assert page.evaluate("window.sameDocument") is True
    assert "add=Nightly" in page.url
    held.fail()
    page.fill("#add-search", "Elsewhere")
    page.press("#add-search", "Enter")
    page.wait_for_selector("#add-found > .load-failed[role=alert]")
    assert seen(page, "#add-found .skeleton") == 0


# --- how they look ---


def test_nothing_moves_for_those_who_asked_for_less_motion(pages):
    address = f"{pages.server.url}/runs/{active(pages).public_id}/"
    name = "getComputedStyle(document.querySelector('.skeleton-bar')).animationName"
    assert pages.open(address, reduced_motion="no-preference").page.evaluate(name) == "skeleton-breath"
    assert pages.open(address, reduced_motion="reduce").page.evaluate(name) == "none"


def test_they_have_a_colour_of_each_theme_and_end_by_themselves(pages):
    address = f"{pages.server.url}/runs/{active(pages).public_id}/"
    style = "(() => { const s = getComputedStyle(document.querySelector('.skeleton-bar')); return [s.backgroundColor, s.animationIterationCount]; })()"
    light, dark = (pages.open(address, color_scheme=theme).page.evaluate(style) for theme in ("light", "dark"))
    assert light[0] != dark[0]
    assert float(light[1]) * 2 <= 60, "seconds"


def test_without_scripts_there_are_none(browser, furnished, signed_in_state):
    plain = open_window(browser, DESKTOP, storage_state=signed_in_state, java_script_enabled=False)
    names = ("run-measured", "run-running", "explore", "new-estimate", "compare-graphs", "series-measured", "host")
    for name in names:
        plain.page.goto(furnished.portal.url + furnished.signed_in[name])
        assert plain.page.locator(".skeleton:visible").count() == 0, name
        assert plain.page.locator("[aria-busy]").count() == 0, name
        assert plain.page.locator("[data-chart]:visible").count() == 0, "no empty boxes either"
    plain.page.context.close()
