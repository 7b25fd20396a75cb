"""The search of pieces on costs that are known: breaks anywhere are found, what is no polynomial is refused, never guessed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.forms.basis import at
from profiling.forms.search import MAX_PIECES, Search, box, boxes
from profiling.forms.terms import NoForm, Piece, StageForm, point_terms
from tests.profiling.forms.synthetic import Fake, Point


def found(fake: Fake, last: int, *, first: int = 1, cuts=(), chunks=(), batched=True, seconds=60.0) -> StageForm:
    search = Search(fake, "tokens", {"context": 0}, chunks, time.thread_time() + seconds)
    return StageForm("prefill", {"context": 0}, search.pieces(first, last, cuts, batched=batched), ())


def ranges(form: StageForm) -> list[tuple[int, int]]:
    return [piece.ranges["tokens"] for piece in form.pieces]


def flops(form: StageForm, **point: int) -> float:
    return sum(term.flops for term in point_terms(form, {"context": 0, **point}))


def equal(form: StageForm, fake: Fake, points, batches=(2, 3, 7, 65536)) -> None:
    for tokens in points:
        for batch in batches:
            point = {"batch": batch, "tokens": tokens, "context": 0}
            sample = fake(point)
            assert flops(form, **point) == sum(n[0] for n in sample.numbers), point
            piece = form.piece(point)
            assert at(piece.cache, piece.basis, piece.complete(point)) == sample.cache_bytes


def square(p: Point) -> int:
    return p["batch"] * (3 * p["tokens"] ** 2 + 5 * p["tokens"] + 7) + 11 * p["tokens"] + 2


def test_one_polynomial_is_one_piece_and_few_traces():
    fake = Fake(square)
    form = found(fake, 131_072)
    assert ranges(form) == [(1, 131_072)]
    assert len(fake.asked) < 12
    equal(form, fake, (1, 2, 999, 131_071, 131_072))


def test_a_batch_of_one_has_a_piece_of_its_own():
    fake = Fake(lambda p: square(p) + (1000 * p["tokens"] if p["batch"] > 1 else 0))
    many, one = found(fake, 5000), found(fake, 5000, batched=False)
    equal(many, fake, (1, 17, 5000))
    equal(one, fake, (1, 17, 5000), batches=(1,))
    assert all(not p.holds({"batch": 1, "tokens": 5, "context": 0}) for p in many.pieces)
    with pytest.raises(NoForm, match="batch 1, tokens 5"):
        many.piece({"batch": 1, "tokens": 5})


def test_a_batch_that_is_no_straight_line_is_no_form():
    with pytest.raises(NoForm, match="batch"):
        found(Fake(lambda p: p["batch"] ** 2 * p["tokens"]), 1000)
    with pytest.raises(NoForm, match="batch"):  # runs another way from 32 sequences on
        found(Fake(lambda p: p["tokens"] * max(p["batch"], 32)), 1000)


@pytest.mark.parametrize("cuts", [(2, 4095, 4096, 4097, 4098), ()], ids=["expected", "not expected"])
def test_a_full_window_begins_a_piece(cuts):
    fake = Fake(lambda p: p["batch"] * p["tokens"] * min(p["tokens"], 4096))
    form = found(fake, 131_072, cuts=cuts)
    assert ranges(form)[-1][1] == 131_072
    assert len(form.pieces) <= 3
    equal(form, fake, (1, 4094, 4095, 4096, 4097, 4098, 9999, 131_072))


def test_the_first_token_alone_is_a_piece_where_it_differs():
    fake = Fake(
        lambda p: p["batch"] * (p["tokens"] ** 2 if p["tokens"] > 1 else 500),
        name=lambda p: "mm" if p["tokens"] > 1 else "mv",
    )
    form = found(fake, 9000, cuts=(2,))
    assert ranges(form) == [(1, 1), (2, 9000)]
    equal(form, fake, (1, 2, 3, 9000))


@given(st.lists(st.integers(2, 20_000), min_size=1, max_size=4, unique=True), st.booleans())
@settings(deadline=None, max_examples=60)
def test_breaks_anywhere_are_found_where_the_curve_goes_on(breaks, batched):
    """Slopes that differ on the two sides of every break, as when something is cut off at a length."""
    breaks = sorted(breaks)

    def cost(p: Point) -> int:
        return p["batch"] * (p["tokens"] ** 2 + sum((10 + i) * max(0, p["tokens"] - b) for i, b in enumerate(breaks)))

    fake = Fake(cost)
    form = found(fake, 20_000, batched=batched)
    close = {t for b in breaks for t in range(b - 3, b + 4) if 1 <= t <= 20_000}
    equal(form, fake, sorted({1, 2, 20_000, *close}), batches=(2, 9) if batched else (1,))


def test_a_step_in_the_middle_of_nowhere_is_found():
    fake = Fake(lambda p: p["batch"] * (p["tokens"] + (10**6 if p["tokens"] >= 12_347 else 0)))
    form = found(fake, 20_000)
    assert (1, 12_346) in ranges(form)
    equal(form, fake, (12_345, 12_346, 12_347, 12_348))


def test_tokens_rounded_up_to_chunks_are_one_piece_with_chunks_as_a_variable():
    def cost(p: Point) -> int:
        chunks = -(-p["tokens"] // 64)
        return p["batch"] * (chunks * 64 * 64 * 5 + 3 * p["tokens"] + chunks**2)

    fake = Fake(cost)
    form = found(fake, 65_536, chunks=(256, 64))
    assert len(form.pieces) <= 2
    assert form.pieces[-1].chunk == 64
    equal(form, fake, (1, 63, 64, 65, 128, 129, 777, 65_535, 65_536))


def test_chunks_of_an_unknown_size_are_no_form():
    with pytest.raises(NoForm, match=f"More than {MAX_PIECES} pieces along tokens"):
        found(Fake(lambda p: p["batch"] * -(-p["tokens"] // 48) * 48), 65_536, chunks=(64,))


@pytest.mark.parametrize("layers", [1, 3])
def test_a_loop_over_chunks_has_as_many_operators_as_chunks(layers):
    fake = Fake(lambda p: 100 * p["batch"], operators=lambda p: -(-p["tokens"] // 32), layers=layers)
    form = found(fake, 2000, chunks=(32,))
    equal(form, fake, (1, 31, 32, 33, 64, 65, 1999))
    (term,) = point_terms(form, {"batch": 4, "tokens": 321, "context": 0})
    assert term.calls == 11 * layers
    assert term.rows == 4  # of one operator, not of all


def test_a_loop_over_tokens_has_as_many_operators_as_tokens():
    fake = Fake(lambda p: 7 * p["batch"], operators=lambda p: p["tokens"])
    form = found(fake, 500)
    (term,) = point_terms(form, {"batch": 2, "tokens": 450, "context": 0})
    assert (term.calls, term.flops) == (450, 450 * 14)


@pytest.mark.parametrize(
    "cost",
    [
        lambda p: p["batch"] * p["tokens"] ** 3,
        lambda p: p["batch"] * int(p["tokens"] ** 1.5),
        lambda p: p["batch"] * (p["tokens"] % 97),
        lambda p: p["batch"] * p["tokens"] * p["tokens"].bit_length(),
    ],
    ids=["cubic", "root", "remainder", "logarithm"],
)
def test_what_is_no_polynomial_has_no_form(cost):
    with pytest.raises(NoForm, match=f"More than {MAX_PIECES} pieces"):
        found(Fake(cost), 1 << 20)


def test_a_short_range_is_covered_point_by_point():
    """A model of 10 positions whose every length is a case of its own."""
    fake = Fake(lambda p: p["batch"] * (p["tokens"] ** 5 % 1009))
    form = found(fake, 10)
    assert ranges(form)[0][0] == 1
    assert ranges(form)[-1][1] == 10
    equal(form, fake, range(1, 11))


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 9, 22, 23])
def test_ranges_of_any_length_are_covered_without_gap_or_overlap(last):
    fake = Fake(square)
    form = found(fake, last, cuts=(2,))
    covered = [t for low, high in ranges(form) for t in range(low, high + 1)]
    assert covered == list(range(1, last + 1))
    equal(form, fake, covered)


def test_the_peak_is_the_largest_of_several_lines():
    fake = Fake(
        square, alive=lambda p: (100 * p["batch"], p["batch"] * p["tokens"], p["batch"] * (p["tokens"] // 1) + 5)
    )
    form = found(fake, 4000)
    (piece,) = form.pieces
    for tokens in (1, 95, 96, 101, 4000):
        point = {"batch": 6, "tokens": tokens, "context": 0}
        assert max(at(p, piece.basis, point) for p in piece.peaks) == max(600, 6 * tokens + 5)
    assert len(piece.peaks) == 2  # the one that another one always exceeds is left out


def test_a_search_ends_when_its_time_is_up():
    def slow(p: Point) -> int:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.01:
            pass
        return p["batch"] * (p["tokens"] % 97)

    begun = time.thread_time()
    with pytest.raises(NoForm, match="took too long"):
        found(Fake(slow), 1 << 20, seconds=0.2)
    assert time.thread_time() - begun < 2


def test_waiting_for_a_busy_machine_does_not_count():
    def waits(p: Point) -> int:
        time.sleep(0.05)
        return 3 * p["batch"] * p["tokens"]

    assert found(Fake(waits), 1 << 10, seconds=0.2).pieces


def test_a_trace_that_fails_ends_the_search_with_its_reason():
    def failing(p: Point) -> int:
        raise NoForm("The forward pass depends on values.")

    with pytest.raises(NoForm, match="depends on values"):
        found(Fake(failing), 100)


# --- two variables ------------------------------------------------------------------------------------------------------


def boxed(cost, *, seconds: float = 60.0) -> tuple[Piece, ...]:
    fake = Fake(cost, cache=lambda p: p["batch"] * (2 * p["context"] + 3 * p["source"]))
    return box(fake, {"context": (1, 511), "source": (2, 512)}, {"tokens": 1}, time.thread_time() + seconds)


def test_a_box_holds_over_context_and_source():
    def cost(p: Point) -> int:
        return p["batch"] * (5 * p["context"] + 7 * p["source"] + 13) + 17

    form = StageForm("decode", {"tokens": 1}, boxed(cost), ())
    for batch, context, source in ((1, 1, 2), (2, 511, 512), (65536, 300, 7), (1, 17, 400)):
        point = {"batch": batch, "context": context, "source": source}
        assert sum(t.flops for t in point_terms(form, point)) == cost(point)


@pytest.mark.parametrize(
    "cost",
    [
        lambda p: p["batch"] * max(p["context"], 128) * p["source"],
        lambda p: p["batch"] * (p["context"] + (1 if p["source"] > 500 else 0)),
    ],
    ids=["a window of the context", "a step of the source"],
)
def test_a_break_within_a_box_is_no_form(cost):
    with pytest.raises(NoForm, match="context and source"):
        boxed(cost)


def test_a_box_is_cut_where_something_is_known_to_change():
    """A tile of at most 128 keys, along both variables."""

    def cost(p: Point) -> int:
        return p["batch"] * (p["source"] + min(p["context"] + 1, 128) + 3 * min(p["source"], 128))

    fake, ranges = Fake(cost), {"context": (1, 511), "source": (2, 512)}
    pieces = boxes(fake, ranges, {"tokens": 1}, {"context": 128, "source": 129}, time.thread_time() + 60)
    form = StageForm("decode", {"tokens": 1}, pieces, ())
    for context in (1, 126, 127, 128, 129, 511):
        for source in (2, 127, 128, 129, 130, 512):
            point = {"batch": 5, "context": context, "source": source}
            assert sum(t.flops for t in point_terms(form, point)) == cost(point)
    with pytest.raises(NoForm, match="context and source"):
        boxes(fake, ranges, {"tokens": 1}, {"context": 200, "source": 200}, time.thread_time() + 60)


def test_a_box_too_short_to_check_is_no_form():
    with pytest.raises(NoForm, match="too short"):
        box(Fake(square), {"context": (1, 19), "source": (2, 20)}, {"tokens": 1}, time.thread_time() + 60)
