"""Every page on every device, in both themes and every language: clean console, the policy kept, no sideways scroll, nothing serious
for axe; the keyboard reaches every control; everything can be read without JavaScript.

One portal, one browser and one window a combination; findings of all pages of a combination are reported together.
"""

from __future__ import annotations

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.browser.audit import out_of_reach, serious
from tests.browser.conftest import DESKTOP, DRAWN, PHONE, TABLET, open_parts, open_window, show_in, until

DEVICES = {"desktop": DESKTOP, "tablet": TABLET, "phone": PHONE}
THEMES = ("light", "dark")
#: axe takes most of the time of a visit. With ``--all`` it looks at every page on every device, in both themes and every language, though not
#: at every combination: at every other page (by the remainder of its number) in the theme that stands here. ``--exhaustive``: at all.
AUDITED = {
    ("desktop", "en"): ("light", 0), ("tablet", "zh-hans"): ("light", 0), ("phone", "zh-hans"): ("dark", 0),
    ("desktop", "zh-hans"): ("dark", 1), ("tablet", "en"): ("dark", 1), ("phone", "en"): ("light", 1),
}  # fmt: skip
LANGUAGES = [code for code, _ in settings.LANGUAGES]
SIDEWAYS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def window_of(browser, furnished, viewport, state=None, language="en", **options):
    window = open_window(browser, viewport, storage_state=state, **options)
    window.page.context.add_cookies([{"name": "django_language", "value": language, "url": furnished.portal.url}])
    return window


def went_wrong(window, address: str, *, language: str, themes: tuple[str, ...], audited: tuple[str, ...]) -> list[str]:
    """What is not as it should be on the page of ``address``, every part of it open: in the first of ``themes``, in which it is loaded, and
    in the other, to which it is switched. ``audited``: the themes in which axe looks at it."""
    page = window.page
    window.complaints.clear()
    page.emulate_media(color_scheme=themes[0])
    status = page.goto(address).status
    open_parts(page)
    found = []
    if (spoken := page.evaluate("document.documentElement.lang").lower()) != language:
        found.append(f"the page says that it is in {spoken}")
    for theme in themes:
        show_in(page, theme)
        width, room = page.evaluate(SIDEWAYS)
        if width > room:
            found.append(f"{theme}: scrolls sideways: {width} > {room} px")
        if theme in audited:
            found += [f"{theme}: {text}" for text in serious(page)]
    # The browser notes in its console that the page itself was not found.
    return found + [text for text in window.complaints if not (status == 404 and "404" in text)]


def all_wrong(window, furnished, pages: dict[str, str], *, device: str, language: str, everywhere: bool) -> list[str]:
    found = []
    theme, remainder = AUDITED[device, language]
    for number, (name, path) in enumerate(pages.items()):
        audited = THEMES if everywhere else (theme,) if number % 2 == remainder else ()
        how = {"language": language, "themes": THEMES[:: 1 if number % 4 < 2 else -1], "audited": audited}
        found += [f"{name}: {text}" for text in went_wrong(window, furnished.portal.url + path, **how)]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "everywhere", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["in turn", "all"]
)
@pytest.mark.timeout(1500)
def test_every_page_is_clean(browser, furnished, signed_in_state, device, language, everywhere):
    """In both themes: a page is loaded in one and switched to the other."""
    found = []
    for pages, state in ((furnished.signed_in, signed_in_state), (furnished.visitor, None)):
        window = window_of(browser, furnished, DEVICES[device], state, language=language)
        found += all_wrong(window, furnished, pages, device=device, language=language, everywhere=everywhere)
        window.page.context.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("device", "begin", "step"),
    [
        ("desktop", 0, 2),
        ("phone", 1, 2),
        *(pytest.param(device, 0, 1, marks=pytest.mark.exhaustive) for device in DEVICES),
    ],
)
@pytest.mark.timeout(1500)
def test_the_keyboard_reaches_every_control(browser, furnished, signed_in_state, device, begin, step):
    """With ``--all`` each page on one of two devices, in turn: a press of a key takes longer than all else here."""
    found = []
    for pages, state in ((furnished.signed_in, signed_in_state), (furnished.visitor, None)):
        window = window_of(browser, furnished, DEVICES[device], state)
        for name, path in list(pages.items())[begin::step]:
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
