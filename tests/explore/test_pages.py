"""The page: choosing, making forms, running the point, keeping sweeps and devices; and what hostile addresses get."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.urls import reverse
from django.utils import timezone

from hardware.models import Hardware
from llmcompare.explore import services
from llmcompare.explore.models import SavedSweep, StoredForm
from llmcompare.runs.models import Run
from tests.factories import make_hardware, make_model, make_user

QUERY = "model=tiny&hardware=small-device&hardware=large-device&batch_size=4&input_tokens=64&output_tokens=16&batches=1..16*4&lengths=16..64*2"


@pytest.fixture
def ready(form, device, other_device):
    return form


def text_of(client, query):
    response = client.get(f"/explore/?{query}")
    assert response.status_code == 200
    return response.content.decode()


# --- from nothing to an answer ---


def test_the_empty_page_says_the_next_step(owner_client):
    assert "Choose a model and some hardware" in text_of(owner_client, "")


def test_a_missing_form_is_made_by_one_click_and_then_answers(owner_client, owner, model, device, other_device):
    from tests.explore.conftest import EngineHere
    from tests.explore.test_making import carry_out, threading

    assert "need a closed form first" in text_of(owner_client, QUERY)
    answer = owner_client.post("/explore/forms/", {"query": QUERY})
    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer["Location"]).query) == parse_qs(QUERY)
    form = StoredForm.objects.get()
    text = text_of(owner_client, QUERY)
    assert "Making 1 closed form" in text
    assert "No worker is online" in text
    polled = owner_client.get(f"/explore/answer/?{QUERY}", headers={"hx-request": "true"})
    version = polled.context["version"]
    assert owner_client.get(f"/explore/answer/?{QUERY}&v={version}", headers={"hx-request": "true"}).status_code == 204
    carry_out(form_id=form.pk, worker="a:1", shutdown=threading.Event(), engine=EngineHere())
    done = owner_client.get(f"/explore/answer/?{QUERY}&v={version}", headers={"hx-request": "true"})
    assert done.status_code == 200
    assert "Time to first token" in done.content.decode()
    assert "v=" not in done["HX-Replace-Url"]


def test_only_who_asked_may_cancel(owner_client, stranger_client, model, device, other_device):
    owner_client.post("/explore/forms/", {"query": QUERY})
    assert ">Cancel<" not in text_of(stranger_client, QUERY)
    stranger_client.post("/explore/forms/cancel/", {"query": QUERY})
    assert StoredForm.objects.get().state == "queued"
    assert ">Cancel<" in text_of(owner_client, QUERY)
    owner_client.post("/explore/forms/cancel/", {"query": QUERY})
    assert StoredForm.objects.get().state == "cancelled"
    assert "need a closed form first" in text_of(owner_client, QUERY)


def test_the_swapped_answer_is_the_one_of_the_whole_page(owner_client, ready):
    swapped = owner_client.get(f"/explore/answer/?{QUERY}&dtype=bf16&x_flops=1", headers={"hx-request": "true"})
    assert swapped["HX-Replace-Url"] == f"/explore/?{QUERY.replace('*', '%2A')}".replace("..", ".."), (
        "the short address"
    )
    assert owner_client.get(f"/explore/answer/?{QUERY}").status_code == 302, "without htmx: the page itself"


def test_an_option_without_closed_form_offers_the_run(owner_client, ready):
    text = text_of(owner_client, QUERY + "&images=2")
    assert "No closed form holds images" in text
    assert "Run an estimate instead" in text
    assert "/runs/new/?" in text


def test_a_model_without_closed_form_says_why_and_offers_the_run(owner_client, ready):
    StoredForm.objects.filter(pk=ready.pk).update(
        state="none", data=None, reason="No polynomial holds.", finished=timezone.now()
    )
    text = text_of(owner_client, QUERY)
    assert "no closed form under these options (No polynomial holds)" in text
    assert "Run an estimate instead" in text


# --- what is kept ---


def test_running_the_point_stores_an_estimate_of_it(owner_client, owner, ready):
    answer = owner_client.post("/explore/run/", {"query": QUERY + "&kv_dtype=fp8", "series": "1"})
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.public_id}/"
    assert (run.owner, run.kind, run.hardware.slug, run.batch_size, run.input_tokens) == (
        owner,
        "estimate",
        "large-device",
        4,
        64,
    )
    assert run.spec["workload"]["kv_dtype"] == "fp8"


@pytest.mark.parametrize("series", ["2", "-1", "x", "", "9" * 5000, "²"])
def test_running_a_line_that_is_not_there(owner_client, ready, series):
    assert owner_client.post("/explore/run/", {"query": QUERY, "series": series}).status_code == 404


def test_a_changed_device_is_kept_first_and_then_run(owner_client, owner, ready, other_device):
    query = QUERY + "&x_bandwidth=2&x_memory=0.5"
    answer = owner_client.post("/explore/run/", {"query": query, "series": "0"}, follow=True)
    assert "keep the changed device as yours first" in answer.content.decode()
    assert not Run.objects.exists()
    answer = owner_client.post("/explore/device/", {"query": query, "hardware": "large-device"})
    mine = Hardware.objects.get(owner=owner)
    assert mine.memory_bandwidth == 2 * other_device.memory_bandwidth
    assert mine.memory_bytes == other_device.memory_bytes // 2
    assert mine.peak_flops == other_device.peak_flops
    assert mine.source == "private"
    asked = parse_qs(urlsplit(answer["Location"]).query)
    assert asked["hardware"] == ["small-device", mine.slug]
    assert "x_bandwidth" not in asked


def test_a_sweep_stays_as_it_was(owner_client, owner, ready, device):
    before = owner_client.get(f"/explore.json?{QUERY}").json()
    answer = owner_client.post("/explore/sweeps/", {"query": QUERY, "name": "For the meeting"})
    sweep = SavedSweep.objects.get()
    assert answer["Location"] == reverse("explore:sweep", args=[sweep.public_id])
    Hardware.objects.filter(pk=device.pk).update(memory_bandwidth=1e9)
    StoredForm.objects.all().delete()
    kept = owner_client.get(f"/explore/sweeps/{sweep.public_id}.json").json()
    assert kept["heat_map"] == before["heat_map"]
    assert kept["series"] == before["series"]
    page = owner_client.get(answer["Location"]).content.decode()
    assert "For the meeting" in page
    assert "Time to first token" in page
    assert 'class="heat"' in page
    csv = owner_client.get(f"/explore/sweeps/{sweep.public_id}.csv").getvalue().decode()
    assert csv.count("heat_map") == 9
    assert "For the meeting" in owner_client.get("/explore/sweeps/").content.decode()


def test_deleting_a_sweep_can_be_undone(owner_client, ready):
    owner_client.post("/explore/sweeps/", {"query": QUERY, "name": "Kept"})
    path = f"/explore/sweeps/{SavedSweep.objects.get().public_id}/"
    assert "Undo" in owner_client.post(f"{path}delete/").content.decode()
    assert owner_client.get(path).status_code == 404
    assert owner_client.post(f"{path}restore/").status_code == 302
    assert owner_client.get(path).status_code == 200


def test_a_sweep_that_is_saved_twice_is_one(owner_client, owner, ready, other_device):
    """A button pressed twice; what is another answer, or has another name, is another sweep."""
    given = {"query": QUERY, "name": "Kept"}
    first, second = (owner_client.post("/explore/sweeps/", given)["Location"] for _ in range(2))
    assert first == second
    assert SavedSweep.objects.count() == 1
    owner_client.post("/explore/sweeps/", given | {"name": "Other"})
    owner_client.post("/explore/sweeps/", given | {"visibility": "public"})
    assert SavedSweep.objects.count() == 3
    Hardware.objects.filter(pk=other_device.pk).update(memory_bandwidth=1e9)
    owner_client.post("/explore/sweeps/", given)
    assert SavedSweep.objects.count() == 4


def test_a_sweep_comes_back_where_there_is_a_place_for_it(owner_client, ready, monkeypatch):
    monkeypatch.setattr(services, "MAX_SWEEPS", 1)
    owner_client.post("/explore/sweeps/", {"query": QUERY, "name": "One"})
    path = f"/explore/sweeps/{SavedSweep.objects.get().public_id}/"
    owner_client.post(f"{path}delete/")
    owner_client.post("/explore/sweeps/", {"query": QUERY, "name": "Two"})
    assert "You keep 1 sweeps already" in owner_client.post(f"{path}restore/", follow=True).content.decode()
    assert [sweep.name for sweep in SavedSweep.objects.filter(deleted_at=None)] == ["Two"]


def test_who_may_see_a_sweep(owner, owner_client, teammate_client, stranger_client, team, ready):
    for visibility, seen in (
        ("private", ()),
        ("team", (teammate_client,)),
        ("public", (teammate_client, stranger_client)),
    ):
        owner_client.post(
            "/explore/sweeps/", {"query": QUERY, "name": visibility, "visibility": visibility, "team": team.slug}
        )
        sweep = SavedSweep.objects.get(name=visibility)
        for client in (teammate_client, stranger_client):
            for ending in ("/", ".json", ".csv"):
                answer = client.get(f"/explore/sweeps/{sweep.public_id}{ending}").status_code
                assert answer == (200 if client in seen else 404), (visibility, ending)
            assert client.post(f"/explore/sweeps/{sweep.public_id}/delete/").status_code == 404
            assert (
                visibility in client.get("/explore/sweeps/").content.decode().split("<main")[1].lower()
            ) or client not in seen


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": ""}, "Give the sweep a name"),
        ({"name": "x" * 151}, "Give the sweep a name"),
        ({"name": "x", "visibility": "world"}, "Choose who may see it"),
        ({"name": "x", "visibility": "team", "team": "other"}, "Choose one of your teams"),
    ],
)
def test_a_sweep_that_cannot_be_kept(owner_client, ready, given, sentence):
    answer = owner_client.post("/explore/sweeps/", {"query": QUERY} | given, follow=True)
    assert sentence in answer.content.decode()
    assert not SavedSweep.objects.exists()


def test_a_name_is_no_markup(owner_client, ready):
    owner_client.post("/explore/sweeps/", {"query": QUERY, "name": "<script>alert(1)</script>"})
    for path in ("/explore/sweeps/", f"/explore/sweeps/{SavedSweep.objects.get().public_id}/"):
        assert "<script>alert" not in owner_client.get(path).content.decode()


# --- hostile ---


@pytest.mark.parametrize("name", ["model", "hardware"])
def test_what_belongs_to_somebody_else_does_not_exist(owner_client, owner, ready, name):
    other = make_user("other")
    hidden = (
        make_model(slug="hidden", source="upload", owner=other)
        if name == "model"
        else make_hardware(slug="hidden", source="private", owner=other)
    )
    query = QUERY + f"&{name}={hidden.slug}"
    for path in ("/explore/", "/explore.json", "/explore.csv", "/explore/answer/"):
        assert owner_client.get(f"{path}?{query}").status_code == 404
        assert owner_client.get(f"{path}?{QUERY}&{name}=no-such-thing").status_code == 404
    for path in ("/explore/forms/", "/explore/run/", "/explore/device/", "/explore/sweeps/"):
        assert (
            owner_client.post(
                path, {"query": query, "series": "0", "hardware": "small-device", "name": "x"}
            ).status_code
            == 404
        )


NUMBERS = ("batch_size", "input_tokens", "output_tokens", "tensor_parallel", "expert_parallel", "draft_tokens", "prefix_tokens", "heat_of",
           "x_bandwidth", "x_flops", "x_memory", "draft_acceptance", "price.small-device", "power.small-device", "images")  # fmt: skip
GARBAGE = ("NaN", "inf", "-inf", "1e309", "-1", "abc", "9" * 400, "1;2", "١٢", "0x10", "<b>", "1e-400", "2" * 19, "½")


@pytest.mark.parametrize("name", NUMBERS)
def test_garbage_in_a_number_gets_a_sentence_and_never_a_fault(owner_client, ready, name):
    for value in GARBAGE:
        text = owner_client.get("/explore/", {**_plain(), name: value})
        assert text.status_code == 200, (name, value)
        body = text.content.decode()
        assert "<b>" not in body
        exported = owner_client.get("/explore.json", {**_plain(), name: value})
        assert exported.status_code in (200, 400), (name, value)
        assert "NaN" not in exported.content.decode().replace('"NaN"', "")
        assert "Infinity" not in exported.content.decode()
        if value in ("NaN", "inf", "abc", "-1", "1e309"):
            told = exported.json()
            assert told["errors"] or all(item["problem"] for item in told["series"]), (name, value)


@pytest.mark.parametrize(
    "name",
    [
        "dtype",
        "weights_dtype",
        "kv_dtype",
        "activation_dtype",
        "heat",
        "heat_along",
        "curve",
        "along",
        "batches",
        "lengths",
        "execution",
        "mla",
    ],
)
def test_garbage_in_a_choice_gets_a_sentence(owner_client, ready, name):
    for value in ("nonsense", "<script>", "bf16' OR 1=1", "x" * 5000, "%00"):
        answer = owner_client.get("/explore.json", {**_plain(), name: value})
        assert answer.status_code == 400
        assert name in answer.json()["errors"]
        assert owner_client.get("/explore/", {**_plain(), name: value}).status_code == 200
        assert owner_client.get("/explore.csv", {**_plain(), name: value}).status_code == 400


def _plain():
    return {"model": "tiny", "hardware": "small-device", "batches": "1,4", "lengths": "16,32"}


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("batches=1..64%2B1&lengths=1..64%2B1", "4,096 cells"),
        ("batches=1..999999999%2B1", "more than the 64 values"),
        ("data_parallel=8&batch_size=4", "has no work for 8 replicas"),
        ("expert_parallel=3", "Experts are spread"),
        ("tensor_parallel=1024&data_parallel=65536&batch_size=65536", "at most 65,536 are estimated"),
        ("input_tokens=5000", "Shorten the input or the output by 4752"),
        ("prefix_tokens=2000", "can lie in the cache"),
    ],
)
def test_what_makes_no_sense_is_said(owner_client, ready, query, sentence):
    text = text_of(owner_client, f"model=tiny&hardware=small-device&input_tokens=64&output_tokens=8&{query}")
    assert sentence in text.replace("&amp;", "&")


def test_lengths_beyond_the_context_are_offered_shorter(owner_client, ready):
    response = owner_client.get("/explore/?model=tiny&hardware=small-device")
    assert "more than the 256 of context" in response.content.decode()
    shorter = response.context["shorter"]
    assert (shorter["input"], shorter["output"]) == (128, 64)
    assert "Time to first token" in text_of(owner_client, shorter["query"])


def test_the_axis_that_nobody_asked_for_ends_with_the_context(owner_client, ready):
    query = "model=tiny&hardware=small-device&input_tokens=64&output_tokens=8"
    told = owner_client.get(f"/explore.json?{query}").json()
    assert told["heat_map"]["lengths"] == [128]
    told = owner_client.get(f"/explore.json?{query}&lengths=128,512").json()
    assert told["heat_map"]["lengths"] == [128, 512], (
        "what was asked for is shown, with the reason why it has no number"
    )


def test_too_many_models_devices_and_lines(owner_client, ready):
    many = "&".join(f"hardware={make_hardware().slug}" for _ in range(7))
    assert "at most 6" in text_of(owner_client, f"model=tiny&{many}")
    models = "&".join(f"model={make_model().slug}" for _ in range(4))
    places = "&".join(f"hardware={make_hardware().slug}" for _ in range(6))
    assert "too many lines" in text_of(owner_client, f"{models}&{places}")


def test_a_very_long_question_is_no_fault(owner_client, ready):
    assert owner_client.post("/explore/forms/", {"query": "batch_size=" + "1" * 100_000}).status_code == 302
    assert owner_client.get("/explore/?" + "model=tiny&" * 900).status_code == 200


def test_an_answer_takes_few_queries_however_many_lines(owner_client, ready, django_assert_max_num_queries):
    query = QUERY + "".join(f"&hardware={make_hardware().slug}" for _ in range(3))
    owner_client.get(f"/explore/answer/?{query}", headers={"hx-request": "true"})
    with django_assert_max_num_queries(9):
        owner_client.get(f"/explore/answer/?{query}", headers={"hx-request": "true"})


def test_an_encoder_has_no_tokens_to_wait_for(owner_client, owner, device, other_device):
    from tests.explore.conftest import make

    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}  # fmt: skip
    reader = make_model(slug="reader", config=config, kind="encoder", max_context=128)
    make(owner, reader)
    told = owner_client.get("/explore.json?model=reader&hardware=large-device&input_tokens=32").json()
    item = told["series"][0]
    assert set(item["metrics"]) == {"encode_time", "encode_throughput", "peak_memory"}
    assert item["metrics"]["encode_time"]["value"] > 0
    assert told["frontier"]["lines"] == []
    assert "Encode time" in text_of(owner_client, "model=reader&hardware=large-device&input_tokens=32")


def test_a_button_that_is_pressed_twice_makes_one_run_and_one_device(owner_client, owner, ready):
    page = text_of(owner_client, QUERY)
    key = re.search(r'name="key" value="([0-9a-f]{32})"', page)[1]
    answers = [owner_client.post("/explore/run/", {"query": QUERY, "series": "0", "key": key}) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Run.objects.count() == 1
    assert key not in text_of(owner_client, QUERY)
    changed = QUERY + "&x_bandwidth=1.7&x_flops=0.3"
    answers = [owner_client.post("/explore/device/", {"query": changed, "hardware": "large-device"}) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Hardware.objects.filter(owner=owner).count() == 1
    owner_client.post("/explore/device/", {"query": changed + "&x_memory=2", "hardware": "large-device"})
    assert Hardware.objects.filter(owner=owner).count() == 2


@pytest.mark.parametrize(("memory", "factor"), [(9 * 10**18, "100"), (1, "0.01")])
def test_a_device_beyond_what_can_be_kept_is_refused(owner_client, owner, ready, other_device, memory, factor):
    Hardware.objects.filter(pk=other_device.pk).update(memory_bytes=memory)
    query = f"model=tiny&hardware=large-device&x_memory={factor}"
    answer = owner_client.post("/explore/device/", {"query": query, "hardware": "large-device"}, follow=True)
    assert "beyond what a device here can have" in answer.content.decode()
    assert not Hardware.objects.filter(owner=owner).exists()


def test_a_sweep_takes_no_nul(owner_client, ready):
    """PostgreSQL takes none, not even to look for it."""
    given = {"query": QUERY, "name": "a\x00b", "team": "\x00", "visibility": "private"}
    assert owner_client.post("/explore/sweeps/", given).status_code == 302
    assert SavedSweep.objects.get().name == "ab"
