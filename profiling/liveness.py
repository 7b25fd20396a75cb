"""Which bytes of activations are alive when: births and deaths of storages in the order of a trace, and what they add up to.

What ends up in the cache is no activation. Where the cache holds a part of a storage (the window of a longer sequence) it keeps the
rest alive too, and that is one; blocks that are not traced keep theirs as well, each from its turn in the complete model on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from profiling.build import Built, Fold, block_index
from profiling.recording import Occupied, Span
from profiling.workspace import Workspace


@dataclass(frozen=True)
class Activity:
    """What a timeline adds up to, as :class:`profiling.recording.Recording` keeps it."""

    alive: tuple[int, ...]
    occupied: tuple[Occupied, ...]
    spans: tuple[Span, ...]
    allocations: tuple[tuple[int, int], ...]


class Timeline:
    """Filled while a pass is traced; ``uid`` numbers storages, those of workspaces among them."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int]] = []  # (uid, +bytes at birth, −bytes at death), in order
        self._born: dict[int, str] = {}  # uid → module
        self._workspaces: dict[int, Workspace] = {}  # by uid, in order
        self._held: dict[int, int] = {}  # uid → bytes of it that the cache holds
        # Lengths of _events and _workspaces when each running module began; then module, from where to where in both.
        self._entered: list[tuple[int, int]] = []
        self._ran: list[tuple[str, int, int, int, int]] = []

    def born(self, uid: int, nbytes: int, path: str) -> None:
        self._events.append((uid, nbytes))
        self._born[uid] = path

    def died(self, uid: int, nbytes: int) -> None:
        self._events.append((uid, -nbytes))

    def worked(self, uid: int, workspace: Workspace) -> None:
        """A kernel took ``workspace`` and gave it back."""
        self._workspaces[uid] = workspace
        self._events += [(uid, workspace.nbytes), (uid, -workspace.nbytes)]

    def hold(self, uid: int, nbytes: int) -> None:
        """The cache holds ``nbytes`` of a storage after the pass."""
        self._held[uid] = nbytes

    def entered(self) -> None:
        self._entered.append((len(self._events), len(self._workspaces)))

    def left(self, path: str) -> None:
        start, kernels = self._entered.pop()
        self._ran.append((path, start, len(self._events), kernels, len(self._workspaces)))

    def activity(self, built: Built) -> Activity:
        """The sums, of the complete model that ``built`` stands for."""
        rests = _Rests(built.folds, {uid: (self._born[uid], n - self._held[uid]) for uid, n in self._kept()})
        alive = 0
        births: set[int] = set()
        after: list[int] = []
        occupied: list[Occupied] = []
        allocations: list[tuple[int, int]] = []
        levels = [0]  # before the first event, and after each
        for uid, nbytes in self._events:
            born = nbytes >= 0
            levels.append(levels[-1])
            if not born and uid not in births:
                continue  # existed before the trace
            births.add(uid)
            held = self._held.get(uid)
            if held is not None:
                rest = built.times(self._born[uid]) * (abs(nbytes) - held)
                nbytes = rest if born else -rest
            if born and uid in self._workspaces:
                occupied.append(Occupied(len(after), alive - rests.early, self._workspaces[uid]))
            elif born:
                rests.run(self._born[uid], uid)
            alive += nbytes
            allocations.append((uid, nbytes))
            levels[-1] = alive - rests.early
            if born:
                after.append(levels[-1])
        spans = (Span(path, max(levels[first : last + 1]), *kernels) for path, first, last, *kernels in self._ran)
        return Activity(tuple(after), tuple(occupied), tuple(spans), tuple(allocations))

    def _kept(self) -> list[tuple[int, int]]:
        return [
            (uid, nbytes) for uid, nbytes in self._events if nbytes >= 0 and uid in self._held and uid in self._born
        ]


class _Rests:
    """What the cache keeps alive beyond what it holds, in a trace of some blocks of many.

    A traced block brings the rests of all blocks that it stands for at once. ``early`` is what of them is not there yet in the
    last of these, in which the most is alive. It is 0 where every block is traced.
    """

    def __init__(self, folds: tuple[Fold, ...], rests: dict[int, tuple[str, int]]) -> None:
        self._folds = folds
        self._rests = rests
        self._own: dict[tuple[int, int], int] = defaultdict(int)  # (fold, block) → bytes, of one such block
        for path, nbytes in rests.values():
            block = self._block(path)
            if block is not None:
                self._own[block] += nbytes
        self._counted: dict[int, int] = defaultdict(int)  # fold → bytes so far, of all that its traced blocks stand for
        self._running: tuple[int, int] | None = None
        self._before = self._here = 0
        self.early = 0

    def run(self, path: str, uid: int) -> None:
        """The storage ``uid`` is born in the module at ``path``."""
        if not any(self._own.values()):
            return
        block = self._block(path)
        if block != self._running:
            self._running, self._here = block, 0
            self._before = self._earlier(block) if block is not None else 0
        if block is None:
            self.early = 0
            return
        number, index = block
        if uid in self._rests:
            self._here += self._rests[uid][1]
            self._counted[number] += self._rests[uid][1] * self._folds[number].stands_for[index]
        self.early = self._counted[number] - self._before - self._here

    def _block(self, path: str) -> tuple[int, int] | None:
        for number, fold in enumerate(self._folds):
            index = block_index(fold, path)
            if index is not None:
                return number, index
        return None

    def _earlier(self, block: tuple[int, int]) -> int:
        """Rests of the blocks before the last one that ``block`` stands for."""
        number, index = block
        kinds = self._folds[number].kinds
        last = len(kinds) - 1 - kinds[::-1].index(index)
        return sum(self._own.get((number, kind), 0) for kind in kinds[:last])
