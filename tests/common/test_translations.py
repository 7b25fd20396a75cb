"""Every text of the portal is translated: catalogues are complete, templates mark their words, Chinese pages have no English left."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils.translation.trans_real import translation

from llmcompare.accounts.middleware import in_english
from scripts import messages
from tests.common.pages_in_chinese import latin_words, seen, terms
from tests.exports.test_exports import DOCUMENT
from tests.layout.test_project import ROOT
from tests.security.access_table import PAGES
from tests.security.cast import browser_of, make_world

CATALOGUES = messages.catalogues()
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
#: Texts in templates that are the same in every language: names, units, formats.
SAME = re.compile(
    r"\b(llmcompare|UTC|CSV|JSON|DOT|SHA-256|torch|Python|GB|GiB|Authorization: Token|Language · 语言|FLOPs?|OP|OPFLOP|byte|h|s|"
    r"Model Explorer|Google|API|OpenAPI|URL|TTFT|TPOT|ITL|KV|p\d\d|Markdown|Vertex AI)\b"
)


@pytest.mark.parametrize("po", CATALOGUES, ids=messages.name_of)
def test_a_catalogue_is_complete_and_compiled(po):
    """If this fails: ``python scripts/messages.py``, then translate what is listed."""
    assert messages.problems(po, CATALOGUES[po]) == []


#: Words that Django's own applications say too: theirs come first, and mean the same.
THEIRS = {"Summary", "iterations", "Add", "Administration", "Log out", "active", "Filters", "Remove", "Show all"}


def test_words_of_other_packages_do_not_take_the_place_of_ours():
    """Of the same text the app that stands first wins, and Django's stand before ours. A word that means another thing needs a context."""
    shown, ours = translation("zh-hans")._catalog, {}
    for po in CATALOGUES:
        if po.name == "django.po":
            for text in messages.read(po):
                if isinstance(text.id, str) and text.id:
                    key = f"{text.context}\x04{text.id}" if text.context else text.id
                    ours.setdefault(key, set()).add(text.string)
    taken = {key for key, words in ours.items() if shown.get(key) not in words}
    assert taken - THEIRS == set()
    apart = {key: words for key, words in ours.items() if len(words) > 1}
    assert apart == {}, "the same text in several apps has the same translation"


def unmarked(source: str) -> list[str]:
    """Words of a template that no tag marks as a text to translate."""
    source = re.sub(r"\{#.*?#\}|\{% comment .*?endcomment %\}", "", source, flags=re.DOTALL)
    source = re.sub(r"\{% blocktranslate.*?endblocktranslate %\}", "", source, flags=re.DOTALL)
    source = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", source, flags=re.DOTALL)
    found = []
    for place, text in seen(source):
        if re.search(r"[A-Za-z]{2}", SAME.sub("", text)):
            found.append(f"{place} {text}")
    return found


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(ROOT / "templates").as_posix())
def test_templates_mark_their_words(path):
    assert unmarked(path.read_text()) == []


def test_words_that_are_not_marked_are_found():
    page = (
        '<p title="A title">{% translate "Fine" %} {{ value }} left</p><code>ls</code>{% if x %}<b>12 GB</b>{% endif %}'
    )
    assert unmarked(page) == ["<p title> A title", "<p> left"]


def test_catalogues_with_faults_are_found(tmp_path):
    po = tmp_path / "locale" / "django.po"
    catalogue = messages.collected({("At most {n} fit.", None), ("Save", None), ("Old", None)}, messages.read(po), {})
    catalogue["At most {n} fit."].string = "最多 {m} 个。"
    catalogue["Old"].string = "旧"
    messages.write(po, catalogue)
    found = messages.problems(po, {("At most {n} fit.", None), ("Save", None), ("New", None)})
    assert [re.sub(r"^\S+ ", "", line).split(":")[0] for line in found] == [
        "not collected yet",
        "no longer used",
        "other placeholders than 'At most {n} fit.'",
        "not translated",
        "not made from django.po (--compile)",
    ]


# --- the pages themselves ---


@pytest.fixture
def world(owner, team):
    return make_world(owner, team)


GETS = [(name, case) for name, cases in PAGES.items() for case in cases if case.method == "get"]


def words_of_data(value) -> set[str]:
    """What people and documents call things: names of models, devices, modules."""
    if isinstance(value, dict):
        return {word for key, item in value.items() for word in words_of_data(key) | words_of_data(item)}
    if isinstance(value, list):
        return {word for item in value for word in words_of_data(item)}
    return {word.lower() for word in latin_words(value)} if isinstance(value, str) else set()


#: What the small world of ``tests/security`` and its documents call things.
DATA = words_of_data([DOCUMENT["operators"], DOCUMENT["modules"], DOCUMENT["graph"]]) | words_of_data(
    "remark Mfu Tiny Small Large Device Maker Host Model Team Ours Off owner teammate stranger staff example Nobody else may read this title seven To be allowed LlamaForCausalLM llama root"
)
KNOWN = terms() | DATA


#: Values as the command line and documents have them, before their meaning: "all: 每个位置", "normal(200, 50)".
VALUES = re.compile(r"^[a-z]+(?=: )|\b(?:uniform|normal|lognormal)(?=\()")


def english_on(html: str) -> dict[str, list[str]]:
    """Text → its words that nobody translated."""
    return {
        f"{place} {text}": left
        for place, text in seen(html)
        if (left := [word for word in latin_words(VALUES.sub("", text)) if word.lower() not in KNOWN])
    }


def without(page: str, world: dict) -> str:
    """The page without the names of the world's rows, which are random letters."""
    for value in sorted(map(str, world.values()), key=len, reverse=True):
        page = page.replace(value, "") if len(value) > 8 else page
    return re.sub(r"[\w-]{6,8}…", "", page)  # the beginnings of tokens


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_every_page_opens_in_every_language(language, world, owner):
    """One test a language: the small world is made once."""
    client = browser_of(owner)
    client.cookies["django_language"] = language
    faults = {}
    for name, case in GETS:
        names = {key: value.format(**world) for key, value in case.args.items()}
        query = {key: value.format(**world) for key, value in case.query.items()}
        response = client.get(reverse(name, kwargs=names), query)
        wanted = case.answers[-1]
        address = response.request["PATH_INFO"]
        if response.status_code not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            faults[address] = response.status_code
        elif "html" in response.get("Content-Type", "") and not in_english(address):
            page = without(response.content.decode(), world)
            if "<html" in page and f'<html lang="{language}"' not in page:
                faults[address] = "another language"
            elif language == "zh-hans" and (left := english_on(page)):
                faults[address] = left
    assert not faults, json.dumps(faults, ensure_ascii=False, indent=1)


#: What an administrator's page has of rows: data. Names of lists, columns and fields are not.
ROWS = re.compile(
    r"<td.*?</td>|<th class=.field.*?</th>|<textarea.*?</textarea>|<nav id=.changelist-filter.*?</nav>|<option.*?</option>"
    # Django has this one in English.
    r"|<img[^>]* alt=.(?:Search|True|False).[^>]*>|<div class=.readonly.*?</div>",
    re.DOTALL,
)


def test_the_administration_is_in_chinese(staff, world):
    client = browser_of(staff)
    client.cookies["django_language"] = "zh-hans"
    faults, opened = {}, 0
    for model in admin.site._registry:
        if not model.__module__.startswith(("hardware", "llmcompare")):
            continue
        place = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        row = model._default_manager.first()
        pages = [reverse(f"{place}_changelist"), reverse(f"{place}_add")]
        for path in pages + ([reverse(f"{place}_change", args=[row.pk])] if row else []):
            response = client.get(path)
            if response.status_code == 200:
                opened += 1
                if left := english_on(ROWS.sub("", without(response.content.decode(), world))):
                    faults[path] = left
    assert opened > 15
    assert not faults, json.dumps(faults, ensure_ascii=False, indent=1)


def test_english_on_a_chinese_page_is_found():
    page = '<h1>运行 Model 7</h1><p title="Hidden words">吞吐量 <span lang="en">An old remark</span> forgotten text</p>'
    assert english_on(page) == {
        "<p title> Hidden words": ["Hidden", "words"],
        "<p> forgotten text": ["forgotten", "text"],
    }


def test_the_scripts_folder_has_the_terms_sorted_out():
    """A term is listed once."""
    lines = [
        line.split("#")[0].split() for line in Path(ROOT / "tests/common/latin_terms.txt").read_text().splitlines()
    ]
    words = [word.lower() for line in lines for word in line]
    assert len(words) == len(set(words))
