"""Finding the pieces of a stage: where one set of polynomials ends and the next begins, and a proof at the ends of each.

A fit through three points says nothing of the rest of a range. Each piece is therefore checked at points that took no part in it:
at its end, in between, and for other batches. Where it does not hold, the last point at which it does is searched for by halving,
places at which configurations are known to change something (a full window) first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from profiling.forms.basis import monomials
from profiling.forms.fitting import Fit, fit, piece
from profiling.forms.samples import Sample
from profiling.forms.terms import NoForm, Piece

#: More pieces than this along one variable are no closed form.
MAX_PIECES = 16
#: Fits go through the first point of a piece and these, or points as far beyond it.
_GRID = (9, 21)
#: A known cut where the polynomials still hold so far behind it changes nothing.
_BEYOND = 20

#: Points that a fit along one variable goes through.
_FEWEST = 3
#: Batches of the points that check a fit through batches 2 and 3.
_BATCHES = (37, 2, 5)

Sampler = Callable[[Mapping[str, int]], Sample]


class Search:
    """Pieces along one variable, for one class of batches (1, or 2 and more).

    ``sample``: traces a point (remembering it is up to the caller). ``fixed``: other variables, the same at every point.
    ``chunks``: tokens per chunk that the model may round up to. Raises :class:`NoForm` when ``deadline`` has passed: of this
    thread's own time (``time.thread_time``), since a busy machine must not decide whether there is a form.
    """

    def __init__(
        self, sample: Sampler, variable: str, fixed: Mapping[str, int], chunks: Sequence[int], deadline: float
    ) -> None:
        self._sample, self._variable, self._fixed = sample, variable, dict(fixed)
        self._chunks = [None, *chunks] if variable == "tokens" else [None]
        self._deadline = deadline

    def pieces(self, first: int, last: int, cuts: Iterable[int], *, batched: bool) -> tuple[Piece, ...]:
        """All pieces from ``first`` to ``last``. ``cuts``: points at which a piece may begin, tried before any other."""
        found: list[Piece] = []
        starts = sorted({c for c in cuts if first < c <= last})
        while first <= last:
            if len(found) == MAX_PIECES:
                raise NoForm(f"More than {MAX_PIECES} pieces along {self._variable}.")
            made, end = self._longest(first, last, starts, batched)
            found.append(made)
            first = end + 1
        return tuple(found)

    def _longest(self, first: int, last: int, starts: list[int], batched: bool) -> tuple[Piece, int]:
        best = self._try(first, last, batched)
        if best is not None:
            return best, last
        known = self._known(first, last, starts, batched)
        if known is not None:
            return known
        low, high = first, last  # holds (at the latest for one point), does not hold
        made = self._one(first, batched)
        while high - low > 1:
            middle = (low + high) // 2
            longer = self._try(first, middle, batched)
            if longer is not None:
                made, low = longer, middle
            else:
                high = middle
        return made, low

    def _known(self, first: int, last: int, starts: list[int], batched: bool) -> tuple[Piece, int] | None:
        """The longest piece that ends at a known cut, if nothing holds a little beyond it."""
        found: tuple[Piece, int] | None = None
        for end in (s - 1 for s in starts if s == first + 1 or s - first > _FEWEST):
            made = self._try(first, end, batched)
            if made is None:
                break
            found = made, end
        if found is None or self._try(first, min(last, found[1] + 1 + _BEYOND), batched) is not None:
            return None
        return found

    def _point(self, x: int, batch: int, chunk: int | None) -> dict[str, int]:
        point = {**self._fixed, self._variable: x, "batch": batch}
        if chunk:
            point["chunks"] = -(-x // chunk)
        return point

    def _try(self, first: int, last: int, batched: bool) -> Piece | None:
        """A piece from ``first`` to ``last`` that holds wherever it was checked, or None."""
        if last == first:
            return self._one(first, batched)
        for chunk in self._chunks:
            names = [self._variable, "chunks"] if chunk else [self._variable]
            count = 6 if chunk else _FEWEST
            if last - first < count:
                continue
            xs = _spread(first, last, count, chunk)
            made = self._fit(names, xs, batched, chunk)
            # Never fitted through: the end, the middle, a place near the beginning.
            others = dict.fromkeys((last, (first + last) // 2, first + (last - first) // 3))
            if made is not None and all(
                self._holds(made, x, batch, chunk)
                for x, batch in zip(others, _BATCHES if batched else (1, 1, 1), strict=False)
                if batched or x not in xs
            ):
                return self._piece(made, (first, last), batched, chunk)
        return None

    def _one(self, x: int, batched: bool) -> Piece:
        made = self._fit([], [x], batched, None)
        if made is None or not self._holds(made, x, _BATCHES[0] if batched else 1, None):
            raise NoForm(f"No polynomial in the batch holds at {self._variable} {x:,}.")
        return self._piece(made, (x, x), batched, None)

    def _piece(self, made: Fit, limits: tuple[int, int], batched: bool, chunk: int | None) -> Piece:
        ranges = {self._variable: limits, **{name: (v, v) for name, v in self._fixed.items()}}
        return piece(made, batched=batched, ranges=ranges, chunk=chunk)

    def _fit(self, names: list[str], xs: Sequence[int], batched: bool, chunk: int | None) -> Fit | None:
        batches = (2, 3) if batched else (1,)
        points = [self._point(x, batch, chunk) for batch in batches for x in xs]
        samples = [self._take(p) for p in points]
        try:
            return fit(monomials(names, batched=batched), points, samples)
        except NoForm:
            return None

    def _holds(self, made: Fit, x: int, batch: int, chunk: int | None) -> bool:
        point = self._point(x, batch, chunk)
        return made.holds_at(point, self._take(point))

    def _take(self, point: Mapping[str, int]) -> Sample:
        if time.thread_time() > self._deadline:
            raise NoForm("Finding the closed form took too long.")
        return self._sample({name: v for name, v in point.items() if name != "chunks"})


def _spread(first: int, last: int, count: int, chunk: int | None) -> list[int]:
    """``count`` points of a range near its beginning; with chunks, on both sides of their ends."""
    if chunk:
        wanted = [first, first + 1, first + chunk, first + chunk + 2, first + 3 * chunk + 1, first + 4 * chunk]
    else:
        wanted = [first, *(g if first < _GRID[0] else first + g for g in _GRID)]
    if wanted[-1] < last:
        return wanted
    return [first + i for i in range(count)]


def boxes(
    sample: Sampler,
    ranges: Mapping[str, tuple[int, int]],
    fixed: Mapping[str, int],
    cuts: Mapping[str, int],
    deadline: float,
) -> tuple[Piece, ...]:
    """Pieces over a box of two variables: one box, or else four that begin at ``cuts``. Raises :class:`NoForm`."""
    try:
        return box(sample, ranges, fixed, deadline)
    except NoForm:
        if not cuts or time.thread_time() > deadline:
            raise
    sides = {
        name: [(low, cuts[name] - 1), (cuts[name], high)] if low < cuts.get(name, low) <= high else [(low, high)]
        for name, (low, high) in ranges.items()
    }
    parts = [dict(zip(sides, limits, strict=True)) for limits in itertools.product(*sides.values())]
    return tuple(piece for part in parts for piece in box(sample, part, fixed, deadline))


def box(
    sample: Sampler, ranges: Mapping[str, tuple[int, int]], fixed: Mapping[str, int], deadline: float
) -> tuple[Piece, ...]:
    """Two pieces (batch 1, larger batches) over a box of two variables, checked at its corners. Raises :class:`NoForm`."""
    (a, (a0, a1)), (b, (b0, b1)) = ranges.items()
    if min(a1 - a0, b1 - b0) <= 19:
        raise NoForm(f"The ranges of {a} and {b} are too short.")
    corner = [(a0, b0), (a0 + 7, b0), (a0, b0 + 7), (a0 + 19, b0), (a0, b0 + 19), (a0 + 7, b0 + 7)]
    found = []
    for batched in (False, True):
        batches = (2, 3) if batched else (1,)
        points = [{**fixed, a: x, b: y, "batch": n} for n in batches for x, y in corner]
        made = fit(monomials([a, b], batched=batched), points, [sample(p) for p in points])
        for x, y in ((a1, b1), (a1, b0), (a0, b1), ((a0 + a1) // 2, (b0 + b1) // 3)):
            if time.thread_time() > deadline:
                raise NoForm("Finding the closed form took too long.")
            point = {**fixed, a: x, b: y, "batch": 37 if batched else 1}
            if not made.holds_at(point, sample(point)):
                raise NoForm(f"No one polynomial holds over all {a} and {b}.")
        exact = {name: (v, v) for name, v in fixed.items()}
        found.append(piece(made, batched=batched, ranges={**ranges, **exact}, chunk=None))
    return tuple(found)
