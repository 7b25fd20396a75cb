"""Hostile texts in rows and addresses: every page still answers, and shows them as text."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from llmcompare.sharing.services import create_link
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_hardware, make_model, make_run
from tests.security.strings import HOSTILE

SHORT = {name: text[:150] for name, text in HOSTILE.items()}
#: What would run or break out if it reached a page as it is.
JSON_BLOCK = re.compile(r'<script[^>]*type="application/json"[^>]*>.*?</script>', re.DOTALL)
DANGEROUS = ("<img src=x", "<script>alert", '" onmouseover=')


def with_text(value, text):
    """The document with ``text`` in place of every name in it."""
    if isinstance(value, dict):
        return {key: with_text(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [with_text(item, text) for item in value]
    return text if value in ("Device", "=cmd()", "attention q_proj", "layers.0", "+ a remark") else value


@pytest.mark.parametrize("text", SHORT.values(), ids=SHORT.keys())
def test_pages_show_hostile_names_as_text(text, owner, owner_client, anonymous_client):
    model, device = make_model(name=text[:120]), make_hardware(name=text[:120], vendor="")
    run = make_run(
        owner,
        document=with_text(DOCUMENT, text),
        model=model,
        hardware=device,
        title=text,
        notes=text,
        error=text,
        message=text,
    )
    other = make_run(owner, title=text, state="failed", error=text, error_phase="load")
    _, token = create_link(owner=owner, runs=[run], label=text[:100], include_text=True)
    _, both = create_link(owner=owner, runs=[run, other])
    ids = f"{run.public_id},{other.public_id}"
    pages = [
        reverse("dashboard"),
        reverse("runs:list"),
        reverse("runs:detail", args=[run.public_id]),
        reverse("runs:detail", args=[other.public_id]),
        reverse("runs:status", args=[run.public_id]),
        reverse("runs:new") + f"?from={run.public_id}",
        reverse("runs:compare") + f"?runs={ids}",
        reverse("catalog:list"),
        reverse("catalog:detail", args=[model.slug]),
        reverse("hardware:list"),
        reverse("hardware:detail", args=[device.slug]),
        reverse("sharing:run", args=[run.public_id]),
        reverse("sharing:comparison") + f"?runs={ids}",
        reverse("sharing:list"),
        f"/s/{token}/",
        f"/s/{both}/",
    ]
    for page in pages:
        client = anonymous_client if page.startswith("/s/") else owner_client
        response = client.get(page)
        assert response.status_code == 200, page
        shown = response.content.decode()
        if text.startswith('"'):
            shown = JSON_BLOCK.sub("", shown)  # a quote is harmless in there, a tag would not be
        for danger in DANGEROUS:
            assert danger not in shown, (page, danger)
        assert shown.strip() != "49"
    for name in ("runs:run-csv", "runs:run-json"):
        response = owner_client.get(reverse(name, args=[run.public_id]))
        assert response.status_code == 200
        assert "\n" not in response["Content-Disposition"]
        assert response["X-Content-Type-Options"] == "nosniff"


PARAMETERS = (
    "q",
    "page",
    "size",
    "sort",
    "state",
    "kind",
    "model",
    "hardware",
    "since",
    "until",
    "scope",
    "runs",
    "baseline",
)
RUN_PARAMETERS = ("stage", "open", "roof", "graph", "measure", "depth", "v", "delimiter", "decimal")
ODD = [*SHORT.values(), "a\x00b", "9" * 30, "-1", "0", "1e9", "2026-13-45", ",,,", "a,a,a", "[]", "true"]


LISTS = (
    "runs:list",
    "runs:csv",
    "runs:json",
    "runs:compare",
    "runs:compare-csv",
    "runs:new",
    "catalog:list",
    "hardware:list",
)


@pytest.mark.parametrize("text", ODD)
def test_parameters_never_crash_a_page(text, owner, owner_client):
    run = make_run(owner, document=DOCUMENT)
    for name in LISTS:
        assert_answers(owner_client, reverse(name), dict.fromkeys(PARAMETERS, text))
    for name in ("runs:detail", "runs:run-csv", "runs:status"):
        assert_answers(owner_client, reverse(name, args=[run.public_id]), dict.fromkeys(RUN_PARAMETERS, text))


@pytest.mark.parametrize("text", [HOSTILE["html"], "a\x00b", "9" * 30, "2026-13-45"])
def test_no_parameter_hides_behind_another(text, owner, owner_client):
    run = make_run(owner, document=DOCUMENT)
    for parameter in PARAMETERS:
        for name in LISTS:
            assert_answers(owner_client, reverse(name), {parameter: text})
    for parameter in RUN_PARAMETERS:
        assert_answers(owner_client, reverse("runs:detail", args=[run.public_id]), {parameter: text})


def assert_answers(client, path, query):
    response = client.get(path, query)
    assert response.status_code in (200, 204, 400, 404), (path, query)
    response.getvalue()


@pytest.mark.parametrize("text", ["%00", "a%00b", "..%2f..%2fetc", "%F0%9F%98%80", "x" * 3000, "%ff%fe", "'", "<b>"])
def test_addresses_never_crash_a_page(text, owner_client, anonymous_client):
    for path in (
        f"/runs/{text}/",
        f"/runs/{text}.csv",
        f"/models/{text}/",
        f"/hardware/{text}/",
        f"/shares/{text}/revoke/",
    ):
        assert owner_client.get(path).status_code in (301, 404, 405), path
    assert anonymous_client.get(f"/s/{text}/").status_code == 404


@pytest.mark.parametrize("text", SHORT.values(), ids=SHORT.keys())
def test_forms_never_crash(text, owner, owner_client):
    run = make_run(owner, document=DOCUMENT)
    for name, fields, args in (
        ("runs:new", ("kind", "model", "hardware", "host", "prompt", "batch_size", "dtype", "title", "visibility"), []),
        ("runs:preview", ("kind", "model", "hardware", "batch_size", "input_tokens"), []),
        ("catalog:upload", ("name", "config"), []),
        ("hardware:new", ("name", "memory", "bandwidth"), []),
        ("sharing:run", ("expires", "label", "include_text"), [run.public_id]),
        ("sharing:comparison", ("runs",), []),
        ("accounts:profile", ("email", "first_name"), []),
        ("accounts:tokens", ("days", "expires"), []),
        ("accounts:revoke", ("token", "digest"), []),
    ):
        response = owner_client.post(reverse(name, args=args), dict.fromkeys(fields, text))
        assert response.status_code in (200, 201, 302, 400, 404, 422), name
