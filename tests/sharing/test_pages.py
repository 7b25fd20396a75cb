"""Sharing in the browser: make a link, open it without an account, revoke it."""

import csv
import io
import json
import re

import pytest
from django.urls import reverse

from llmcompare.runs.models import RunMetric
from llmcompare.sharing import services
from llmcompare.sharing.models import ShareLink
from tests.conftest import client_for
from tests.factories import make_run
from tests.run_page.documents import measured
from tests.sharing.test_public import SECRETS

PROMPT, ANSWER = "What is the capital of France?", "The capital of France is Paris."


@pytest.fixture
def document():
    made = measured()
    made["workload"]["prompt"] = PROMPT
    made["output"] = {
        "prompt": PROMPT,
        "texts": [ANSWER],
        "input_tokens": [7],
        "output_tokens": [7],
        "finish": ["eos"],
    }
    return made


@pytest.fixture
def run(owner, document):
    return make_run(owner, document=document, kind="measure", title="Shared run")


def share(client, run, **choices):
    response = client.post(reverse("sharing:run", args=[run.public_id]), {"expires": "7"} | choices)
    assert response.status_code == 201, response.content.decode()[:2000]
    assert "no-store" in response["Cache-Control"]
    return re.search(r"/s/([\w-]{43})/", response.content.decode()).group(1)


def test_a_link_is_made_shown_once_and_opens_without_an_account(owner_client, anonymous_client, run):
    page = owner_client.get(reverse("sharing:run", args=[run.public_id]))
    assert page.status_code == 200
    assert "Shared run" in page.content.decode()
    token = share(owner_client, run, label="for Bob")
    assert "for Bob" in owner_client.get(reverse("sharing:list")).content.decode()
    assert token not in owner_client.get(reverse("sharing:list")).content.decode()
    visit = anonymous_client.get(f"/s/{token}/")
    assert visit.status_code == 200
    text = visit.content.decode()
    assert "Shared run" in text
    assert "llmcompare" in text
    assert "owner" not in re.sub(r"[^a-z@]", " ", text).split()
    assert not visit.cookies


def test_prompt_and_answer_appear_only_when_ticked(owner_client, anonymous_client, run):
    for ticked in (False, True):
        token = share(owner_client, run, **({"include_text": "on"} if ticked else {}))
        for path in ("", "export.json", "export.csv"):
            text = anonymous_client.get(f"/s/{token}/{path}").getvalue().decode()
            if path != "export.csv":
                assert (ANSWER in text) is ticked, path
            if not ticked:
                assert PROMPT not in text


def test_a_viewer_of_the_team_shares_no_words_of_a_teammate(
    owner, team, teammate, teammate_client, anonymous_client, document
):
    document["workload"]["prompts"] = [PROMPT]
    run = make_run(owner, document=document, kind="measure", visibility="team", team=team, notes="Not for outside")
    form = teammate_client.get(reverse("sharing:run", args=[run.public_id])).content.decode()
    assert 'name="include_text"' not in form
    assert "not yours to show" in form
    asked = teammate_client.post(reverse("sharing:run", args=[run.public_id]), {"include_text": "on"})
    assert asked.status_code == 422
    assert "Only those who may change a run" in asked.content.decode()
    assert not ShareLink.objects.exists()
    token = share(teammate_client, run)
    # A row as an earlier version left it, that never asked.
    ShareLink.objects.update(include_text=True)
    for path in ("", "export.json", "export.csv"):
        text = anonymous_client.get(f"/s/{token}/{path}").getvalue().decode()
        assert not any(words in text for words in (PROMPT, ANSWER, "Not for outside")), path


def test_answers_are_kept_by_nobody_and_pass_nothing_on(owner_client, anonymous_client, run):
    token = share(owner_client, run)
    for path in (f"/s/{token}/", f"/s/{token}/export.json", f"/s/{token}/export.csv", "/s/unknown/"):
        response = anonymous_client.get(path)
        assert response["X-Robots-Tag"] == "noindex, nofollow"
        assert response["Referrer-Policy"] == "no-referrer"
        assert response["Cache-Control"] == "private, no-store"


def test_links_that_do_not_work_all_look_the_same(owner_client, anonymous_client, owner, run):
    revoked, expired, gone = (share(owner_client, run) for _ in range(3))
    services.revoke_link(link=ShareLink.objects.get(token_digest=services.token_digest(revoked)))
    ShareLink.objects.filter(token_digest=services.token_digest(expired)).update(expires_at=run.created)
    deleted = make_run(owner)
    gone = services.create_link(owner=owner, runs=[deleted])[1]
    type(deleted).objects.filter(pk=deleted.pk).update(deleted_at=run.created)
    answers = [anonymous_client.get(f"/s/{token}/") for token in (revoked, expired, gone, "A" * 43)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers.items())) for answer in answers}) == 1


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_a_link_only_reads(owner_client, anonymous_client, run, method):
    token = share(owner_client, run)
    assert getattr(anonymous_client, method)(f"/s/{token}/").status_code == 405
    assert anonymous_client.head(f"/s/{token}/").status_code == 200


def test_exports_of_a_link(owner_client, anonymous_client, run, document):
    token = share(owner_client, run)
    exported = json.loads(anonymous_client.get(f"/s/{token}/export.json").content)
    assert exported["metrics"] == document["metrics"]
    assert exported["run"]["id"] == run.public_id
    assert "owner" not in exported["run"]
    rows = list(
        csv.DictReader(
            io.StringIO(anonymous_client.get(f"/s/{token}/export.csv?delimiter=;").getvalue().decode("utf-8-sig")),
            delimiter=";",
        )
    )
    assert any(row["metric"] == "ttft" for row in rows)
    assert anonymous_client.get(f"/s/{token}/export.csv?delimiter=x").status_code == 400


def test_graphs_of_a_link(owner, owner_client, anonymous_client, run):
    token = share(owner_client, run)
    html = anonymous_client.get(f"/s/{token}/").content.decode()
    for suffix in ("dot", "model-explorer.json"):
        assert f'href="graph.{suffix}?stage=prefill"' in html
        answer = anonymous_client.get(f"/s/{token}/graph.{suffix}?stage=prefill")
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "private, no-store"
        assert "layers.0" in answer.content.decode()
    gone = anonymous_client.get("/s/unknown/graph.dot")
    _, several = services.create_link(owner=owner, runs=[run, make_run(owner)])
    for path in (f"{token}/graph.exe", f"{token}/graph.dot?stage=encode", f"{several}/graph.dot"):
        answer = anonymous_client.get(f"/s/{path}")
        assert (answer.status_code, answer.content) == (404, gone.content)


def test_a_comparison_keeps_its_order(owner, owner_client, anonymous_client):
    runs = [make_run(owner, title=f"Number {n}") for n in range(3)]
    for n, one in enumerate(runs):
        RunMetric.objects.create(run=one, key="ttft", origin="estimated", value=n + 1, unit="s", definition="ttft/1")
    ids = ",".join(one.public_id for one in (runs[2], runs[0], runs[1]))
    response = owner_client.post(reverse("sharing:comparison"), {"runs": ids, "expires": "never"})
    assert response.status_code == 201
    token = re.search(r"/s/([\w-]{43})/", response.content.decode()).group(1)
    page = anonymous_client.get(f"/s/{token}/").content.decode()
    places = [page.index(f"Number {n}") for n in (2, 0, 1)]
    assert places == sorted(places)
    exported = json.loads(anonymous_client.get(f"/s/{token}/export.json").content)
    assert exported["runs"] == ids.split(",")
    (ttft,) = [row for row in exported["rows"] if row["key"] == "ttft"]
    assert ttft["values"] == [3, 1, 2]
    header = anonymous_client.get(f"/s/{token}/export.csv").getvalue().decode("utf-8-sig").split("\r\n")[0]
    assert header.split(",")[4:7] == ids.split(",")


def test_a_shared_comparison_says_what_stands_against_it(owner, anonymous_client, document):
    busy = document | {"kind": "measure", "conditions": {"contended": True}}
    bound = document | {"kind": "estimate", "conventions": {"ceilings": "datasheet"}, "conditions": {}}
    runs = [make_run(owner, document=made, kind=made["kind"], title=made["kind"]) for made in (busy, bound)]
    _, token = services.create_link(owner=owner, runs=runs)
    told = anonymous_client.get(f"/s/{token}/").context["notes"]
    assert any("estimated, datasheet ceilings; measured" in note for note in told)
    assert "Measured while the machine was busy with something else: measure." in told


def test_a_comparison_shows_layers_and_none_of_what_is_kept_back(owner, anonymous_client, document):
    runs = [make_run(owner, document=document, kind="measure", notes="only for me") for _ in range(2)]
    _, token = services.create_link(owner=owner, runs=runs)
    page = anonymous_client.get(f"/s/{token}/?by=flops")
    text = page.content.decode()
    assert "Layer by layer" in text
    exported = anonymous_client.get(f"/s/{token}/export.json?by=flops").content.decode()
    layers = json.loads(exported)["layers"]
    assert (layers["measure"], len(layers["runs"])) == ("flops", 2)
    assert [line["title"] for line in page.context["layers"]["roles"]] == [line["title"] for line in layers["roles"]]
    for secret in (PROMPT, ANSWER, "only for me"):
        assert secret not in text
        assert secret not in exported


def test_revoking(owner, owner_client, stranger_client, anonymous_client, run):
    token = share(owner_client, run)
    address = reverse("sharing:revoke", args=[services.token_digest(token)])
    assert stranger_client.post(address).status_code == 404
    assert anonymous_client.get(f"/s/{token}/").status_code == 200
    assert owner_client.post(address).status_code == 302
    assert anonymous_client.get(f"/s/{token}/").status_code == 404
    assert "revoked" in owner_client.get(reverse("sharing:list")).content.decode()
    chinese = owner_client.get(reverse("sharing:list"), headers={"accept-language": "zh-hans"}).content.decode()
    assert "已撤销" in chinese


def test_bad_choices_are_named_and_nothing_is_lost(owner_client, run):
    response = owner_client.post(reverse("sharing:run", args=[run.public_id]), {"expires": "5", "label": "kept"})
    assert response.status_code == 422
    assert "kept" in response.content.decode()
    assert not ShareLink.objects.exists()


def test_the_pressed_button_alone_makes_a_link_with_the_defaults(owner_client, run):
    assert owner_client.post(reverse("sharing:run", args=[run.public_id])).status_code == 201
    link = ShareLink.objects.get()
    assert not link.include_text
    assert (link.expires_at - link.created).days in (29, 30)


def test_the_list_needs_few_queries_however_long(owner, owner_client, django_assert_max_num_queries):
    for _ in range(10):
        services.create_link(owner=owner, runs=[make_run(owner), make_run(owner)])
    with django_assert_max_num_queries(8):
        owner_client.get(reverse("sharing:list"))


def test_whoever_is_signed_in_sees_the_visitors_page(teammate, owner_client, run):
    token = share(owner_client, run)
    text = client_for(teammate).get(f"/s/{token}/").content.decode()
    assert "teammate" not in text
    assert "csrfmiddlewaretoken" not in text


def test_the_page_of_a_document_full_of_secrets_shows_none(owner, anonymous_client, document):
    document["environment"] |= {"env_vars": {"K": SECRETS["environment"]}, "hostname": SECRETS["host"]}
    document["model"]["weights_path"] = SECRETS["path"]
    document["warnings"] = [{"code": "x", "message": f"read {SECRETS['path']}/a"}]
    run = make_run(owner, document=document, kind="measure", notes=SECRETS["notes"], worker=SECRETS["worker"])
    _, token = services.create_link(owner=owner, runs=[run])
    text = anonymous_client.get(f"/s/{token}/").content.decode()
    for name in ("host", "path", "environment", "notes", "worker", "e-mail"):
        assert SECRETS[name] not in text


def test_a_shared_comparison_names_its_rows_as_the_run_page_does():
    from llmcompare.sharing.presentation import comparison_rows

    def row(key, origin, unit, values):
        return {"key": key, "origin": origin, "unit": unit, "values": values}

    rows = comparison_rows(
        {
            "rows": [
                row("kind", "", "", ["measure", "estimate"]),
                row("dtype", "", "", ["bf16", "fp32"]),
                row("tpot", "measured", "s", [0.01, None]),
                row("ttft", "measured", "s", [0.1, None]),
            ]
        }
    )
    assert [r["title"] for r in rows] == ["Kind", "Data type", "Time to first token", "Time per output token"]
    assert [cell["text"] for cell in rows[0]["cells"]] == ["measurement", "estimate"]
    assert rows[2]["cells"][1]["text"] == "unknown"


def test_a_shared_comparison_is_in_the_readers_language(owner, anonymous_client):
    runs = [make_run(owner, state="done", kind=kind, bound="memory") for kind in ("measure", "endpoint")]
    _, token = services.create_link(owner=owner, runs=runs)
    rows = anonymous_client.get(f"/s/{token}/?language=zh-hans").context["rows"]
    found = {row["title"]: [cell["text"] for cell in row["cells"]] for row in rows}
    assert (found["类型"], found["状态"]) == (["测量", "端点"], ["已完成", "已完成"])
    assert not {"Kind", "State", "Model", "Hardware", "Created", "Batch size"} & set(found)
    assert found["瓶颈"] != ["memory", "memory"]
