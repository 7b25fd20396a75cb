"""Model pages: lists, details, exports, and who may do what with an upload."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.urls import reverse

from llmcompare.catalog import services
from llmcompare.catalog.models import LanguageModel
from llmcompare.catalog.services import load_catalogue
from tests.catalog.test_catalogue import PACKAGES
from tests.factories import TINY_LLAMA, make_model, make_run

LIST = "/models/"


@pytest.fixture
def catalogue(db, monkeypatch):
    monkeypatch.setattr(services, "known_packages", lambda: [dict(entry) for entry in PACKAGES])
    load_catalogue()


@pytest.fixture
def mine(owner):
    return make_model(source="upload", owner=owner, name="My private model", slug="mine-1")


def names(page) -> list[str]:
    return [model.name for model in page.context["page"].object_list]


def test_the_list_is_searched_narrowed_and_sorted_by_the_address(owner_client, catalogue):
    assert names(owner_client.get(LIST, {"q": "llama 70b"})) == ["llama-2-70b", "llama-3-70b"]
    assert names(owner_client.get(LIST, {"q": "MixtralForCausalLM"})) == ["mixtral-8x7b"]
    assert names(owner_client.get(LIST, {"kind": "ssm"})) == ["mamba-130m", "mamba-2.8b"]
    assert names(owner_client.get(LIST, {"sort": "-parameters"}))[0] == "deepseek-v3"
    assert names(owner_client.get(LIST, {"source": "package"})) == ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"]
    assert names(owner_client.get(LIST, {"weights": "preparing"})) == ["SmolLM2-135M-Instruct"]


def test_models_of_unknown_size_come_last_in_both_directions(owner_client, catalogue):
    make_model(name="Unknown size", parameters=None)
    for sort in ("parameters", "-parameters"):
        assert names(owner_client.get(LIST, {"sort": sort}))[-1] == "Unknown size"


def test_every_list_says_which_weights_a_model_has(owner_client, catalogue):
    html = owner_client.get(LIST).content.decode()
    assert html.count("random weights") == 35
    assert html.count("real weights, being prepared") == 1
    assert "None" not in html


def test_the_list_takes_a_fixed_number_of_queries(owner_client, catalogue, django_assert_num_queries):
    with django_assert_num_queries(4):  # session, user, count, rows
        owner_client.get(LIST)
    for _ in range(5):
        make_model()
    with django_assert_num_queries(4):
        owner_client.get(LIST)


def test_long_lists_have_pages_that_keep_the_filters(owner_client, catalogue):
    for _ in range(20):
        make_model()
    page = owner_client.get(LIST, {"kind": "decoder", "sort": "parameters"}).context["page"]
    assert page.paginator.count == 44
    for _ in range(20):
        make_model()
    html = owner_client.get(LIST, {"kind": "decoder", "sort": "parameters"}).content.decode()
    assert "?kind=decoder&amp;sort=parameters&amp;page=2" in html


def test_an_empty_list_says_what_to_do(owner_client, db):
    html = owner_client.get(LIST, {"q": "no such model"}).content.decode()
    assert "Nothing matches" in html
    assert reverse("catalog:upload") in html


def test_a_model_page_shows_figures_configuration_and_what_is_unknown(owner_client, catalogue):
    html = owner_client.get("/models/llama-3-70b/").content.decode()
    for text in ("70,553,706,496", "8,192 tokens", "141\u202fGB *", "random weights", "&quot;hidden_size&quot;: 8192"):
        assert text in html
    assert "unknown" in html  # the cache, until the engine was asked
    assert "no limit known" in owner_client.get("/models/t5-base/").content.decode()
    html = owner_client.get("/models/smollm2-135m-instruct/").content.decode()
    assert "dequantised from Q4_1" in html


def test_a_package_that_is_not_installed_says_how_to_get_it(owner_client, catalogue):
    html = owner_client.get("/models/all-minilm-l6-v2/").content.decode()
    assert "requirements/weights.txt" in html
    assert "random numbers in place of weights" in html


def test_private_models_exist_for_their_owner_only(mine, owner_client, stranger_client, staff_client):
    assert "My private model" in owner_client.get(LIST).content.decode()
    for other in (stranger_client, staff_client):
        assert "My private model" not in other.get(LIST).content.decode()
        assert "My private model" not in other.get("/models/models.json").content.decode()
        assert b"mine-1" not in b"".join(other.get("/models/models.csv").streaming_content)
        for name in ("detail", "detail-json", "rename", "delete"):
            assert other.get(reverse(f"catalog:{name}", args=["mine-1"])).status_code == 404
        for name in ("inspect", "rename", "delete"):
            assert other.post(reverse(f"catalog:{name}", args=["mine-1"]), {"name": "x"}).status_code == 404
    mine.refresh_from_db()
    assert mine.name == "My private model"


def test_shared_models_cannot_be_renamed_or_deleted_from_the_pages(owner_client, staff_client, catalogue):
    for client in (owner_client, staff_client):
        for name in ("rename", "delete"):
            assert client.post(reverse(f"catalog:{name}", args=["gpt2"]), {"name": "x"}).status_code == 404


def test_an_upload_can_be_renamed(mine, owner_client):
    make_model(source="upload", owner=mine.owner, name="Other")
    address = reverse("catalog:rename", args=["mine-1"])
    page = owner_client.post(address, {"name": "Other"})
    assert list(page.context["form"].errors) == ["name"]
    assert owner_client.post(address, {"name": "Better"}).status_code == 302
    mine.refresh_from_db()
    assert (mine.name, mine.slug) == ("Better", "mine-1")


def test_deleting_an_upload_asks_first_and_keeps_its_runs(mine, owner_client):
    run = make_run(mine.owner, model=mine)
    address = reverse("catalog:delete", args=["mine-1"])
    assert "1 run will be kept" in owner_client.get(address).content.decode()
    assert LanguageModel.objects.filter(pk=mine.pk).exists()
    owner_client.post(address)
    assert not LanguageModel.objects.filter(pk=mine.pk).exists()
    run.refresh_from_db()
    assert run.spec["model"]["config"] == TINY_LLAMA
    assert run.model is None


def test_the_page_shows_only_runs_that_one_may_see(owner, owner_client, stranger_client, catalogue):
    model = LanguageModel.objects.get(slug="gpt2")
    make_run(owner, model=model, title="My secret run")
    assert "My secret run" in owner_client.get("/models/gpt2/").content.decode()
    assert "My secret run" not in stranger_client.get("/models/gpt2/").content.decode()


def test_the_detail_page_takes_few_queries(owner_client, catalogue, owner, django_assert_num_queries):
    model = LanguageModel.objects.get(slug="gpt2")
    for _ in range(3):
        make_run(owner, model=model)
    with django_assert_num_queries(4):  # session, user, model, runs
        owner_client.get("/models/gpt2/")


def test_exports_follow_the_filters_of_the_list(owner_client, catalogue):
    answer = owner_client.get("/models/models.csv", {"q": "t5"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert [row["slug"] for row in rows] == ["t5-base"]
    assert (rows[0]["parameters"], rows[0]["max_context"]) == ("222903552", "")
    data = owner_client.get("/models/models.json", {"kind": "ssm"}).json()
    assert [row["slug"] for row in data["models"]] == ["mamba-130m", "mamba-2-8b"]
    one = owner_client.get("/models/gpt2.json").json()
    assert one["config"]["n_layer"] == 12


def test_exports_do_not_tell_where_files_lie(owner_client, db):
    make_model(slug="local", weights="local", weights_path="/var/secret/place")
    for address in ("/models/local.json", "/models/models.json", "/models/local/"):
        assert "/var/secret" not in owner_client.get(address).content.decode()


def test_a_name_that_looks_like_a_formula_is_harmless_in_a_spreadsheet(owner_client, owner):
    make_model(source="upload", owner=owner, name="=cmd|' /C calc'!A0")
    text = b"".join(owner_client.get("/models/models.csv").streaming_content).decode()
    assert ",'=cmd" in text


@pytest.mark.parametrize(
    "address", [LIST, "/models/upload/", "/models/gpt2/", "/models/gpt2.json", "/models/models.csv"]
)
def test_everything_asks_for_a_login(anonymous_client, address):
    answer = anonymous_client.get(address)
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/")


def test_what_is_not_there_is_a_404(owner_client):
    assert owner_client.get("/models/nothing/").status_code == 404


# --- admin ---


def admin_form(model, **values):
    names = ["slug", "name", "hf_id", "kind", "parameters", "max_context", "weights_note", "licence"]
    data = {name: getattr(model, name) for name in names} | {"config": json.dumps(model.config)}
    return {key: "" if value is None else value for key, value in (data | values).items()}


def test_an_admins_edit_is_kept_and_a_new_configuration_forgets_the_facts(staff_client, catalogue):
    model = LanguageModel.objects.get(slug="gpt2")
    LanguageModel.objects.update(facts={"parameters": 1})
    address = reverse("admin:catalog_languagemodel_change", args=[model.pk])
    assert staff_client.post(address, admin_form(model)).status_code == 302
    assert not services.is_edited(LanguageModel.objects.get(slug="gpt2"))
    assert LanguageModel.objects.get(slug="gpt2").facts == {"parameters": 1}

    changed = '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 24}'
    assert staff_client.post(address, admin_form(model, config=changed)).status_code == 302
    load_catalogue()
    model.refresh_from_db()
    assert model.config["n_layer"] == 24
    assert model.facts is None
    assert model.config_sha256 == model.to_spec().config_sha256()
    assert services.is_edited(model)


@pytest.mark.parametrize("config", ['{"auto_map": {}, "model_type": "gpt2"}', "[]", '{"model_type": "gpt2"}', "{"])
def test_the_admin_checks_configurations_at_their_field(staff_client, catalogue, config):
    model = LanguageModel.objects.get(slug="gpt2")
    address = reverse("admin:catalog_languagemodel_change", args=[model.pk])
    page = staff_client.post(address, admin_form(model, config=config))
    assert list(page.context["adminform"].form.errors) == ["config"]


def test_the_admin_shows_shared_models_and_keeps_catalogue_entries(staff_client, catalogue, mine):
    html = staff_client.get(reverse("admin:catalog_languagemodel_changelist")).content.decode()
    assert "llama-3-70b" in html
    assert "My private model" not in html
    gpt2 = LanguageModel.objects.get(slug="gpt2")
    address = reverse("admin:catalog_languagemodel_delete", args=[gpt2.pk])
    assert staff_client.post(address, {"post": "yes"}).status_code == 403
