"""axe in a page whose own policy stays in force, and what the keyboard reaches."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

#: ``preload`` fetches style sheets anew, for a rule on device orientation that no page here has anything to do with.
_RUN = """axe.run(document, {resultTypes: ["violations"], preload: false}).then(found => JSON.stringify(found.violations
    .filter(v => ["serious", "critical"].includes(v.impact))
    .map(v => v.id + " (" + v.impact + "): " + v.help + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(" | "))))"""

#: Controls that somebody can see and use. Of several radio buttons of a name, the keyboard stops at one.
_CONTROLS = """(() => {
  const seen = e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0;
  const folded = e => e.closest("details:not([open])") && !e.matches("details:not([open]) > summary");
  const all = Array.from(document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"));
  return all.filter(e => seen(e) && !folded(e) && !e.disabled && e.tabIndex >= 0 && e.type !== "radio");
})()"""


@cache
def _axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def serious(page: Any) -> list[str]:
    """What axe calls serious or critical. By the debugging protocol: the page's policy would refuse a script of ours."""
    session = page.context.new_cdp_session(page)
    try:
        session.send("Runtime.evaluate", {"expression": _axe()})
        answer = session.send("Runtime.evaluate", {"expression": _RUN, "awaitPromise": True, "returnByValue": True})
    finally:
        session.detach()
    assert "exceptionDetails" not in answer, answer
    return json.loads(answer["result"]["value"])


def complaints(page: Any) -> list[str]:
    """The same with the page's address."""
    return [f"{page.url}: {found}" for found in serious(page)]


def out_of_reach(page: Any) -> list[str]:
    """Visible controls that pressing Tab through the page never comes to."""
    page.evaluate(f"""() => {{
      window.reached = new Set();
      window.controls = {_CONTROLS};
      document.addEventListener("focusin", event => window.reached.add(event.target));
      document.activeElement.blur();
    }}""")
    for _ in range(page.evaluate("window.controls.length") + 10):
        page.keyboard.press("Tab")
    return page.evaluate(
        "() => window.controls.filter(e => !window.reached.has(e) && e.isConnected).map(e => e.outerHTML.slice(0, 160))"
    )
