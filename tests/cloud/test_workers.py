"""Real worker processes: a deployment survives kill -9, a lease ends by itself, and the bell is heard."""

from __future__ import annotations

import pytest

from tests.chaos.harness import Portal, await_that
from tests.standins.vertex.fixture import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def vertex(tmp_path):
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def portal(tmp_path, vertex):
    settings = {"LLMCOMPARE_VERTEX_BASE": vertex.base, "LLMCOMPARE_CLOUD_TEST_TOKENS": "1"}
    with Portal(tmp_path, control="tests.cloud.control", settings=settings) as portal:
        portal.call("connect")
        yield portal


def await_deployment(portal, pk, what, timeout_s=120):
    def look():
        row = portal.call("deployment", pk=pk)
        return row if what(row) else None

    return await_that(look, f"the deployment comes to that; it is {portal.call('deployment', pk=pk)}", timeout_s)


def test_a_deployment_goes_on_after_kill_9_and_ends_with_its_lease(portal, vertex):
    first = portal.start_worker()
    portal.call("upload", image="tests/echo")
    await_that(lambda: portal.call("models"), "the model is uploaded and listed", 120)
    with vertex.held("DeployModel"):
        pk = portal.call("deploy", endpoint="survivor")
        before = await_deployment(
            portal, pk, lambda row: row["operation"]["stage"] == "deploy" and row["operation"]["lro"]
        )
        assert before["operation"]["worker"].endswith(f":{first.process.pid}")
        first.kill()
    second = portal.start_worker()
    after = await_deployment(portal, pk, lambda row: row["state"] in ("ready", "failed"))
    assert (after["state"], after["error"]) == ("ready", "")
    assert after["operation"]["lro"] == before["operation"]["lro"]
    assert after["operation"]["worker"].endswith(f":{second.process.pid}")
    assert len(vertex.requests("DeployModel")) == 1
    assert after["endpoint"]
    portal.call("expire", pk=pk)
    ended = await_deployment(portal, pk, lambda row: row["state"] in ("ended", "failed"))
    assert (ended["state"], ended["stop_reason"]) == ("ended", "expired")
    assert vertex.state()["endpoints"] == []
