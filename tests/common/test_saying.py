"""What is kept in English is said in the reader's language, and what is kept, exported or compared stays English whoever asks."""

from __future__ import annotations

import json

import pytest
from django.utils import translation

from llmcompare.common.saying import said
from llmcompare.history.models import Notice
from llmcompare.history.notices import message_of
from llmcompare.runs.extract import extract_of
from llmcompare.runs.models import RunEvent
from llmcompare.runs.services import cancel_run
from profiling.quantities import show
from tests.exports.test_exports import DOCUMENT
from tests.factories import make_run


@pytest.fixture
def chinese():
    with translation.override("zh-hans"):
        yield


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        ("prefill", "预填充"),
        ("estimated, datasheet ceilings", "估算，规格书上限"),
        ("Other processes used 1.5 of 2 cores.", "其他进程使用了 2 个核心中的 1.5 个。"),
        ("Attempt 2 of 3 begins on lab.", "第 2 次尝试（共 3 次）在 lab 上开始。"),
        (
            "None of 4 requests was answered. The server is not ready or overloaded",
            "4 个请求均未得到回答。服务器尚未就绪或过载",
        ),
        (
            "datasheet: the vendor's dense rates and bandwidth: an optimistic bound, real runs are slower (bf16 rate)",
            "规格书：厂商的稠密速率和带宽：乐观界，实际运行更慢（bf16 速率）",
        ),
        ("The conditions differ in input tokens (37 and 128).", "条件在以下方面不同：输入词元（37 和 128）。"),
        (
            "Too few processes (1 and 1): how much processes of the same program differ is unknown. Measure with at least 3.",
            "进程太少（1 和 1）：同一程序的进程相差多少未知。请至少用 3 个进程测量。",
        ),
        (
            "The conditions differ in input tokens (37 and 128), threads (1 and 2).",
            "条件在以下方面不同：输入词元（37 和 128）、线程数（1 和 2）。",
        ),
        (
            "No closed form holds images or audio clips: what they add is traced for each estimate. Run it instead.",
            "没有解析公式包含图像或音频片段：它们带来的部分在每次估算时跟踪。请改为运行估算。",
        ),
        ("Google's service failed (status 502).", "Google 服务失败（状态 502）。"),
        ("Google refused the request. The service says: name taken.", "Google 拒绝了请求。服务称：name taken。"),
        (
            "Not undeployed yet, and tried again: Google does not accept the credentials of this connection. Check them.",
            "尚未取消部署，将再次尝试：Google 不接受此连接的凭据。请检查凭据。",
        ),
        ("nobody knows this sentence of theirs", "nobody knows this sentence of theirs"),
        ("", ""),
        (None, None),
    ],
)
def test_kept_texts_are_said_in_the_language_of_the_page(kept, wanted):
    assert said(kept) == wanted


def test_in_english_everything_is_as_it_is_kept():
    with translation.override("en"):
        assert said("prefill") == "prefill"
        assert show(None) == "unknown"


@pytest.mark.usefixtures("chinese")
def test_an_unknown_figure_is_said_too():
    assert show(None) == "未知"


@pytest.mark.usefixtures("chinese")
def test_what_a_chinese_page_stores_is_english(owner):
    run = make_run(owner)
    cancel_run(run=run)
    run.refresh_from_db()
    assert run.message == "Cancelled."
    assert RunEvent.objects.get(run=run).message == "Cancelled while waiting."
    assert json.dumps(extract_of(DOCUMENT)).isascii()


def test_exports_are_english_for_a_chinese_reader(owner_client, owner):
    owner.language = "zh-hans"
    owner.save()
    run = make_run(owner, document=DOCUMENT)
    for address in (f"/runs/{run.public_id}.json", f"/runs/{run.public_id}.csv", "/runs.csv"):
        response = owner_client.get(address)
        assert response.status_code == 200
        assert not any("一" <= character <= "鿿" for character in response.getvalue().decode())
    chosen = {"action": "csv", "run": run.public_id}
    listed = owner_client.post("/runs/bulk/", chosen).getvalue().decode()
    assert f"{run.model_name} on {run.hardware_name}" in listed


def test_an_email_is_in_the_language_of_the_account(owner):
    owner.language = "zh-hans"
    owner.save()
    run = make_run(owner, document=DOCUMENT)
    message = message_of(Notice.objects.create(run=run, user=owner))
    assert message.subject.startswith("[llmcompare] 已完成")
    assert "结束：" in message.body
