"""Cold tensors lie somewhere else at every call; what comes round again was left long before."""

from __future__ import annotations

from itertools import pairwise

import torch

from profiling.issued import Slot
from profiling.replay.arena import CACHES, PAGE, SMALLEST, Arena, arena_bytes, filled
from profiling.replay.shapes import Caches, operators
from profiling.replay.timing import Prepared
from profiling.replay.twin import traced
from profiling.spec import Workload
from tests.profiling import tiny


def slot(elements, dtype=torch.float32):
    return Slot(1, (elements,), (1,), dtype, "weight")


def test_places_do_not_overlap_until_the_arena_was_gone_through():
    arena = Arena(64 * PAGE)
    item = slot(1000)
    begins = [arena.place(item).data_ptr() for _ in range(32)]
    assert len(set(begins)) == 32
    assert min(b - a for a, b in pairwise(begins)) >= item.nbytes
    assert arena.place(item).data_ptr() == begins[0]


def test_the_arena_is_several_times_the_last_level_cache():
    assert arena_bytes(100 << 20) == CACHES * (100 << 20) >= 4 * (100 << 20)
    assert arena_bytes(0) == SMALLEST


def test_a_tensor_that_is_larger_than_the_arena_has_memory_of_its_own_one_at_a_time():
    arena = Arena(4 * PAGE)
    first, second = arena.place(slot(10_000)), arena.place(slot(20_000))
    assert first.shape == (10_000,)
    assert second.shape == (20_000,)
    assert len(arena._large) == 1


def test_strides_are_those_of_the_model():
    transposed = Slot(1, (6, 4), (1, 6), torch.float32, "weight")
    placed = Arena(16 * PAGE).place(transposed)
    assert placed.shape == (6, 4)
    assert placed.stride() == (1, 6)


def test_values_are_normal_numbers_and_masks_let_everything_through():
    assert ((filled(100_000, torch.float32) >= 0.5) & (filled(100_000, torch.float32) <= 1)).all()
    assert filled(5, torch.bool).all()
    assert not filled(5, torch.int64).any()


def test_a_product_reads_its_weights_from_another_place_at_each_call_and_its_input_from_the_same():
    found = traced(tiny.MODEL, Workload(input_tokens=9, output_tokens=1, dtype="fp32"), ["prefill"])["prefill"]
    item = next(item for item in operators(found, Caches(1 << 10)) if item.name == "mm")
    call = Prepared(item, Arena(1 << 20))
    arguments = [call.next()[1] for _ in range(20)]
    weight = next(n for n, value in enumerate(item.issued.args) if value.source == "weight")
    assert len({args[weight].data_ptr() for args in arguments}) == 20
    assert len({args[1 - weight].data_ptr() for args in arguments}) == 1
