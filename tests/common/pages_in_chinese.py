"""What a reader sees of a page: its texts and labels, without what is marked as English and without code."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
    "path",
    "use",
}
SILENT = {"script", "style", "code", "pre", "kbd", "template", "svg"}
LABELS = ("title", "aria-label", "placeholder", "alt", "aria-valuetext", "label")
BUTTONS = {"submit", "button", "reset"}
#: A plain word; what has digits, dots, underscores or slashes in it is a name, and capitals alone an abbreviation.
WORD = re.compile(r"[A-Za-z][A-Za-z’'-]+")
TOKEN = re.compile(r"[A-Za-z0-9_][\w./:+#@%=*’'-]*")
TERMS = Path(__file__).parent / "latin_terms.txt"


def terms() -> set[str]:
    """Words that stay in Latin letters on Chinese pages: names, units, formats, abbreviations."""
    lines = (line.split("#")[0] for line in TERMS.read_text().splitlines())
    return {word.lower() for line in lines for word in line.split()}


class Reader(HTMLParser):
    """Collects (where, text) of everything that is read or spoken."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[tuple[str, str]] = []
        self.open: list[tuple[str, bool]] = []

    @property
    def silent(self) -> bool:
        return any(hidden for _, hidden in self.open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        hidden = tag in SILENT or str(values.get("lang", "")).startswith("en")
        if not hidden and not self.silent and tag != "html":
            self.texts += [(f"<{tag} {name}>", values[name] or "") for name in LABELS if values.get(name)]
            if tag == "input" and values.get("type") in BUTTONS:
                self.texts.append(("<input value>", values.get("value") or ""))
        if tag not in VOID:
            self.open.append((tag, hidden and tag != "html"))

    def handle_endtag(self, tag: str) -> None:
        while self.open and any(name == tag for name, _ in self.open):
            if self.open.pop()[0] == tag:
                break

    def handle_data(self, data: str) -> None:
        if not self.silent and data.strip():
            place = self.open[-1][0] if self.open else ""
            self.texts.append((f"<{place}>", " ".join(data.split())))


def seen(html: str) -> list[tuple[str, str]]:
    reader = Reader()
    reader.feed(html)
    return reader.texts


def latin_words(text: str) -> list[str]:
    """The words of a text that look English."""
    words = []
    for token in TOKEN.findall(text):
        token = token.rstrip(".:/%-'’")
        # Capitals inside make it the name of a class, or random letters.
        if WORD.fullmatch(token) and len(token) > 2 and not token.isupper() and not re.search("[a-z][A-Z]", token):
            words.append(token)
    return words
