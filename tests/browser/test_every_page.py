"""Every page on every device, in both themes and every language: clean console, the policy kept, no sideways scroll, nothing serious
for axe; the keyboard reaches every control; everything can be read without JavaScript.

One portal, one browser and one window a combination; findings of all pages of a combination are reported together.
"""

from __future__ import annotations

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.browser.audit import out_of_reach, serious
from tests.browser.conftest import DESKTOP, DRAWN, PHONE, TABLET, open_parts, open_window, until

DEVICES = {"desktop": DESKTOP, "tablet": TABLET, "phone": PHONE}
#: axe takes most of the time of a visit. It looks at every page on every device, in both themes and every language: at every other page in
#: the first three combinations, at those between in the others.
AUDITED = {
    ("desktop", "light", "en"): 0, ("tablet", "light", "zh-hans"): 0, ("phone", "dark", "zh-hans"): 0,
    ("desktop", "dark", "zh-hans"): 1, ("tablet", "dark", "en"): 1, ("phone", "light", "en"): 1,
}  # fmt: skip
LANGUAGES = [code for code, _ in settings.LANGUAGES]
SIDEWAYS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def window_of(browser, furnished, viewport, state=None, language="en", **options):
    window = open_window(browser, viewport, storage_state=state, **options)
    window.page.context.add_cookies([{"name": "django_language", "value": language, "url": furnished.portal.url}])
    return window


def went_wrong(window, address: str, *, language: str, audit: bool) -> list[str]:
    """What is not as it should be on the page of ``address``, every part of it open."""
    page = window.page
    window.complaints.clear()
    status = page.goto(address).status
    open_parts(page)
    until(page, DRAWN)
    found = [*window.complaints]
    if status == 404:  # the browser notes in its console that the page itself was not found
        found = [text for text in found if "404" not in text]
    width, room = page.evaluate(SIDEWAYS)
    if width > room:
        found.append(f"scrolls sideways: {width} > {room} px")
    if (spoken := page.evaluate("document.documentElement.lang").lower()) != language:
        found.append(f"the page says that it is in {spoken}")
    return found + (serious(page) if audit else [])


def all_wrong(window, furnished, pages: dict[str, str], *, language: str, audited: int | None) -> list[str]:
    """``audited``: axe looks at the pages whose number has this remainder by two; None: at none."""
    found = []
    for number, (name, path) in enumerate(pages.items()):
        how = {"language": language, "audit": number % 2 == audited}
        found += [f"{name}: {text}" for text in went_wrong(window, furnished.portal.url + path, **how)]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.timeout(1500)
def test_every_page_is_clean(browser, furnished, signed_in_state, device, theme, language):
    how = {"language": language, "color_scheme": theme}
    asked = {"language": language, "audited": AUDITED.get((device, theme, language))}
    window = window_of(browser, furnished, DEVICES[device], signed_in_state, **how)
    found = all_wrong(window, furnished, furnished.signed_in, **asked)
    window.page.context.close()
    visitor = window_of(browser, furnished, DEVICES[device], **how)
    found += all_wrong(visitor, furnished, furnished.visitor, **asked)
    visitor.page.context.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("device", ["desktop", "phone"])
@pytest.mark.timeout(1500)
def test_the_keyboard_reaches_every_control(browser, furnished, signed_in_state, device):
    found = []
    for pages, state in ((furnished.signed_in, signed_in_state), (furnished.visitor, None)):
        window = window_of(browser, furnished, DEVICES[device], state)
        for name, path in pages.items():
            window.page.goto(furnished.portal.url + path)
            open_parts(window.page)
            until(window.page, DRAWN)
            found += [f"{name}: {control}" for control in out_of_reach(window.page)]
        window.page.context.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("device", ["desktop", "phone"])
@pytest.mark.timeout(1500)
def test_every_page_can_be_read_without_javascript(browser, furnished, signed_in_state, device):
    found = []
    for pages, state in ((furnished.signed_in, signed_in_state), (furnished.visitor, None)):
        window = window_of(browser, furnished, DEVICES[device], state, java_script_enabled=False)
        page = window.page
        for name, path in pages.items():
            page.goto(furnished.portal.url + path)
            if not page.locator("main h1").first.is_visible():
                found.append(f"{name}: no heading")
            found += [
                f"{name}: {control} needs JavaScript and is shown"
                for control in page.locator("[data-needs-js]:visible").evaluate_all("l => l.map(e => e.outerHTML)")
            ]
            width, room = page.evaluate(SIDEWAYS)
            if width > room:
                found.append(f"{name}: scrolls sideways: {width} > {room} px")
        page.context.close()
    assert not found, "\n".join(found)


#: What is no page to look at: fragments of pages, and what only takes a POST. Exports are told by how their address ends.
NO_PAGES = {
    "accounts": {"language", "logout", "revoke"},
    "catalog": {"folder-use", "hub-weights", "inspect"},
    "cloud": {
        *("allow", "delete", "deployment-status", "extend", "model-delete", "open-again", "read", "restore", "stop"),
        *("stop-everything", "traffic"),
    },
    "endpoints": {"delete", "look", "model", "restore", "status"},
    "explore": {"answer", "cancel", "device", "make", "run", "sweep-delete", "sweep-restore"},
    "hardware": {"host-ceilings", "host-ceilings-cancel"},
    "history": {
        *("comment", "comment-delete", "comment-edit", "comment-restore", "comment-undo", "mark", "mark-remove"),
        *("mark-restore", "notes", "notes-undo", "notices-badge", "notices-seen", "tag-remove", "tags"),
        *("view", "view-change", "view-delete", "view-restore", "view-save"),
    },
    "runs": {
        *("artifact", "bulk", "cancel", "delete", "preview", "rerun", "restore", "row", "run-graph", "status"),
    },
    "sharing": {"graph", "revoke"},
    "": {"robots", "set_language"},
}


def test_every_page_of_the_portal_is_looked_at(furnished):
    """A page that is added has to be furnished (``tests/browser/furnish.py``), or be named here as none."""
    names: dict[str, str] = {}

    def walk(resolver, space: str) -> None:
        for item in resolver.url_patterns:
            if isinstance(item, URLResolver):
                if item.namespace not in ("admin", "api"):
                    walk(item, f"{item.namespace}:" if item.namespace else space)
            elif isinstance(item, URLPattern) and item.name:
                names[space + item.name] = str(item.pattern)

    walk(get_resolver(), "")
    seen = {resolve(path.partition("?")[0]).view_name for name, path in furnished.pages.items() if name != "not-found"}
    none = {f"{space}:{name}".removeprefix(":") for space, inside in NO_PAGES.items() for name in inside}
    exports = {name for name, pattern in names.items() if pattern.endswith((".csv", ".json"))}
    left = set(names) - exports - none - seen
    assert not left, left
