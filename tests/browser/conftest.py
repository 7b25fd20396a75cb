"""A real portal (``manage.py up``: web server and worker) and a real Chromium.

Nothing here touches the test database: the portal is a process of its own with a data folder of its own, as a user would have it.
What is started here ends with the last test of this folder, and takes no time from others. Playwright's loop above all: beside it no
other test of the same process could start a loop of its own.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long enough password 7"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium_path() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # One group: the portal and its worker are started once, not once per pytest-xdist process.
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Portal:
    """A running portal: its address, and the admin that ``up`` created."""

    url: str
    process: subprocess.Popen
    data: Path
    username: str = "admin"
    password: str = PASSWORD
    log: list[str] = field(default_factory=list)


def wait_for_line(process: subprocess.Popen, pattern: str, *, seconds: float, log: list[str]) -> str:
    """Block until the process prints a line that matches; fail with all its output when it ends or is too slow."""
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)
    deadline = time.monotonic() + seconds
    pending = b""
    while (left := deadline - time.monotonic()) > 0:
        if not selector.select(left):
            break
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        pending += chunk
        *lines, pending = pending.split(b"\n")
        for raw in lines:
            line = raw.decode(errors="replace")
            log.append(line)
            if re.search(pattern, line):
                return line
    raise AssertionError("The portal did not start:\n" + "\n".join(log[-80:]))


@contextmanager
def running_portal(data: Path, *arguments: str) -> Iterator[Portal]:
    """``manage.py up`` with these arguments in the new folder ``data``; stopped in good order at the end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--port", str(port), *arguments],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_DATA": str(data), "LLMCOMPARE_ADMIN_PASSWORD": PASSWORD, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    running = Portal(url=f"http://127.0.0.1:{port}", process=process, data=data)
    try:
        wait_for_line(process, rf"127\.0\.0\.1:{port}", seconds=120, log=running.log)
        # Nobody reads the pipe from here on: hand it to a file, or a chatty portal would block on a full pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=(data / "up.log").open("wb"))
        yield running
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        drain.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def portal(tmp_path_factory):
    with running_portal(tmp_path_factory.mktemp("portal-data")) as running:
        yield running


@dataclass
class Furnished:
    """A portal without worker that has something to show on every page (``tests.browser.furnish``): page name → path."""

    portal: Portal
    signed_in: dict[str, str]
    visitor: dict[str, str]

    @property
    def pages(self) -> dict[str, str]:
        return self.signed_in | self.visitor


@contextmanager
def furnished_portal(data: Path) -> Iterator[Furnished]:
    with running_portal(data, "--no-worker") as running:
        done = subprocess.run(
            [sys.executable, "-m", "tests.browser.furnish"],
            cwd=ROOT,
            env=os.environ | {"LLMCOMPARE_DATA": str(data), "LLMCOMPARE_URL": running.url},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        line = next(line for line in done.stdout.splitlines() if line.startswith("FURNISHED "))
        yield Furnished(running, **json.loads(line.removeprefix("FURNISHED ")))


@pytest.fixture(scope="package")
def furnished(tmp_path_factory):
    with furnished_portal(tmp_path_factory.mktemp("furnished-data")) as made:
        yield made


@pytest.fixture(scope="package")
def signed_in_state(browser, furnished):
    """Cookies of the administrator of the furnished portal."""
    window = open_window(browser, DESKTOP)
    log_in(window, furnished.portal)
    state = window.page.context.storage_state()
    window.page.context.close()
    return state


@pytest.fixture(scope="package")
def browser():
    from playwright.sync_api import sync_playwright

    path = chromium_path()
    if path is None:
        message = "Chromium is not installed (Debian: apt-get install chromium)."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's loop runs in this thread as long as the browser does, and Django would refuse its database there.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A browser window whose complaints are collected: console errors, page errors, CSP violations."""

    page: object
    complaints: list[str]

    def assert_clean(self) -> None:
        assert self.complaints == []


DESKTOP = {"width": 1280, "height": 900}
TABLET = {"width": 820, "height": 1180}
PHONE = {"width": 390, "height": 844}


def open_window(browser, viewport, **options) -> Visit:
    context = browser.new_context(viewport=viewport, accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(45_000)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(f"console: {m.text} ({page.url})") if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(f"page error: {e} ({page.url})"))
    page.expose_function("reportCspViolation", lambda text: complaints.append(f"CSP: {text}"))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => "
        "window.reportCspViolation(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile));"
    )
    return Visit(page, complaints)


def log_in(visit: Visit, portal: Portal) -> None:
    visit.page.goto(portal.url + "/accounts/login/")
    visit.page.fill("input[name=username]", portal.username)
    visit.page.fill("input[name=password]", portal.password)
    visit.page.click("button[type=submit]:has-text('Log in')")
    visit.page.wait_for_url(portal.url + "/")


def open_parts(page) -> None:
    """Open every part of a run page: on a narrow screen all but the summary are folded."""
    page.evaluate("document.querySelectorAll('details.run-fold').forEach(part => { part.open = true; })")


def follow(target, selector: str | None = None) -> None:
    """Click ``selector`` on a page, or a locator itself, and wait until the page that it leads to is there: a click alone waits for none."""
    page = target if selector else target.page
    with page.expect_navigation(wait_until="load"):
        target.click(selector) if selector else target.click()


def until(page, expression: str, *, seconds: float = 15) -> None:
    """Wait until ``expression`` holds. Playwright's own waiting evaluates texts inside the page, which its policy refuses."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression} ({page.url})"
        page.wait_for_timeout(25)


#: Every figure and graph that has a size is drawn.
DRAWN = """Array.from(document.querySelectorAll("[data-chart], [data-graph]"))
    .every(e => !e.clientWidth || e.dataset.drawn === "yes")"""


def show_in(page, theme: str) -> None:
    """Switch the page to ``light`` or ``dark``, as the system's setting does, and wait until everything has its colours."""
    page.emulate_media(color_scheme=theme)
    until(page, f"document.documentElement.dataset.bsTheme === '{theme}'")
    until(page, DRAWN)
    until(page, "document.getAnimations().every(a => !(a instanceof CSSTransition) || a.playState !== 'running')")


def assert_no_sideways_scroll(visit: Visit) -> None:
    width, room = visit.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room, f"{visit.page.url} scrolls sideways: {width} > {room} px"


@pytest.fixture(params=["desktop", "phone"])
def visit(request, browser, portal):
    window = open_window(browser, DESKTOP if request.param == "desktop" else PHONE)
    log_in(window, portal)
    yield window
    window.page.context.close()
