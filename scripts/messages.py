"""Keep the catalogues of translations: collect the texts, list what is missing, compile.

    python scripts/messages.py             # collect: new texts get an empty translation, gone ones leave; then compile
    python scripts/messages.py --check     # change nothing; list what is missing, stale or damaged and exit with 1
    python scripts/messages.py --compile   # only make the .mo files from the .po files (after a merge)
    python scripts/messages.py catalog     # any of them for the catalogues of these apps alone ("engine" is one too)

GNU gettext is not needed: Django turns templates into something that Babel's extractor for Python reads. Catalogues have no dates and no
line numbers and are sorted, so that work on different texts merges. See docs/translations.md.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_python
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.engine_sentences import sentences  # noqa: E402

LOCALE = Path("locale", "zh_Hans", "LC_MESSAGES")
CATALOGUE_OF_ENGINE = ROOT / "llmcompare/common" / LOCALE / "engine.po"
HEADER = """\
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Language: zh_Hans\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

"""
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
#: Placeholders for a word that English needs for its grammar: “takes” or “take”.
GRAMMAR = {"several", "verb"}
PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]|(?<!\{)\{(\w+)[^{}]*\}(?!\})")


@dataclass(frozen=True)
class Area:
    """A catalogue, and where its texts are: ``folder`` holds the code and ``locale/``, ``templates`` the pages."""

    folder: Path
    code: tuple[Path, ...]
    templates: tuple[Path, ...]

    @property
    def po(self) -> Path:
        return self.folder / LOCALE / "django.po"


def areas() -> list[Area]:
    """One for every app, by its name; what belongs to no app is in that of ``common``."""
    found = []
    for config in sorted([ROOT / "hardware/apps.py", *(ROOT / "llmcompare").glob("*/apps.py")]):
        folder = config.parent
        code = tuple(path for path in sorted(folder.rglob("*.py")) if "migrations" not in path.parts)
        pages = tuple(sorted((ROOT / "templates" / folder.name).rglob("*.*")))
        if folder.name == "common":
            code += tuple(sorted((ROOT / "llmcompare").glob("*.py")))
            pages += tuple(sorted((ROOT / "templates").glob("*.html")))
            pages += tuple(sorted((ROOT / "templates/admin").rglob("*.html")))
        found.append(Area(folder, code, pages))
    return found


def texts_of(area: Area) -> Iterator[tuple[str | tuple[str, ...], str | None]]:
    """(text or (one, many), context) of everything that is marked in an area."""
    # Django's own test of a template's syntax looks at settings.DEBUG.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmcompare.settings")
    from django.utils.translation.template import templatize

    for path in area.code:
        yield from extracted(path.read_text())
    for path in area.templates:
        # What Django leaves of a page is no Python: each line alone is, as far as the extractor cares.
        code = templatize(path.read_text(), origin=str(path))
        yield from extracted("\n".join(line.strip() for line in code.splitlines()))


def stored_texts() -> set[str]:
    """Sentences that the portal keeps in rows, marked with ``stored``: they are looked up like the engine's."""
    found = set()
    for area in areas():
        for path in area.code:
            for _, _, text, _ in extract_python(io.BytesIO(path.read_bytes()), ("stored",), (), {}):
                found.add(text if isinstance(text, str) else text[0])
    return found - {None}


def extracted(code: str) -> Iterator[tuple[str | tuple[str, ...], str | None]]:
    for _, function, messages, _ in extract_python(io.BytesIO(code.encode()), tuple(KEYWORDS), (), {}):
        parts = messages if isinstance(messages, tuple) else (messages,)
        context, at = None, 0
        if function.startswith(("p", "np")):
            context, at = parts[0], 1
        texts = parts[at : at + 2] if "ng" in function or "np" in function else parts[at : at + 1]
        if texts[0] and all(texts):
            yield (texts[0] if len(texts) == 1 else tuple(texts)), context


def read(po: Path) -> Catalog:
    if not po.exists():
        return Catalog(locale="zh_Hans")
    with po.open("rb") as file:
        return read_po(file, locale="zh_Hans")


def collected(wanted, kept: Catalog, others: dict) -> Catalog:
    """The wanted texts with the translations they have; a new one takes that of the same text in another catalogue."""
    made = Catalog(locale="zh_Hans")
    for text, context in wanted:
        first = text if isinstance(text, str) else text[0]
        before = kept.get(first, context)
        same = (
            before if before is not None and before.id == text and translated(before) else others.get((text, context))
        )
        made.add(text, same.string if same else "" if isinstance(text, str) else ("",), context=context)
    return made


def translated(message) -> bool:
    strings = [message.string] if isinstance(message.string, str) else message.string
    return bool(strings) and all(strings)


def write(po: Path, catalog: Catalog) -> None:
    po.parent.mkdir(parents=True, exist_ok=True)
    body = io.BytesIO()
    write_po(body, catalog, omit_header=True, no_location=True, sort_output=True, width=0)
    # Which kind of placeholders a text has is plain from the text.
    lines = [line for line in body.getvalue().decode().splitlines() if not line.startswith("#,")]
    po.write_text(HEADER + "\n".join(lines).strip() + "\n")


def compiled(po: Path) -> bytes:
    """The .mo file of a .po file: the same bytes whenever and wherever it is made."""
    entries = {"": HEADER.split('msgstr ""\n')[1].replace('"', "").replace("\\n\n", "\n").strip() + "\n"}
    for message in read(po):
        if message.id and translated(message):
            key = message.id if isinstance(message.id, str) else "\0".join(message.id)
            text = message.string if isinstance(message.string, str) else "\0".join(message.string)
            entries[f"{message.context}\x04{key}" if message.context else key] = text
    pairs = sorted((key.encode(), text.encode()) for key, text in entries.items())
    tables, strings = [b"", b""], b""
    start = 28 + 16 * len(pairs)
    for column in (0, 1):
        for pair in pairs:
            tables[column] += struct.pack("<II", len(pair[column]), start + len(strings))
            strings += pair[column] + b"\0"
    head = struct.pack("<IIIIIII", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, start)
    return head + tables[0] + tables[1] + strings


def placeholders(text: str) -> set[str]:
    return {a or b for a, b in PLACEHOLDER.findall(text)}


def shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def problems(po: Path, wanted: set) -> list[str]:
    """What is wrong with a catalogue, in sentences."""
    name, found, have = shown(po), [], {}
    for message in read(po):
        if message.id:
            have[message.id, message.context] = message
    found += [f"{name}: not collected yet: {text!r}" for text, _ in sorted(wanted - set(have), key=str)]
    found += [f"{name}: no longer used: {text!r}" for text, _ in sorted(set(have) - wanted, key=str)]
    for (text, _), message in have.items():
        if not translated(message):
            found.append(f"{name}: not translated: {text!r}")
            continue
        if message.fuzzy:
            found.append(f"{name}: fuzzy: {text!r}")
        many = text if isinstance(text, str) else text[-1]
        string = message.string if isinstance(message.string, str) else message.string[0]
        if placeholders(many) - GRAMMAR != placeholders(string) - GRAMMAR:
            found.append(f"{name}: other placeholders than {many!r}: {string!r}")
    mo = po.with_suffix(".mo")
    if have and (not mo.exists() or mo.read_bytes() != compiled(po)):
        found.append(f"{shown(mo)}: not made from {po.name} (--compile)")
    return found


def catalogues() -> dict[Path, set]:
    """.po file → what belongs in it. The engine's sentences have one of their own: the portal looks them up by their pattern."""
    wanted = {area.po: set(texts_of(area)) for area in areas()}
    looked_up = sentences(ROOT / "profiling") | stored_texts()
    wanted[CATALOGUE_OF_ENGINE] = {(text, None) for text in looked_up}
    return {po: texts for po, texts in wanted.items() if texts or po.exists()}


def name_of(po: Path) -> str:
    return po.stem if po.stem != "django" else po.parents[3].name


def compile_all(files) -> None:
    for po in files:
        if po.exists():
            po.with_suffix(".mo").write_bytes(compiled(po))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if anything is missing or stale"
    )
    parser.add_argument("--compile", action="store_true", help="only make the .mo files")
    parser.add_argument(
        "names", nargs="*", metavar="APP", help="only the catalogues of these apps; engine: its sentences"
    )
    options = parser.parse_args(arguments)
    wanted = {po: texts for po, texts in catalogues().items() if not options.names or name_of(po) in options.names}
    if options.compile:
        compile_all(wanted)
        return 0
    if not options.check:
        kept = {po: read(po) for po in wanted}
        others = {(m.id, m.context): m for po in catalogues() for m in read(po) if m.id and translated(m)}
        for po, texts in wanted.items():
            write(po, collected(texts, kept[po], others))
        compile_all(wanted)
    found = [line for po, texts in wanted.items() for line in problems(po, texts)]
    for line in found:
        print(line)
    print(f"{sum(map(len, wanted.values()))} texts in {len(wanted)} catalogues, {len(found)} problems")
    return 1 if found and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
