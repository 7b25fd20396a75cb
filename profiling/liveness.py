"""Which bytes of activations are alive when: births and deaths of storages in the order of a trace, and what they add up to.

What ends up in the cache is no activation. Where the cache holds a part of a storage (the window of a longer sequence) it keeps the
rest alive too, and that is one; blocks that are not traced keep theirs as well, each from its turn in the complete model on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from profiling.build import Built, Fold, block_index
from profiling.recording import Allocation, Occupied, Span
from profiling.workspace import Workspace


@dataclass(frozen=True)
class Activity:
    """What a timeline adds up to, as :class:`profiling.recording.Recording` keeps it."""

    alive: tuple[int, ...]
    occupied: tuple[Occupied, ...]
    spans: tuple[Span, ...]
    allocations: tuple[Allocation, ...]


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
        allocations: list[Allocation] = []
        levels = [0]  # before the first event, and after each
        for uid, nbytes in self._events:
            born = nbytes >= 0
            levels.append(levels[-1])
            if not born and uid not in births:
                continue  # existed before the trace
            births.add(uid)
            if born and uid in self._workspaces:
                occupied.append(Occupied(len(after), alive, self._workspaces[uid]))
            elif born:
                changes = rests.run(self._born[uid], uid)
                allocations += [Allocation(*change, birth=False) for change in changes]
                alive += sum(change for _, change in changes)
            if uid in self._held:
                nbytes = 0  # what the cache does not hold of it is among the rests
            alive += nbytes
            allocations.append(Allocation(uid, nbytes, birth=born))
            levels[-1] = alive
            if born:
                after.append(alive)
        spans = (Span(path, max(levels[first : last + 1]), *kernels) for path, first, last, *kernels in self._ran)
        return Activity(tuple(after), tuple(occupied), tuple(spans), tuple(allocations))

    def _kept(self) -> list[tuple[int, int]]:
        return [
            (uid, nbytes) for uid, nbytes in self._events if nbytes >= 0 and uid in self._held and uid in self._born
        ]


class _Rests:
    """What the cache keeps alive beyond what it holds, in a trace of some blocks of many.

    While a traced block runs, it is the last of those that it stands for, in which the most is alive: every block before that one
    has left its rests, of whatever kind it is and whether it was traced yet or not. After the blocks all have.
    """

    def __init__(self, folds: tuple[Fold, ...], rests: dict[int, tuple[str, int]]) -> None:
        self._folds = folds
        self._sizes = {uid: nbytes for uid, (_, nbytes) in rests.items() if nbytes}
        self._blocks = {uid: self._block(rests[uid][0]) for uid in self._sizes}
        self._copies = dict.fromkeys(self._sizes, 0)  # that are alive now
        self._born: set[int] = set()
        self._running: tuple[int, int] | None = None

    def run(self, path: str, uid: int) -> list[tuple[int, int]]:
        """The storage ``uid`` is born in the module at ``path``: (rest, bytes more or fewer of it) by then."""
        if not self._sizes:
            return []
        block = self._block(path)
        if block == self._running and uid not in self._sizes:
            return []
        self._running = block
        self._born.add(uid)
        changes = []
        for rest, copies in self._now().items():
            if copies != self._copies[rest]:
                changes.append((rest, (copies - self._copies[rest]) * self._sizes[rest]))
                self._copies[rest] = copies
        return changes

    def _now(self) -> dict[int, int]:
        """Rest → how many blocks have left it."""
        earlier: Counter[int] = Counter()
        if self._running is not None:
            number, index = self._running
            kinds = self._folds[number].kinds
            earlier.update(kinds[: len(kinds) - 1 - kinds[::-1].index(index)])
        found = {}
        for rest, block in self._blocks.items():
            born = rest in self._born
            if block is None:
                found[rest] = int(born)
            elif self._running is None or self._running[0] != block[0]:
                found[rest] = self._folds[block[0]].stands_for[block[1]] if born else 0
            else:
                found[rest] = earlier[block[1]] + int(born and block == self._running)
        return found

    def _block(self, path: str) -> tuple[int, int] | None:
        for number, fold in enumerate(self._folds):
            index = block_index(fold, path)
            if index is not None:
                return number, index
        return None
