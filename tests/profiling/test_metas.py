"""The memory of shapes: every answer is what torch would have said, and questions that differ are not taken for one another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from profiling import metas

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def forgotten():
    metas._known.clear()
    yield
    metas._known.clear()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def form(result: Any) -> Any:
    if isinstance(result, (tuple, list)):
        return [form(item) for item in result]
    return result.shape, result.stride(), result.dtype, result.storage_offset(), result.untyped_storage().nbytes()


X, Y, INDEX = meta(4, 6, 8), meta(4, 6, 8, dtype=torch.bfloat16), meta(3, dtype=torch.long)
PAIR, LONG = [meta(2, 2), meta(2, 2)], [meta(2, 2), meta(2, 2), meta(2, 2)]
SINGLE, HALF = meta(), meta(dtype=torch.float16)
#: Groups of questions that are close to one another.
QUESTIONS: dict[str, list[tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {
    "cat": [
        (aten.cat.default, (PAIR,), {}),
        (aten.cat.default, (PAIR, 1), {}),
        (aten.cat.default, (PAIR, -1), {}),
        (aten.cat.default, (LONG,), {}),
        (aten.cat.default, ([meta(2, 2), meta(2, 2, dtype=torch.bfloat16)],), {}),
        (aten.cat.default, ([meta(2, 2, dtype=torch.bfloat16)] * 2,), {}),
        (aten.cat.default, ([meta(2, 2).t(), meta(2, 2).t()],), {}),
        (aten.stack.default, (PAIR,), {}),
    ],
    "sum": [
        (aten.sum.dim_IntList, (X, [1]), {}),
        (aten.sum.dim_IntList, (X, [1], True), {}),
        (aten.sum.dim_IntList, (X, [1, 2]), {}),
        (aten.sum.dim_IntList, (X, [2], False), {"dtype": torch.float64}),
        (aten.sum.dim_IntList, (X, None), {}),
        (aten.sum.default, (X,), {}),
        (aten.sum.dim_IntList, (Y, [1]), {}),
        (aten.sum.dim_IntList, (meta(4, 6, 8, dtype=torch.bool), [1]), {}),
        (aten.mean.dim, (X, [1]), {}),
        (aten.mean.dim, (X, [1], True), {}),
        (aten.mean.dim, (Y, [1]), {"dtype": torch.float32}),
        (aten.cumsum.default, (X, 1), {}),
        (aten.cumsum.default, (INDEX, 0), {"dtype": torch.int32}),
    ],
    "numbers": [
        (aten.mul.Tensor, (INDEX, 1), {}),
        (aten.mul.Tensor, (INDEX, 1.0), {}),
        (aten.mul.Tensor, (INDEX, True), {}),
        (aten.mul.Tensor, (meta(3, dtype=torch.bool), 1), {}),
        (aten.mul.Tensor, (meta(3, dtype=torch.bool), True), {}),
        (aten.floor_divide.default, (INDEX, 2), {}),
        (aten.floor_divide.default, (INDEX, 2.0), {}),
        (aten.floor_divide.default, (INDEX, INDEX), {}),
        (aten.mul.Tensor, (SINGLE, HALF), {}),
        (aten.mul.Tensor, (HALF, 2.0), {}),
        (aten.add.Tensor, (X, Y), {"alpha": 2}),
        (aten.where.self, (meta(3, dtype=torch.bool), SINGLE, HALF), {}),
    ],
    "strides": [
        (aten.add.Tensor, (X, X), {}),
        (aten.add.Tensor, (X.transpose(0, 1), X.transpose(0, 1)), {}),
        (aten.add.Tensor, (X, meta(8).expand(4, 6, 8)), {}),
        (aten.add.Tensor, (X[:, :3], X[:, 3:]), {}),
        (aten.mm.default, (X[0], X[1].t()), {}),
        (aten.bmm.default, (X, X.transpose(1, 2)), {}),
    ],
    "indices": [
        (aten.index.Tensor, (X, [INDEX]), {}),
        (aten.index.Tensor, (X, [None, INDEX]), {}),
        (aten.index.Tensor, (X, [None, None, INDEX]), {}),
        (aten.index.Tensor, (X, [INDEX, INDEX]), {}),
        (aten.index.Tensor, (X, [INDEX, None, INDEX]), {}),
        (aten.gather.default, (X, 0, meta(1, 6, 8, dtype=torch.long)), {}),
        (aten.embedding.default, (X[0], INDEX), {}),
        (aten.topk.default, (X, 2), {}),
        (aten.topk.default, (X, 2, 1), {}),
        (aten.topk.default, (X, 3), {}),
        (aten.max.dim, (X, 1), {}),
        (aten.max.dim, (X, 1, True), {}),
    ],
    "made": [
        (aten.arange.start, (0, 5), {"device": torch.device("meta")}),
        (aten.arange.start, (0, 5.0), {"device": torch.device("meta")}),
        (aten.arange.default, (5,), {"device": torch.device("meta"), "dtype": torch.int32}),
        (aten.arange.start, (5, 9), {"device": torch.device("cpu")}),
        (aten.full.default, ([2, 3], 0), {"device": torch.device("meta")}),
        (aten.full.default, ([2, 3], 0.0), {"device": torch.device("meta")}),
        (aten.full.default, ([3, 2], False), {"device": torch.device("meta")}),
        (aten.new_empty.default, (Y, [2, 3]), {}),
        (aten.new_zeros.default, (Y, [2, 3]), {"dtype": torch.int8}),
        (aten.new_zeros.default, (Y, [1, 0]), {}),
        (aten.constant_pad_nd.default, (X, [0, 1]), {}),
        (aten.constant_pad_nd.default, (X, [1, 0, 0, 2]), {}),
    ],
}


@pytest.mark.parametrize("group", QUESTIONS)
def test_every_answer_is_that_of_torch_however_often_and_in_whatever_order(group):
    questions = QUESTIONS[group]
    for item in (*questions, *reversed(questions), *questions):
        func, args, kwargs = item
        told, asked = metas.run(func, args, kwargs), func(*args, **kwargs)
        assert form(told) == form(asked), item
    assert metas._known, "nothing was remembered"


def test_every_answer_has_memory_of_its_own():
    first, second = (metas.run(aten.add.Tensor, (X, X), {}) for _ in range(2))
    pointers = {t.untyped_storage()._cdata for t in (X, first, second)}
    assert len(pointers) == 3
    values, indices = [metas.run(aten.topk.default, (X, 2), {}) for _ in range(2)][1]
    assert values.untyped_storage()._cdata != indices.untyped_storage()._cdata


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten._unsafe_view.default, (X, [24, 8])),
        (aten.view.default, (X, [24, 8])),
        (aten.slice.Tensor, (X, 1, 0, 3)),
        (aten.t.default, (X[0],)),
        (aten.split_with_sizes.default, (X, [4, 4], -1)),
    ],
)
def test_views_stay_views(func, args):
    for _ in range(2):
        found = metas.run(func, args, {})
        items = found if isinstance(found, (list, tuple)) else [found]
        assert all(t.untyped_storage()._cdata == X.untyped_storage()._cdata for t in items)
    assert not metas._known


def test_what_writes_into_its_first_argument_returns_it():
    for target in (meta(4, 6), meta(4, 6)):
        assert metas.run(aten.mul_.Tensor, (target, 2.0), {}) is target
    for _ in range(2):
        with pytest.raises(RuntimeError):
            metas.run(aten.mul_.Tensor, (meta(4, 1), meta(4, 6)), {})
    out = meta(4, 6, 8)
    for _ in range(2):
        assert metas.run(aten.add.out, (X, X), {"out": out}) is out


def test_what_has_values_is_never_answered_from_memory():
    for factor in (2.0, 3.0):
        assert metas.run(aten.mul.Tensor, (torch.ones(2), factor), {}).tolist() == [factor, factor]
    assert metas.run(aten.arange.start, (0, 3), {"device": torch.device("cpu")}).tolist() == [0, 1, 2]
    assert not metas._known


def test_the_format_of_the_process_is_part_of_the_question():
    before = torch.get_default_dtype()
    told = []
    try:
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
            told.append(metas.run(aten.div.Tensor, (INDEX, 2), {}).dtype)
    finally:
        torch.set_default_dtype(before)
    assert told == [torch.float32, torch.float64]


def test_subclasses_and_operators_of_others_are_left_to_torch():
    class Own(torch.Tensor):
        pass

    own = meta(2, 2).as_subclass(Own)
    assert all(isinstance(metas.run(aten.add.Tensor, (own, own), {}), Own) for _ in range(2))
    asked = []
    library = torch.library.Library("metas_test", "DEF")
    library.define("grow(Tensor x) -> Tensor")
    library.impl("grow", lambda x: asked.append(1) or x.new_empty(len(asked)), "Meta")
    found = [metas.run(torch.ops.metas_test.grow.default, (X,), {}).shape[0] for _ in range(3)]
    assert found == [1, 2, 3]
    assert not metas._known


def test_the_memory_has_an_end(monkeypatch):
    monkeypatch.setattr(metas, "_MOST", 8)
    for size in range(1, 40):
        x = meta(size)
        assert form(metas.run(aten.neg.default, (x,), {})) == form(aten.neg.default(x))
        assert len(metas._known) <= 8
