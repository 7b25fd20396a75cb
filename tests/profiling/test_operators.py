"""What single operators cost: views, work in place, broadcasts, gathers, scatters, caches that grow and caches that do not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import StaticCache

from profiling.build import build
from profiling.passes import Pass, trace
from profiling.trace import record
from tests.profiling.test_trace import tiny


def calls_of(function, *tensors, module: nn.Module | None = None):
    """The operators of ``function(*tensors)``, run on the meta device."""
    built = SimpleNamespace(module=module or nn.Module(), times=lambda path: 1, folds=())
    recording, _ = record(built, lambda: (function(*tensors), None), cache_before=None, inputs=list(tensors))
    assert recording.unknown == ()
    return recording.calls


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def ids(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.int64)


def moved(call) -> tuple[int, int]:
    return call.bytes_read, call.bytes_written


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.view(8, 64),
        lambda x: x.reshape(2, 4, 64),
        lambda x: x.transpose(0, 1),
        lambda x: x[1:, ::2],
        lambda x: x.unsqueeze(0).expand(5, -1, -1),
        lambda x: x.chunk(2, dim=1),
        lambda x: x.detach(),
        lambda x: x.unfold(0, 4, 2),
    ],
)
def test_views_are_free(view):
    assert calls_of(view, meta(16, 32)) == ()


def test_a_reshape_that_has_to_copy_moves_all():
    (call,) = calls_of(lambda x: x.t().reshape(-1), meta(16, 32))
    assert (call.name, moved(call)) == ("clone", (1024, 1024))


def test_work_in_place_reads_and_writes_the_same_tensor():
    first, second = calls_of(lambda x: x.mul_(2).add_(x), meta(16, 32))
    assert (first.name, moved(first)) == ("mul", (1024, 1024))
    assert first.reads[0][0] == first.writes[0][0] == second.writes[0][0]
    assert moved(second) == (2 * 1024, 1024)


def test_copies_in_place_do_not_read_what_they_overwrite():
    (call,) = calls_of(lambda x, y: x.copy_(y), meta(16, 32), meta(16, 32, dtype=torch.float32))
    assert moved(call) == (16 * 32 * 4, 16 * 32 * 2)
    (part,) = calls_of(lambda x, y: x[:4].copy_(y), meta(16, 32), meta(4, 32))
    assert moved(part) == (4 * 32 * 2, 4 * 32 * 2)
    (filled,) = calls_of(lambda x: x.zero_(), meta(16, 32))
    assert moved(filled) == (0, 1024)


def test_a_broadcast_operand_is_read_by_its_own_elements():
    (call,) = calls_of(lambda x, y: x + y, meta(16, 32), meta(32))
    assert moved(call) == (1024 + 64, 1024)
    (expanded,) = calls_of(lambda x, y: x * y.expand(16, 32), meta(16, 32), meta(16, 1))
    assert moved(expanded) == (1024 + 32, 1024)


def test_an_embedding_reads_the_rows_that_are_asked_for():
    table = nn.Embedding(1000, 64, dtype=torch.bfloat16, device="meta")
    (call,) = calls_of(table, ids(2, 5), module=table)
    assert moved(call) == (10 * 64 * 2 + 10 * 8, 10 * 64 * 2)
    assert call.weight_bytes == 10 * 64 * 2


def test_gathers_read_what_comes_out():
    table, index = meta(1000, 64), ids(7)
    for gather in (lambda x, i: x.index_select(0, i), lambda x, i: x[i]):
        (call,) = calls_of(gather, table, index)
        assert moved(call) == (7 * 64 * 2 + 7 * 8, 7 * 64 * 2)
    (call,) = calls_of(lambda x, i: x.gather(1, i), meta(16, 100), ids(16, 3))
    assert moved(call) == (16 * 3 * 2 + 16 * 3 * 8, 16 * 3 * 2)


def test_scatters_in_place_touch_what_they_change():
    table, index, rows = meta(1000, 64), ids(7), meta(7, 64)
    (call,) = calls_of(lambda x, i, y: x.index_copy_(0, i, y), table, index, rows)
    assert moved(call) == (7 * 64 * 2 + 7 * 8, 7 * 64 * 2)
    (call,) = calls_of(lambda x, i, y: x.index_put_((i,), y), table, index, rows)
    assert moved(call) == (7 * 64 * 2 + 7 * 8, 7 * 64 * 2)
    # An addition reads what it adds to.
    (call,) = calls_of(lambda x, i, y: x.index_add_(0, i, y), table, index, rows)
    assert moved(call) == (2 * 7 * 64 * 2 + 7 * 8, 7 * 64 * 2)
    (call,) = calls_of(lambda x, i: x.scatter_(1, i, 1.0), meta(16, 100), ids(16, 3))
    assert moved(call) == (16 * 3 * 8, 16 * 3 * 2)


def test_scatters_into_a_new_tensor_copy_the_rest():
    (call,) = calls_of(lambda x, i, y: x.index_copy(0, i, y), meta(1000, 64), ids(7), meta(7, 64))
    assert moved(call) == (1000 * 64 * 2 + 7 * 8 + 7 * 64 * 2, 1000 * 64 * 2)


def test_a_cache_that_grows_is_copied_with_its_new_token():
    batch, context, one = 2, 30, 2 * 16 * 2  # two key-value heads of 16 in bf16
    item = trace(build(tiny(), "bf16"), Pass("decode", batch, 1, context))
    appends = [c for c in item.calls if c.name == "cat" and c.label == "update"]
    assert len(appends) == 2 * len([c for c in item.calls if c.name == "sdpa"])
    for call in appends:
        assert moved(call) == (batch * (context + 1) * one, batch * (context + 1) * one)
    whole = next(c for c in item.calls if c.name == "sdpa")
    assert sum(b for uid, b, _ in whole.reads[1:3]) == 2 * batch * (context + 1) * one
    assert item.cache_bytes == 3 * 2 * batch * (context + 1) * one


def test_a_cache_of_fixed_length_is_written_where_the_token_goes():
    model, batch, length = build(tiny(), "bf16", fold=False), 2, 64
    cache = StaticCache(config=model.config, max_cache_len=length)

    def step(tokens: int):
        output = model.module(input_ids=ids(batch, tokens), past_key_values=cache, use_cache=True)
        return output, output.past_key_values

    record(model, lambda: step(8), cache_before=None, inputs=[])
    recording, _ = record(model, lambda: step(1), cache_before=cache, inputs=[])
    updates = [c for c in recording.calls if c.name == "index_copy"]
    one = batch * 2 * 16 * 2
    assert len(updates) == 2 * 3
    for call in updates:
        assert sum(b for _, b, source in call.reads if source == "cache") == 0
        assert call.bytes_written == one
    # Attention still reads all positions that the cache has room for.
    for call in recording.calls:
        if call.name == "sdpa":
            assert sum(b for _, b, _ in call.reads[1:3]) == 2 * length * one
