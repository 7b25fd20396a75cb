"""The model's thread with a real tiny model: what goes wrong with a request is said to whoever asked, and the next one is answered."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

torch = pytest.importorskip("torch")

from profiling.failures import device_failed  # noqa: E402
from profiling.resident import load_resident  # noqa: E402
from profiling.spec import Workload  # noqa: E402
from serving.app import make_app  # noqa: E402
from serving.bodies import Question  # noqa: E402
from serving.engine import Answer, Engine  # noqa: E402
from serving.errors import Refusal  # noqa: E402
from serving.settings import Settings  # noqa: E402
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


#: As torch says it, when a kernel read where it may not: every further call says it again.
STICKY = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported at some other API call"


@contextmanager
def device(resident, errors):
    """The model's passes fail with the next of ``errors`` (None: they do not), as long as there are any. Counts the passes."""
    left, passes = iter(errors), []

    def fails(*_):
        passes.append(1)
        if (error := next(left, None)) is not None:
            raise error

    hook = resident.module.register_forward_pre_hook(fails)
    try:
        yield passes
    finally:
        hook.remove()


def health(engine: Engine) -> int:
    app = make_app(Settings(model="x"), engine)

    async def go() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return (await client.get("/health")).status_code

    return asyncio.run(go())


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


def test_a_device_that_fails_for_good_makes_health_fail_and_further_requests_are_refused_at_once(resident):
    told = []
    engine = Engine(lambda report: resident, 16, on_broken=lambda: told.append(1))
    engine.start()
    try:
        assert ask(engine, Question(prompt="a b", max_tokens=1)).tokens == 1
        assert health(engine) == 200
        with device(resident, (RuntimeError(STICKY) for _ in range(1000))) as passes:
            with pytest.raises(Refusal) as refused:
                ask(engine, Question(prompt="a b", max_tokens=1))
            assert refused.value.code == 503
            assert "illegal memory access" in refused.value.message
            assert health(engine) == 503
            assert len(passes) == 3, "the request's, and two that try whether it stays so"
        # It does not come back by itself, whatever the hook does now.
        with pytest.raises(Refusal, match="must be restarted") as refused:
            engine.submit([Question(prompt="a")], 0, lambda answer: 0)
        assert refused.value.code == 503
        assert told == [1]
    finally:
        engine.end()
        engine.join(10)
        gc.unfreeze()


@pytest.mark.parametrize(
    "errors",
    [
        [RuntimeError(STICKY), None],  # a library that failed once
        [RuntimeError(STICKY), RuntimeError(STICKY), None],
        [RuntimeError("CUDA error: out of memory")] * 20,
        [ValueError("The model's own fault")] * 20,
    ],
)
def test_a_device_that_still_computes_is_not_given_up(engine, resident, errors):
    """Memory that is not enough, and faults of the model, are no errors of the device, however often they come."""
    with device(resident, errors):
        for _ in range(4):
            with suppress(Refusal):
                ask(engine, Question(prompt="a b", max_tokens=1))
    assert health(engine) == 200
    assert ask(engine, Question(prompt="a b", max_tokens=1)).tokens == 1


def test_a_device_that_fails_during_a_profile_is_found_too(resident):
    """The answer is out by then; the next request would be the first to fail."""
    engine = Engine(lambda report: resident, 16)
    engine.start()
    try:
        while not engine.ready:
            time.sleep(0.01)
        with device(resident, (error for error in [None, *[RuntimeError(STICKY)] * 1000])):

            async def go() -> list:
                question = Question(prompt="a b", max_tokens=1, ignore_eos=True, profile=True)
                (job,) = engine.submit([question], time.perf_counter_ns(), lambda answer: 10**6)
                return [await job.next(), await job.next()]

            answer, profile = asyncio.run(asyncio.wait_for(go(), 60))
        assert answer.tokens == 1
        assert "illegal memory access" in profile.reason
        assert health(engine) == 503
    finally:
        engine.end()
        engine.join(10)
        gc.unfreeze()


@pytest.mark.parametrize(
    ("text", "of_the_device"),
    [
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", True),
        ("CUDA driver error: unknown error", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", False),
        ("CUDA error: out of memory", False),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_errors_of_the_device_are_told_from_others(text, of_the_device):
    assert device_failed(RuntimeError(text)) is of_the_device
    wrapped = ValueError("The pass failed.")
    wrapped.__cause__ = RuntimeError(text)
    assert device_failed(wrapped) is of_the_device
