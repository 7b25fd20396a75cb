"""What the first load of every page weighs, as the real server sends it to a browser with an empty cache: all its requests together."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import DESKTOP, DRAWN, open_window, until

WITH_CHARTS, WITHOUT = 700_000, 120_000
CHART_LIBRARIES = ("plotly", "cytoscape")


def weigh(browser, state, address: str) -> dict[str, int]:
    """Path of each request → bytes of its answer, compressed, with its headers."""
    window = open_window(browser, DESKTOP, storage_state=state)
    page, answers = window.page, []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(address)
    until(page, DRAWN)
    page.wait_for_load_state("networkidle")
    sizes = [(urlsplit(answer.url).path, answer.request.sizes()) for answer in answers]
    page.context.close()
    return {path: size["responseBodySize"] + size["responseHeadersSize"] for path, size in sizes}


@pytest.mark.timeout(1200)
def test_every_page_is_light(browser, furnished, signed_in_state):
    found, told = [], []
    for name, path in furnished.pages.items():
        state = signed_in_state if name in furnished.signed_in else None
        sizes = weigh(browser, state, furnished.portal.url + path)
        charts = any(library in part for part in sizes if part.endswith(".js") for library in CHART_LIBRARIES)
        whole, most = sum(sizes.values()), WITH_CHARTS if charts else WITHOUT
        told.append(f"{whole / 1000:7.1f} kB of {most / 1000:.0f}  {name}")
        if whole >= most:
            largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
            found.append(f"{name}: {whole} bytes, at most {most}: {largest}")
        assert not any("cartesian" in part for part in sizes), f"{name}: no page needs the larger bundle"
    print("\n".join(told))
    assert not found, "\n".join(found)


def test_texts_are_sent_compressed(browser, furnished, signed_in_state):
    window = open_window(browser, DESKTOP, storage_state=signed_in_state)
    plain = []
    window.page.on(
        "response",
        lambda answer: (
            plain.append(answer.url)
            if answer.request.resource_type in ("document", "stylesheet", "script")
            and answer.status == 200
            and int(answer.headers.get("content-length") or 0) > 1000
            and not answer.headers.get("content-encoding")
            else None
        ),
    )
    window.page.goto(furnished.portal.url + furnished.signed_in["run-measured"])
    until(window.page, DRAWN)
    window.page.context.close()
    assert plain == []
