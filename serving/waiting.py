"""The requests that wait for the model, in their order. Whoever gives up leaves at once, and their place with them. Standard library only."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(Exception):
    """So many wait already; ``waiting`` says how many."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} wait already")
        self.waiting = waiting


class Line(Generic[T]):
    """Filled by many threads, emptied by one. Items are told apart by identity. ``most``: how many may wait beside the one that was taken
    and is not :meth:`done`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._busy = self._closed = False

    def add(self, items: Sequence[T]) -> None:
        """A place for each of ``items``, or for none. Raises :class:`Full`."""
        with self._changed:
            waiting = len(self._items)
            at_once = not self._busy and not waiting  # the first of them waits for nobody
            if waiting + len(items) - at_once > self._most:
                raise Full(waiting)
            self._items.extend(items)
            self._changed.notify()

    def remove(self, item: T) -> bool:
        """Take ``item`` out of the line; false where it is not in it any more."""
        with self._changed:
            for place, one in enumerate(self._items):
                if one is item:
                    del self._items[place]
                    return True
        return False

    def take(self) -> T | None:
        """The next one, as soon as there is one; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if self._closed:
                return None
            self._busy = True
            return self._items.popleft()

    def done(self) -> None:
        """What was taken last is ready."""
        with self._changed:
            self._busy = False

    def close(self) -> None:
        """Nothing more is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def rest(self) -> list[T]:
        """What nobody took."""
        with self._changed:
            found = list(self._items)
            self._items.clear()
        return found
