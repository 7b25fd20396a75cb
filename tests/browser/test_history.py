"""History, the list of runs and notices in a real browser: desktop and phone, light and dark, keyboard, without JavaScript."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from llmcompare.history import notices
from llmcompare.history.models import Comment, Mark, Notice
from llmcompare.runs.models import Run, RunMetric
from tests import factories
from tests.browser.audit import complaints
from tests.browser.conftest import DESKTOP, PHONE, assert_no_sideways_scroll, follow, open_window
from tests.conftest import client_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runs(owner, team):
    """Eighteen measurements of one series, a step of a quarter after the ninth, one of them disturbed."""
    place = {
        "model": factories.make_model(name="Repeated-model-with-a-rather-long-name-7B-Instruct"),
        "hardware": factories.make_hardware(),
        "host": factories.make_host(name="Lab box"),
    }
    made = []
    for at in range(18):
        value = (1.0 + 0.01 * (at % 3)) * (1.25 if at >= 9 else 1.0)
        finished = timezone.now() - timedelta(days=18 - at)
        run = factories.make_run(
            owner, kind="measure", state="done", contended=at == 4, e2e_s=value, started=finished - timedelta(minutes=5),
            finished=finished, visibility="team", team=team, title=f"run {at}", versions={"torch": "2.13.0" if at >= 9 else "2.12.0"},
            **place,
        )  # fmt: skip
        RunMetric.objects.create(
            run=run, key="e2e_latency", origin="measured", value=value, unit="s", definition="e2e_latency/1",
            detail={"ci95": [value * 0.98, value * 1.03], "processes": [value * 0.99, value, value * 1.01]},
        )  # fmt: skip
        made.append(run)
    Mark.objects.create(run=made[2], by=owner, kind="note", text="Somebody used the machine.")
    Comment.objects.create(run=made[0], by=owner, text="A comment.")
    made[0].tags.create(name="nightly", by=owner)
    notices.choose(user=owner, page=True, mail=False, at_least_s=1)
    Notice.objects.create(run=made[0], user=owner)
    return made


def window_of(browser, live_server, user, viewport=DESKTOP, **options):
    window = open_window(browser, viewport, **options)
    cookie = client_for(user).cookies[django_settings.SESSION_COOKIE_NAME]
    window.page.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": live_server.url}])
    return window


def pages_of(runs) -> list[str]:
    return [
        "/history/",
        f"/history/{runs[0].series}/",
        f"/history/{runs[0].series}/?x=time&lookback=5",
        "/runs/?columns=state,hardware,tags,owner,torch,created",
        f"/runs/{runs[0].public_id}/",
        "/notices/",
        "/accounts/notices/",
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_have_no_error_no_violation_and_no_sideways_scroll(browser, live_server, owner, runs, viewport, theme):
    window = window_of(browser, live_server, owner, viewport, color_scheme=theme)
    for path in pages_of(runs):
        window.page.goto(live_server.url + path)
        if window.page.locator("[data-chart]").count():
            window.page.locator("[data-chart] .main-svg").first.wait_for(state="attached")
        window.page.locator("#notices a").wait_for(state="visible")
        assert_no_sideways_scroll(window)
    window.assert_clean()
    window.page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, live_server, owner, runs, theme):
    window = window_of(browser, live_server, owner, PHONE, color_scheme=theme, bypass_csp=True)
    found = []
    for path in pages_of(runs):
        window.page.goto(live_server.url + path)
        window.page.locator("#notices a").wait_for(state="visible")
        # What is folded away is read, too.
        window.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        found += complaints(window.page)
    window.page.context.close()
    assert not found, "\n".join(found)


def test_keys_of_the_list(browser, live_server, owner, runs):
    window = window_of(browser, live_server, owner)
    page = window.page
    page.goto(live_server.url + "/runs/")
    for key in "jxjxkjj":
        page.keyboard.press(key)
    assert page.inner_text("[data-tray-count]") == "2 runs ticked."
    assert page.evaluate("document.activeElement.textContent") == "run 15"
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.keyboard.type("jxc?, weekly")  # typing is typing
    assert page.input_value("#bulk-tags") == "jxc?, weekly"
    assert not page.locator("dialog#keys").is_visible()
    assert page.inner_text("[data-tray-count]") == "2 runs ticked."
    page.keyboard.press("Enter")
    page.wait_for_selector("text=2 runs tagged")
    assert runs[17].tags.filter(name="weekly").exists()
    for key in "jxjxc":
        page.keyboard.press(key)
    page.wait_for_url(re.compile(r"/compare/\?runs="))
    assert page.url.endswith(f"{runs[17].public_id},{runs[16].public_id}")
    window.assert_clean()
    page.context.close()


def test_a_click_on_a_point_opens_its_run(browser, live_server, owner, runs):
    window = window_of(browser, live_server, owner)
    page = window.page
    page.goto(live_server.url + f"/history/{runs[0].series}/")
    page.locator("[data-chart] .main-svg").first.wait_for(state="attached")
    points = page.locator("[data-chart] .scatterlayer .points path.point")
    assert points.count() == 18
    points.first.click(force=True)
    page.wait_for_url(re.compile(rf"/runs/({'|'.join(run.public_id for run in runs)})/"))
    window.assert_clean()
    page.context.close()


def test_without_javascript_everything_can_be_read_and_done(browser, live_server, owner, runs):
    window = window_of(browser, live_server, owner, java_script_enabled=False)
    page = window.page
    page.goto(live_server.url + f"/history/{runs[0].series}/")
    assert page.locator("#runs tbody tr").count() == 18
    assert "not used: contended" in page.inner_text("#runs")
    row = page.locator(f"#run-{runs[9].public_id}")
    row.locator("summary").click()
    row.locator("input[name=text]").fill("New driver")
    follow(row.locator("button[value=expected]"))
    assert "Expected change: New driver" in page.inner_text(f"#run-{runs[9].public_id}")
    page.goto(live_server.url + "/runs/")
    for run in runs[:2]:
        page.check(f"#tick-{run.public_id}")
    page.click(".tray-more summary")
    follow(page, "button[value=delete]")
    assert Run.objects.kept().count() == 16
    follow(page, "button[value=restore]")
    assert Run.objects.kept().count() == 18
    page.click("summary:has-text('Columns')")
    page.uncheck("input[name=col][value=bound]")
    follow(page, ".columns-form button:has-text('Show')")
    assert "bound" not in page.url.split("columns=")[1]
    page.click("summary:has-text('Save this view')")
    page.fill("#view-name", "No bounds")
    follow(page, ".view-form button")
    assert page.locator(".view.is-current").inner_text() == "No bounds"
    page.goto(live_server.url + f"/runs/{runs[0].public_id}/")
    page.fill("#new-comment", "Second comment")
    follow(page, "button:text-is('Comment')")
    assert "Second comment" in page.inner_text("#talk")
    page.context.close()


def test_a_run_that_ends_is_told_while_one_looks_elsewhere(browser, live_server, owner, runs):
    window = window_of(browser, live_server, owner)
    page = window.page
    page.goto(live_server.url + "/models/")
    page.locator("#notices a").wait_for(state="visible")
    Notice.objects.create(run=runs[1], user=owner)
    # Ask now instead of after a quarter of a minute.
    page.evaluate(
        "htmx.ajax('GET', document.getElementById('notices').getAttribute('hx-get'), {target: '#notices', swap: 'outerHTML'})"
    )
    page.wait_for_selector(".bell-new >> text=run 1")
    page.click(".bell-new a")
    page.wait_for_url(re.compile(rf"/runs/{runs[1].public_id}/"))
    window.assert_clean()
    page.context.close()
