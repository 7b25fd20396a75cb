"""Screenshots of every page of a running portal, for a person to look through.

``python -m tests.browser.screenshots http://127.0.0.1:8000 --user admin --password … --out shots`` logs in, finds runs, models and
hardware to show by itself, and writes ``<page>-<device>-<theme>-<n>.png``: one picture per screenful, so that everything stays legible.
``--only run`` limits it to pages whose name holds that word.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEVICES = {"desktop": (1280, 900), "tablet": (768, 1024), "phone": (390, 844)}
THEMES = ("light", "dark")
# Pages that every portal has; those of single runs, models and hardware are found in its own lists.
FIXED = {
    "dashboard": "/",
    "models": "/models/",
    "model-upload": "/models/upload/",
    "hardware": "/hardware/",
    "runs": "/runs/",
    "runs-none-match": "/runs/?q=nothing-is-called-this",
    "new-run": "/runs/new/",
    "new-measurement": "/runs/new/?kind=measure",
    "compare-empty": "/compare/",
    "profile": "/accounts/profile/",
    "password": "/accounts/password/",
    "teams": "/accounts/teams/",
    "tokens": "/accounts/tokens/",
    "shares": "/shares/",
    "api-docs": "/api/v1/docs/",
    "not-found": "/no-such-page/",
    "admin": "/admin/",
}


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
    page.goto(urljoin(base, f"/runs/?{query}"))
    links = page.locator("main a.run-name").evaluate_all("found => found.map(a => a.getAttribute('href'))")
    return list(dict.fromkeys(links))[:most]


def find_pages(page: Page, base: str) -> dict[str, str]:
    """Page name → path: the fixed ones, then one of each sort that this portal has something to show for."""
    pages = dict(FIXED)
    for name, listing in (("model", "/models/"), ("hardware-item", "/hardware/")):
        if link := first_item(page, base, listing):
            pages[name] = link
    estimates = run_links(page, base, "kind=estimate&state=done", 3)
    measured = run_links(page, base, "kind=measure&state=done", 3)
    for name, links in (("run-estimate", estimates), ("run-measured", measured)):
        if links:
            pages[name] = links[0]
            pages[f"{name}-share"] = links[0] + "share/"
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
    return pages


def screenfuls(page: Page, height: int, most: int) -> Iterator[int]:
    """Scroll down a screen at a time; yields 1, 2, … with the page in position."""
    total = page.evaluate("document.documentElement.scrollHeight")
    for number in range(1, most + 1):
        page.evaluate("y => window.scrollTo({top: y, behavior: 'instant'})", (number - 1) * (height - 60))
        yield number
        if number * (height - 60) + 60 >= total:
            return


def shoot(page: Page, base: str, path: str, stem: Path, *, height: int, most: int) -> int:
    """Write one page's pictures; returns how many."""
    page.goto(urljoin(base, path))
    page.wait_for_load_state("load")
    for drawn in ("[data-chart]", "[data-graph]"):
        if page.locator(drawn).count():
            inside = "canvas" if drawn == "[data-graph]" else ".main-svg"
            page.locator(f"{drawn} {inside}").first.wait_for(state="attached", timeout=15_000)
    count = 0
    for count in screenfuls(page, height, most):
        page.screenshot(path=f"{stem}-{count}.png")
    return count


def take_all(browser: Browser, options: argparse.Namespace) -> int:
    """Every page on every asked device and theme into the folder; returns the number of pictures."""
    finder = browser.new_page()
    log_in(finder, options.url, options.user, options.password)
    pages = (
        find_pages(finder, options.url)
        if not options.path
        else {p.strip("/").replace("/", "-") or "root": p for p in options.path}
    )
    state = finder.context.storage_state()
    finder.close()
    taken = 0
    for device in options.device:
        width, height = DEVICES[device]
        for theme in options.theme:
            context = browser.new_context(
                viewport={"width": width, "height": height}, storage_state=state, color_scheme=theme, is_mobile=False
            )
            page = context.new_page()
            for name, path in pages.items():
                if options.only and options.only not in name:
                    continue
                stem = options.out / f"{name}-{device}-{theme}"
                taken += shoot(page, options.url, path, stem, height=height, most=options.screens)
                print(f"{stem}  {path}", flush=True)
            context.close()
    return taken


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__.split("\n\n")[0])
    parser.add_argument("url", help="address of a running portal, such as http://127.0.0.1:8000")
    parser.add_argument("--user", default="admin")
    parser.add_argument(
        "--password", default=os.environ.get("LLMCOMPARE_ADMIN_PASSWORD"), help="default: LLMCOMPARE_ADMIN_PASSWORD"
    )
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--device", nargs="+", choices=list(DEVICES), default=["desktop", "phone"])
    parser.add_argument("--theme", nargs="+", choices=THEMES, default=list(THEMES))
    parser.add_argument("--only", help="pages whose name holds this word")
    parser.add_argument("--path", nargs="+", help="these paths instead of every page")
    parser.add_argument("--screens", type=int, default=12, help="most screenfuls of one page")
    return parser.parse_args(argv)


def main() -> None:
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM_FLAGS, chromium_path

    options = arguments()
    if not options.password:
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
