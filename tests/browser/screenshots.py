"""Screenshots of every page, for a person to look through.

``python -m tests.browser.screenshots FOLDER`` starts a portal of its own with something to show on every page (``tests.browser.furnish``)
and writes ``<page>-<device>-<theme>-<language>.png`` for every page on desktop, tablet and phone, light and dark, in every language.
``--url http://127.0.0.1:8000 --user admin --password …`` pictures a running portal instead: it finds runs, models and hardware to show by
itself. ``--only run`` limits it to pages whose name holds that word, ``--screens 3`` takes the first screenfuls in place of whole pages.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEVICES = {"desktop": (1280, 900), "tablet": (820, 1180), "phone": (390, 844)}
THEMES = ("light", "dark")
LANGUAGES = ("en", "zh-hans")
# Pages that every portal has; those of single runs, models and hardware are found in its own lists.
FIXED = {
    "dashboard": "/",
    "models": "/models/",
    "model-upload": "/models/upload/",
    "hardware": "/hardware/",
    "endpoints": "/endpoints/",
    "new-endpoint": "/endpoints/new/",
    "runs": "/runs/",
    "runs-none-match": "/runs/?q=nothing-is-called-this",
    "new-run": "/runs/new/",
    "new-measurement": "/runs/new/?kind=measure",
    "compare-empty": "/compare/",
    "explore-empty": "/explore/",
    "sweeps": "/explore/sweeps/",
    "history": "/history/",
    "history-estimates": "/history/?kind=estimate",
    "profile": "/accounts/profile/",
    "password": "/accounts/password/",
    "teams": "/accounts/teams/",
    "tokens": "/accounts/tokens/",
    "shares": "/shares/",
    "notices": "/notices/",
    "notice-settings": "/accounts/notices/",
    "api-docs": "/api/v1/docs/",
    "not-found": "/no-such-page/",
    "admin": "/admin/",
}
WHAT_IF = (
    "/explore/?model=tinyllama-1-1b&model=gpt2&hardware=nvidia-h100-sxm5-80gb&hardware=nvidia-l4-24gb&input_tokens=256&output_tokens=64"
    "&lengths=64..2048*2&price.nvidia-l4-24gb=0.8"
)


def log_in(page: Page, base: str, username: str, password: str) -> None:
    """Raises SystemExit with what the page says when the portal refuses."""
    page.goto(urljoin(base, "/accounts/login/"))
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]:has-text('Log in')")
    page.wait_for_load_state("networkidle")
    if "/accounts/login" in page.url:
        raise SystemExit(f"The portal refused the name or password: {page.inner_text('main')[:300]}")


def first_item(page: Page, base: str, listing: str) -> str | None:
    """Path of the first item of a list page, or None."""
    page.goto(urljoin(base, listing))
    links = page.locator(f"main a[href^='{listing}']").evaluate_all("found => found.map(a => a.getAttribute('href'))")
    # An item's page is one step below its list, unlike exports (.csv), sorted views (?sort=) and "Upload".
    return next((link for link in links if re.fullmatch(rf"{listing}(?!new/|upload/)[\w-]+/", link)), None)


def run_links(page: Page, base: str, query: str, most: int) -> list[str]:
    return run_links_of(page, base, f"/runs/?{query}")[:most]


def run_links_of(page: Page, base: str, listing: str) -> list[str]:
    """Addresses of the lines of a list of runs or series."""
    page.goto(urljoin(base, listing))
    links = page.locator("main a.run-name").evaluate_all("found => found.map(a => a.getAttribute('href'))")
    return list(dict.fromkeys(links))


def ask_what_if(page: Page, base: str) -> dict[str, str]:
    """The what-if page with answers, where this portal has the models; the forms are made first, by its worker."""
    page.goto(urljoin(base, WHAT_IF))
    if page.locator("#explore input[name=model]").count() < 2:
        return {}
    button = page.locator("button:has-text('Make')")
    if button.count():
        button.click()
    page.locator("#shown-title, #answer .alert-warning").first.wait_for(timeout=180_000)
    return {"explore": WHAT_IF, "explore-changed": f"{WHAT_IF}&x_bandwidth=2&heat=bound&tensor_parallel=2"}


def find_pages(page: Page, base: str) -> dict[str, str]:
    """Page name → path: the fixed ones, then one of each sort that this portal has something to show for."""
    pages = dict(FIXED)
    pages |= ask_what_if(page, base)
    for name, listing in (("model", "/models/"), ("hardware-item", "/hardware/")):
        if link := first_item(page, base, listing):
            pages[name] = link
    estimates = run_links(page, base, "kind=estimate&state=done", 3)
    measured = run_links(page, base, "kind=measure&state=done", 3)
    for name, links in (("run-estimate", estimates), ("run-measured", measured)):
        if links:
            pages[name] = links[0]
            pages[f"{name}-share"] = links[0] + "share/"
    for name, listing in (("series-measured", "/history/"), ("series-estimated", "/history/?kind=estimate")):
        if links := run_links_of(page, base, listing):
            pages[name] = links[0]
    for state in ("failed", "cancelled", "running", "queued"):
        if links := run_links(page, base, f"state={state}", 1):
            pages[f"run-{state}"] = links[0]
    for name, links in (
        ("compare-estimates", estimates),
        ("compare-measured", measured),
        ("compare-mixed", estimates[:1] + measured[:1]),
    ):
        if len(links) > 1:
            ids = ",".join(link.strip("/").split("/")[-1] for link in links)
            pages[name] = f"/compare/?runs={ids}"
            pages[f"{name}-graphs"] = f"/compare/?runs={ids}&graphs=1"
    return pages


def screenfuls(page: Page, height: int, most: int) -> Iterator[int]:
    """Scroll down a screen at a time; yields 1, 2, … with the page in position."""
    total = page.evaluate("document.documentElement.scrollHeight")
    for number in range(1, most + 1):
        page.evaluate("y => window.scrollTo({top: y, behavior: 'instant'})", (number - 1) * (height - 60))
        yield number
        if number * (height - 60) + 60 >= total:
            return


#: A picture is cut there: browsers draw no higher ones.
MOST_PIXELS = 16_000


def shoot(page: Page, base: str, path: str, stem: Path, *, height: int, most: int) -> int:
    """Write one page's pictures, with every part open and every chart drawn; returns how many. ``most``: screenfuls, 0 for the whole."""
    from tests.browser.conftest import DRAWN, open_parts, until

    page.goto(urljoin(base, path))
    page.wait_for_load_state("load")
    open_parts(page)
    until(page, DRAWN)
    if not most:
        width, total = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        page.set_viewport_size({"width": width, "height": min(max(total, height), MOST_PIXELS)})
        page.screenshot(path=f"{stem}.png")
        page.set_viewport_size({"width": width, "height": height})
        return 1
    count = 0
    for count in screenfuls(page, height, most):
        page.screenshot(path=f"{stem}-{count}.png")
    return count


@contextmanager
def portal_of(
    browser: Browser, options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, str], dict[str, str], Any]]:
    """(address, pages of whoever is signed in, pages of a visitor, cookies): of the asked portal, else of one made for this."""
    from tests.browser.conftest import PASSWORD, furnished_portal

    def signed_in(url: str, user: str, password: str) -> Page:
        finder = browser.new_page()
        log_in(finder, url, user, password)
        return finder

    if options.url:
        finder = signed_in(options.url, options.user, options.password)
        # Asked for one path, it looks for no others: that may have the portal make something, and wait for its worker.
        found = {} if options.path else find_pages(finder, options.url)
        yield options.url, found, {}, finder.context.storage_state()
        return
    with tempfile.TemporaryDirectory() as folder, furnished_portal(Path(folder)) as made:
        finder = signed_in(made.portal.url, "admin", PASSWORD)
        others = {name: FIXED[name] for name in ("admin", "api-docs")}
        yield made.portal.url, made.signed_in | others, made.visitor, finder.context.storage_state()


def take_all(browser: Browser, options: argparse.Namespace) -> int:
    """Every page on every asked device, in every asked theme and language, into the folder; returns the number of pictures."""
    taken = 0
    with portal_of(browser, options) as (url, pages, visitor, state):
        if options.path:
            pages, visitor = {p.strip("/").replace("/", "-") or "root": p for p in options.path}, {}
        for device, theme, language in itertools.product(options.device, options.theme, options.language):
            width, height = DEVICES[device]
            for found, cookies in ((pages, state), (visitor, None)):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, storage_state=cookies, color_scheme=theme
                )
                context.add_cookies([{"name": "django_language", "value": language, "url": url}])
                page = context.new_page()
                for name, path in found.items():
                    if options.only and options.only not in name:
                        continue
                    stem = options.out / f"{name}-{device}-{theme}-{language}"
                    taken += shoot(page, url, path, stem, height=height, most=options.screens)
                    print(f"{stem}  {path}", flush=True)
                context.close()
    return taken


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where the pictures go")
    parser.add_argument(
        "--url", help="a running portal, such as http://127.0.0.1:8000; without it one is made for this"
    )
    parser.add_argument("--user", default="admin")
    parser.add_argument(
        "--password", default=os.environ.get("LLMCOMPARE_ADMIN_PASSWORD"), help="default: LLMCOMPARE_ADMIN_PASSWORD"
    )
    parser.add_argument("--device", nargs="+", choices=list(DEVICES), default=list(DEVICES))
    parser.add_argument("--theme", nargs="+", choices=THEMES, default=list(THEMES))
    parser.add_argument("--language", nargs="+", default=LANGUAGES, help="codes, such as en and zh-hans")
    parser.add_argument("--only", help="pages whose name holds this word")
    parser.add_argument("--path", nargs="+", help="these paths instead of every page")
    parser.add_argument(
        "--screens", type=int, default=0, help="so many screenfuls of a page in place of one picture of it"
    )
    return parser.parse_args(argv)


def main() -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM_FLAGS, chromium_path

    options = arguments()
    if options.url and not options.password:
        sys.exit("Give --password, or set LLMCOMPARE_ADMIN_PASSWORD.")
    path = chromium_path()
    if path is None:
        sys.exit("Chromium is not installed (Debian: apt-get install chromium).")
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        taken = take_all(browser, options)
        browser.close()
    print(f"{taken} pictures in {options.out}")


if __name__ == "__main__":
    main()
