"""The model's thread with a real tiny model: what goes wrong with a request is said to whoever asked, and the next one is answered."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

torch = pytest.importorskip("torch")

from profiling.resident import load_resident  # noqa: E402
from profiling.spec import Workload  # noqa: E402
from serving.bodies import Question  # noqa: E402
from serving.engine import Answer, Engine  # noqa: E402
from serving.errors import Refusal  # noqa: E402
from tests.profiling import tiny  # noqa: E402
from tests.profiling.tokenised import make_tokenised  # noqa: E402


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
    spec = make_tokenised(tmp_path_factory.mktemp("model"), tiny.LLAMA | {"eos_token_id": 1})
    return load_resident(spec, tiny.HOST, Workload(dtype="fp32", threads=1))


@pytest.fixture
def engine(resident):
    found = Engine(lambda report: resident, 16)
    found.start()
    yield found
    found.end()
    found.join(10)
    gc.unfreeze()


def ask(engine: Engine, question: Question) -> Answer:
    async def go() -> Answer:
        while not engine.ready:
            await asyncio.sleep(0)
        (job,) = engine.submit([question], time.perf_counter_ns(), lambda answer: 10**6)
        answer = await job.next()
        assert await job.next() is None
        return answer

    return asyncio.run(asyncio.wait_for(go(), 60))


def test_memory_that_is_not_enough_is_called_so_and_the_next_request_is_answered(engine, resident):
    """torch says it of a processor's memory in a plain RuntimeError."""

    def greedy(module, arguments, options):
        if options["input_ids"].shape[1] > 4:
            torch.empty(2**60, dtype=torch.uint8)

    hook = resident.module.register_forward_pre_hook(greedy, with_kwargs=True)
    try:
        with pytest.raises(Refusal) as refused:
            ask(engine, Question(prompt="a b c d e f"))
        assert (refused.value.code, refused.value.message) == (
            503,
            "The memory is not enough for this request. Ask for fewer tokens.",
        )
        assert ask(engine, Question(prompt="a b", max_tokens=2, ignore_eos=True)).tokens == 2
    finally:
        hook.remove()
