"""Memory for operators that are timed alone: hot tensors stay where they are, cold ones lie somewhere else at every call."""

from __future__ import annotations

import torch

from profiling.issued import Slot

#: The arena holds so many last-level caches: what comes round again was evicted long before.
CACHES = 4
#: Smallest arena in bytes: for hosts that do not say how large their cache is, or share it with others.
SMALLEST = 64 << 20
PAGE = 4096
#: Values repeat after so many elements; filling is then a copy.
_TILE = 1 << 16


def arena_bytes(cache_bytes: int) -> int:
    return max(CACHES * cache_bytes, SMALLEST)


def filled(elements: int, dtype: torch.dtype) -> torch.Tensor:
    """One-dimensional, of normal numbers between 0.5 and 1 (True, and zeros for whole numbers): none is slow because of its value."""
    if not dtype.is_floating_point:
        return torch.full((elements,), 1 if dtype == torch.bool else 0, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    tile = (0.5 + 0.5 * torch.rand(min(_TILE, max(elements, 1)), generator=generator)).to(dtype)
    memory = torch.empty(elements, dtype=dtype)
    for begin in range(0, elements, _TILE):
        part = memory[begin : begin + _TILE]
        part.copy_(tile[: part.numel()])
    return memory


class Arena:
    """Places for cold tensors of one dtype. Each is a view at the next page; one that does not fit has memory of its own."""

    def __init__(self, nbytes: int) -> None:
        self._size = nbytes
        self._memory: dict[torch.dtype, torch.Tensor] = {}
        self._large: dict[tuple[torch.dtype, int], torch.Tensor] = {}
        self._cursor = 0

    def place(self, slot: Slot) -> torch.Tensor:
        """A tensor of the form of ``slot`` in memory that was not touched while the arena was gone through once.

        A tensor larger than half of the arena evicts itself: it has one place.
        """
        nbytes = slot.nbytes
        if 2 * nbytes > self._size:
            key = (slot.dtype, slot.extent)
            if key not in self._large:
                self._large = {key: filled(slot.extent, slot.dtype)}  # one at a time, so that memory stays bounded
            return self._large[key].as_strided(slot.shape, slot.stride)
        memory = self._memory.get(slot.dtype)
        if memory is None:
            memory = self._memory[slot.dtype] = filled(self._size // slot.dtype.itemsize, slot.dtype)
        if self._cursor + nbytes > self._size:
            self._cursor = 0
        begin = self._cursor // slot.dtype.itemsize
        # The page after it stays unused, or the hardware would have fetched the beginning of the next one.
        self._cursor += (nbytes + PAGE - 1) // PAGE * PAGE + PAGE
        return memory.as_strided(slot.shape, slot.stride, begin)

    def forget_large(self) -> None:
        self._large = {}
