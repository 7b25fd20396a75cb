"""In which language pages are answered, and that programs always read English."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from llmcompare.common.jstexts import TEXTS
from llmcompare.sharing.services import create_link
from tests.factories import make_run
from tests.layout.test_project import ROOT

CHINESE = "zh-CN,zh;q=0.9,en;q=0.5"


def language_of(response) -> str:
    return re.search(r'<html lang="([^"]+)"', response.content.decode())[1]


def choose(client, language, **more):
    return client.post(reverse("accounts:language"), {"language": language, "next": "/hardware/?q=h100"}, **more)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wanted", "got"), [(CHINESE, "zh-hans"), ("zh-Hans-SG", "zh-hans"), ("en-GB", "en"), ("fr", "en")]
)
def test_a_visitor_gets_the_language_of_the_browser(anonymous_client, wanted, got):
    response = anonymous_client.get(reverse("accounts:login"), headers={"accept-language": wanted})
    assert language_of(response).lower() == got
    assert response["Content-Language"] == got
    assert {"accept-language", "cookie"} <= {name.strip().lower() for name in response["Vary"].split(",")}


@pytest.mark.django_db
def test_a_visitor_keeps_the_language_that_was_chosen(anonymous_client):
    response = choose(anonymous_client, "zh-hans")
    assert (response.status_code, response["Location"]) == (302, "/hardware/?q=h100")
    assert anonymous_client.cookies["django_language"]["httponly"]
    for headers in ({}, {"accept-language": "en"}):
        assert language_of(anonymous_client.get(reverse("accounts:login"), headers=headers)) == "zh-hans"


def test_an_account_has_its_language_on_every_device(owner, owner_client):
    assert language_of(owner_client.get("/")) == "en"
    choose(owner_client, "zh-hans")
    owner.refresh_from_db()
    assert owner.language == "zh-hans"
    owner_client.cookies.pop("django_language")
    assert language_of(owner_client.get("/", headers={"accept-language": "en"})) == "zh-hans"
    owner_client.post(reverse("accounts:profile"), {"email": "", "language": ""})
    owner.refresh_from_db()
    assert owner.language == ""
    assert language_of(owner_client.get("/", headers={"accept-language": "en"})) == "en"


def test_an_unknown_language_changes_nothing(owner, owner_client):
    choose(owner_client, "tlh")
    owner.refresh_from_db()
    assert owner.language == ""
    assert language_of(owner_client.get("/")) == "en"


def test_the_switch_goes_nowhere_else(owner_client):
    response = owner_client.post(reverse("accounts:language"), {"language": "en", "next": "https://example.org/"})
    assert response["Location"] == "/"


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_switch_names_each_language_in_itself(owner_client, language):
    choose(owner_client, language)
    page = owner_client.get("/").content.decode()
    for code, name in (("en", "English"), ("zh-hans", "简体中文")):
        current = ' aria-current="true"' if code == language else ""
        assert f'value="{code}" lang="{code}"{current}>{name}</button>' in page


def test_what_answers_a_form_goes_back_to_the_form_in_another_language(owner_client):
    """The address that took the form may answer no GET."""

    def back_from(referer: str) -> str:
        page = owner_client.post("/models/upload/", {}, headers={"referer": referer}).content.decode()
        form = page.partition(f'action="{reverse("accounts:language")}"')[2]
        following = re.search(r'name="next" value="([^"]*)"', form)[1]
        sent = {"language": "zh-hans", "next": following}
        return owner_client.post(reverse("accounts:language"), sent, headers={"referer": "http://testserver/"}).url

    assert back_from("http://testserver/models/upload/?here=1") == "http://testserver/models/upload/?here=1"
    assert "evil" not in back_from("https://evil.example/")


def test_a_shared_page_is_read_in_another_language_without_an_account(owner, anonymous_client):
    _, token = create_link(owner=owner, runs=[make_run(owner)])
    address = f"/s/{token}/"
    page = anonymous_client.get(address)
    assert 'lang="zh-hans" hreflang="zh-hans" href="?language=zh-hans"' in page.content.decode()
    assert not page.cookies
    assert language_of(anonymous_client.get(f"{address}?language=zh-hans")) == "zh-hans"
    assert language_of(anonymous_client.get(address)) == "zh-hans", "the choice is kept"
    assert language_of(anonymous_client.get(f"{address}?language=tlh")) == "zh-hans"


def test_errors_speak_the_language_too(owner, owner_client):
    choose(owner_client, "zh-hans")
    response = owner_client.get("/no-such-page/")
    assert response.status_code == 404
    assert language_of(response) == "zh-hans"


def test_exports_and_the_api_are_in_english(owner, owner_client):
    names = [
        "runs:csv",
        "runs:json",
        "catalog:csv",
        "hardware:csv",
        "history:csv",
        "api:runs",
        "api:models",
        "api:schema",
    ]
    english = {name: owner_client.get(reverse(name)).getvalue() for name in names}
    wrong = owner_client.post(reverse("api:runs"), {}, content_type="application/json").content
    choose(owner_client, "zh-hans")
    assert {name: owner_client.get(reverse(name)).getvalue() for name in names} == english
    assert owner_client.post(reverse("api:runs"), {}, content_type="application/json").content == wrong


def test_numbers_are_written_alike(settings):
    from django.template import Context, Template
    from django.utils.translation import override

    template = Template("{% load humanize %}{{ large|intcomma }} {{ large }} {{ part }} {{ part|floatformat:2 }}")
    texts = set()
    for language, _name in settings.LANGUAGES:
        with override(language):
            texts.add(template.render(Context({"large": 1234567, "part": 0.125})))
    assert texts == {"1,234,567 1234567 0.125 0.13"}


def test_scripts_have_no_words_of_their_own():
    """What they ask for is there, and what is there is asked for."""
    asked = set()
    for path in (ROOT / "static").glob("*.js"):
        for call in re.findall(r"lcText\(([^;]*)", path.read_text()):
            asked |= set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', call.split("{")[0]))
    assert asked == set(TEXTS)
