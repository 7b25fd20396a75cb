"""The pages and the API: who sees what, what is confirmed before money is spent, and that nothing secret is shown."""

from __future__ import annotations

import pytest
from django.utils import timezone

from llmcompare.cloud.models import Connection, Deployment, Guard, Operation
from tests import factories

MODEL = {
    "id": "7",
    "name": "projects/p/locations/us-central1/models/7",
    "title": "seven",
    "image": "eu/img",
    "artifact_uri": "",
    "ours": True,
}
FOREIGN = {"id": "8", "name": "projects/p/locations/us-central1/models/8", "title": "foreign", "ours": False}
WANTED = {
    "source": "model",
    "model": "7",
    "name": "my-endpoint",
    "machine_type": "g2-standard-4",
    "replicas": "2",
    "lease_hours": "3",
    "idle_minutes": "30",
    "dedicated": "on",
}


@pytest.fixture
def here(owner) -> Connection:
    return Connection.objects.create(
        owner=owner,
        name="Here",
        project="project-alpha",
        region="us-central1",
        credential_kind="impersonate",
        credential="robot@project-alpha.iam.gserviceaccount.com",
        allowed_at=timezone.now(),
        read_at=timezone.now(),
        models_found=[MODEL, FOREIGN],
        endpoints_found=[
            {"id": "5", "name": "e/5", "title": "theirs", "ours": False, "dedicated": True, "deployed": []}
        ],
    )


@pytest.fixture
def deployed(here) -> Deployment:
    return Deployment.objects.create(
        connection=here,
        owner=here.owner,
        name="running",
        model_name=MODEL["name"],
        model_title="seven",
        machine_type="g2-standard-4",
        state="ready",
        ready_at=timezone.now(),
        billed_from=timezone.now(),
        expires_at=timezone.now() + timezone.timedelta(minutes=42, seconds=30),
        price="0.706832",
        price_words="Compute Engine list price, dated 2026-10-04",
    )


def text(response) -> str:
    return " ".join(response.content.decode().split())


def test_everything_asks_for_a_login(anonymous_client, here, deployed):
    for path in ("/cloud/", "/cloud/new/", f"/cloud/{here.public_id}/", f"/cloud/deployments/{deployed.public_id}/"):
        assert "/accounts/login/" in anonymous_client.get(path)["Location"]


def test_a_stranger_finds_nothing(stranger_client, here, deployed):
    base = f"/cloud/{here.public_id}/"
    assert stranger_client.get(base).status_code == 404
    for path in ("read/", "delete/", "restore/", "deploy/", "upload/", "garden/", "models/7/delete/"):
        assert stranger_client.post(base + path).status_code == 404, path
    assert stranger_client.post(base + "allow/").status_code == 403
    page = f"/cloud/deployments/{deployed.public_id}/"
    assert stranger_client.get(page).status_code == 404
    for path in ("extend/", "stop/", "traffic/"):
        assert stranger_client.post(page + path).status_code == 404, path
    assert stranger_client.get("/api/v1/cloud/connections/").json() == []
    assert stranger_client.get("/api/v1/cloud/deployments/").json() == []
    assert stranger_client.get(f"/api/v1/cloud/deployments/{deployed.public_id}/").status_code == 404
    for path in ("stop/", "extend/"):
        assert stranger_client.post(f"/api/v1/cloud/deployments/{deployed.public_id}/{path}").status_code == 404
    assert "running" not in text(stranger_client.get("/cloud/"))
    for path in ("/cloud/stop/", "/cloud/open/"):
        assert stranger_client.post(path, {"typed": "STOP"}).status_code == 403
    assert Guard.get().stopped_at is None


def test_viewers_of_the_team_see_and_editors_use(here, deployed, team, teammate_client):
    Connection.objects.filter(pk=here.pk).update(team=team, visibility="team")
    page = text(teammate_client.get(f"/cloud/{here.public_id}/"))
    assert "seven" in page
    assert f"/cloud/{here.public_id}/deploy/" not in page
    assert teammate_client.get(f"/cloud/{here.public_id}/deploy/").status_code == 404
    assert teammate_client.post(f"/cloud/deployments/{deployed.public_id}/stop/").status_code == 404
    factories.Membership.objects.filter(user__username="teammate").update(role="editor")
    assert teammate_client.get(f"/cloud/{here.public_id}/deploy/").status_code == 200


def test_who_left_the_team_can_undeploy_and_not_extend(stranger, stranger_client, deployed):
    Deployment.objects.update(owner=stranger)
    page = f"/cloud/deployments/{deployed.public_id}/"
    assert "Extend the lease" not in text(stranger_client.get(page))
    assert stranger_client.post(page + "extend/", {"hours": "2"}).status_code == 404
    stranger_client.post(page + "stop/")
    deployed.refresh_from_db()
    assert deployed.state == "stopping"


def test_the_list_has_lease_and_cost(owner_client, here, deployed):
    page = text(owner_client.get("/cloud/"))
    assert "42 minutes" in page
    assert "0.71 USD" in page
    assert "estimated" in page
    Deployment.objects.update(price=None)
    assert "unknown<" not in page
    assert text(owner_client.get("/cloud/")).count("unknown<") == 2


def test_only_what_is_ours_has_buttons(owner_client, here):
    page = text(owner_client.get(f"/cloud/{here.public_id}/"))
    assert "models/7/delete/" in page
    assert "models/8/delete/" not in page
    assert "theirs" in page
    owner_client.post(f"/cloud/{here.public_id}/models/8/delete/", {"sure": "1"})
    assert not Operation.objects.exists()
    asked = owner_client.post(f"/cloud/{here.public_id}/models/7/delete/")
    assert "cannot be undone" in text(asked)
    owner_client.post(f"/cloud/{here.public_id}/models/7/delete/", {"sure": "1"})
    assert Operation.objects.get().kind == "delete_model"


def test_deploying_is_confirmed_by_typing_the_name(owner_client, here):
    path = f"/cloud/{here.public_id}/deploy/"
    form = text(owner_client.get(path + "?model=7"))
    assert "TPU" in form
    assert "g2-standard-4: 1 × NVIDIA L4, 4 vCPU, 16 GB · 0.71 USD per hour" in form
    assert "price unknown" in form
    confirm = text(owner_client.post(path, WANTED))
    for words in (
        "g2-standard-4: 1 × NVIDIA L4",
        "us-central1",
        "1.41 USD",
        "4.24 USD",
        "Compute Engine list price, dated 2026-10-04",
        "after 3 hours",
        "my-endpoint",
    ):
        assert words in confirm, words
    assert not Deployment.objects.exists()
    wrong = text(owner_client.post(path, WANTED | {"price": "1.41 USD", "typed": "my-endpiont"}))
    assert "exactly" in wrong
    assert 'value="my-endpiont"' in wrong
    cheaper = owner_client.post(path, WANTED | {"price": "0.01 USD", "typed": "my-endpoint"})
    assert "Confirm" in text(cheaper)  # another price than the one that was shown: shown anew
    assert not Deployment.objects.exists()
    back = text(owner_client.post(path, WANTED | {"back": "1"}))
    assert 'value="my-endpoint"' in back
    done = owner_client.post(path, WANTED | {"price": "1.41 USD", "typed": "my-endpoint"})
    made = Deployment.objects.get()
    assert done["Location"] == f"/cloud/deployments/{made.public_id}/"
    assert (made.replicas, made.state, made.idle_minutes) == (2, "waiting", 30)
    assert "waiting" in text(owner_client.get(done["Location"]))


def test_an_unknown_price_is_called_unknown_and_a_cap_is_said_on_the_page(owner_client, here):
    path, wanted = f"/cloud/{here.public_id}/deploy/", WANTED | {"machine_type": "a4-highgpu-8g"}
    assert "unknown" in text(owner_client.post(path, wanted))
    refused = text(owner_client.post(path, wanted | {"price": "unknown", "typed": "my-endpoint"}))
    assert "allowance" in refused
    assert not Deployment.objects.exists()


def test_tpus_are_marked(owner_client, here):
    page = text(owner_client.post(f"/cloud/{here.public_id}/deploy/", WANTED | {"machine_type": "ct5lp-hightpu-1t"}))
    assert "must serve on TPUs" in page


def test_wrong_input_comes_back_at_its_field(owner_client, here):
    page = text(owner_client.post(f"/cloud/{here.public_id}/deploy/", WANTED | {"name": "No Good", "replicas": "9"}))
    assert 'value="No Good"' in page
    assert "less than or equal to 8" in page
    model = {"name": "m", "image": "no image", "artifact_uri": "http://x", "port": "8080"}
    model |= {"health_route": "/health", "predict_route": "predict"}
    page = text(owner_client.post(f"/cloud/{here.public_id}/upload/", model))
    for words in ("address of a container image", "gs://BUCKET", "path that begins with /"):
        assert words in page
    page = text(owner_client.post(f"/cloud/{here.public_id}/upload/", model | {"environment": "A=b\nnot one"}))
    assert "one NAME=value in each line, at most 50" in page
    good = {"image": "eu/img", "artifact_uri": "", "predict_route": "/predict", "environment": "A=b\n\nC=d=e"}
    owner_client.post(f"/cloud/{here.public_id}/upload/", model | good)
    assert Operation.objects.get().payload["container"]["environment"] == {"A": "b", "C": "d=e"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"project": "Bad Project"}, "project"),
        ({"region": "moon"}, "region"),
        ({"credential": "me@gmail.com"}, "credential"),
        ({"credential_kind": "adc"}, "credential_kind"),
        ({"credential_kind": "secret", "credential": "env:PATH"}, "credential_kind"),
    ],
)
def test_connections_of_users_are_checked_and_wait_for_an_administrator(owner_client, staff_client, given, field):
    values = {
        "name": "Mine",
        "project": "project-alpha",
        "region": "us-central1",
        "credential_kind": "impersonate",
        "credential": "robot@project-alpha.iam.gserviceaccount.com",
    }
    page = owner_client.post("/cloud/new/", values | given)
    assert list(page.context["form"].errors) == [field]
    made = owner_client.post("/cloud/new/", values)
    assert made.status_code == 302
    connection = Connection.objects.get()
    assert not connection.is_allowed
    assert "waits for an administrator" in text(owner_client.get("/cloud/"))
    assert "asks to use the project" in text(staff_client.get("/cloud/"))
    staff_client.post(f"/cloud/{connection.public_id}/allow/")
    connection.refresh_from_db()
    assert connection.is_allowed
    assert connection.is_wanted


def test_deleting_is_undone_and_refused_while_something_is_deployed(owner_client, here, deployed):
    owner_client.post(f"/cloud/{here.public_id}/delete/")
    here.refresh_from_db()
    assert here.deleted_at is None
    Deployment.objects.update(state="ended")
    page = owner_client.post(f"/cloud/{here.public_id}/delete/")
    assert "in the bin" in text(page)
    assert owner_client.get(f"/cloud/{here.public_id}/").status_code == 404
    owner_client.post(f"/cloud/{here.public_id}/restore/")
    assert owner_client.get(f"/cloud/{here.public_id}/").status_code == 200


def test_the_lease_is_extended_and_the_deployment_stopped_on_its_page(owner_client, deployed):
    page = f"/cloud/deployments/{deployed.public_id}/"
    assert "Extend" in text(owner_client.get(page))
    assert "longer than that already" not in text(owner_client.post(page + "extend/", {"hours": "2"}))
    assert "Enter a whole number" in text(owner_client.post(page + "extend/", {"hours": "99"}))
    assert "Undeploy running?" in text(owner_client.get(page + "stop/"))
    owner_client.post(page + "stop/")
    deployed.refresh_from_db()
    assert (deployed.state, deployed.stop_reason) == ("stopping", "user")
    assert "somebody asked for it" in text(owner_client.get(page))


def test_the_status_is_polled_cheaply(owner_client, deployed):
    page = f"/cloud/deployments/{deployed.public_id}/"
    version = owner_client.get(page).context["item"].version
    asked = {"v": version, "state": "ready"}
    assert owner_client.get(page + "status/", asked).status_code == 204
    assert owner_client.get(page + "status/", {"v": "old", "state": "deploying"})["HX-Refresh"] == "true"


def test_staff_stop_everything_and_open_again(staff_client, owner_client, deployed):
    assert "Type STOP" in text(staff_client.post("/cloud/stop/", {"typed": "stop"}))
    staff_client.post("/cloud/stop/", {"typed": "STOP", "reason": "Budget."})
    deployed.refresh_from_db()
    assert deployed.stop_reason == "kill"
    assert "Budget." in text(owner_client.get("/cloud/"))
    staff_client.post("/cloud/open/")
    assert "Budget." not in text(owner_client.get("/cloud/"))


def test_the_api_deploys_with_a_confirmation(owner_client, here):
    def post(path, **body):
        return owner_client.post(f"/api/v1/cloud/{path}", body, content_type="application/json")

    wanted = {"connection": here.public_id, "model": "7", "name": "by-api", "machine_type": "g2-standard-4"}
    assert "confirm" in post("deployments/", **wanted).json()["errors"]
    assert "confirm" in post("deployments/", **wanted, confirm="other").json()["errors"]
    made = post("deployments/", **wanted, confirm="by-api")
    assert made.status_code == 202
    row = made.json()
    assert row["usd_per_hour"] == pytest.approx(0.706832)
    assert row["accrued_usd_estimated"] == 0
    assert owner_client.get("/api/v1/cloud/deployments/").json()[0]["id"] == row["id"]
    assert post(f"deployments/{row['id']}/extend/", hours=2).status_code == 200
    assert post(f"deployments/{row['id']}/stop/").json()["state"] == "stopping"
    prices = owner_client.get(f"/api/v1/cloud/connections/{here.public_id}/machines/").json()
    assert {m["machine_type"]: m["usd_per_hour"] for m in prices}["a4-highgpu-8g"] is None
    listed = owner_client.get(f"/api/v1/cloud/connections/{here.public_id}/operations/").json()
    assert {operation["kind"] for operation in listed} == {"deploy", "clear"}


def test_tokens_are_shown_nowhere(staff_client, owner_client, here):
    Connection.objects.update(credential_kind="token", credential="very-secret-token")
    for client in (owner_client, staff_client):
        for path in ("/cloud/", f"/cloud/{here.public_id}/", "/api/v1/cloud/connections/", "/admin/cloud/connection/"):
            assert "very-secret-token" not in client.get(path).content.decode()


def test_what_workers_said_is_in_the_readers_language(owner, owner_client, here, deployed):
    refused = "Google does not accept the credentials of this connection. Check them."
    Connection.objects.update(read_error=refused)
    Operation.objects.create(
        connection=here, deployment=deployed, kind="clear", state="failed", error="Google refused the request."
    )
    Operation.objects.create(connection=here, kind="garden", state="failed", error=refused)
    price = "Compute Engine list price, dated 2026-10-04; Vertex AI adds its own fee, which is not known here."
    Deployment.objects.update(price_words=price, error="The container did not become ready.")
    owner.language = "zh-hans"
    owner.save()
    base, page = f"/cloud/{here.public_id}/", f"/cloud/deployments/{deployed.public_id}/"
    for path, said in (
        (base, "Google 不接受此连接的凭据。请检查凭据。"),
        (base, "Google 拒绝了请求。"),
        (f"{base}garden/", "Google 不接受此连接的凭据。请检查凭据。"),
        (page, "Compute Engine 目录价，日期 2026-10-04"),
        (page, "容器没有就绪。"),
        (f"{page}status/?state=ready", "容器没有就绪。"),
    ):
        assert said in text(owner_client.get(path)), path


def test_what_a_deployment_costs_is_kept_in_english_and_said_in_the_language_of_the_page(owner, owner_client, here):
    owner.language = "zh-hans"
    owner.save()
    path = f"/cloud/{here.public_id}/deploy/"
    assert "Compute Engine 目录价，日期 2026-10-04" in text(owner_client.post(path, WANTED))
    owner_client.post(path, WANTED | {"price": "1.41 USD", "typed": "my-endpoint"})
    made = Deployment.objects.get()
    assert made.price_words.startswith("Compute Engine list price, dated 2026-10-04")


@pytest.mark.parametrize("share", ["", "x", "-1", "101", "9" * 5000, "²"])
def test_a_share_that_is_no_per_cent_is_refused(owner_client, deployed, share):
    page = f"/cloud/deployments/{deployed.public_id}/"
    Deployment.objects.filter(pk=deployed.pk).update(state="ready", endpoint_name="e", deployed_model_id="1")
    answer = owner_client.post(page + "traffic/", {"share-1": share}, follow=True)
    assert "Enter a whole number from 0 to 100." in text(answer)
    assert not Operation.objects.exists()
