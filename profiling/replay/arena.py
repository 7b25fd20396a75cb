"""Memory for operators that are timed alone: hot tensors stay where they are, cold ones lie somewhere else at every call."""

from __future__ import annotations

import torch

from profiling.issued import Slot

CPU = torch.device("cpu")
#: The arena holds so many last-level caches: what comes round again was evicted long before.
CACHES = 4
#: Smallest arena in bytes: for hosts that do not say how large their cache is, or share it with others.
SMALLEST = 64 << 20
PAGE = 4096
#: Of a GPU, which has the memory: half of it is more than most weights, so that these have several places.
SMALLEST_OF_GPU = 512 << 20
#: Values repeat after so many elements; filling is then a copy.
_TILE = 1 << 16
#: Elements that are drawn at once on a GPU.
_DRAWN = 1 << 24


def arena_bytes(cache_bytes: int, device: torch.device = CPU) -> int:
    return max(CACHES * cache_bytes, SMALLEST_OF_GPU if device.type == "cuda" else SMALLEST)


def filled(elements: int, dtype: torch.dtype, device: torch.device = CPU) -> torch.Tensor:
    """One-dimensional (True, and zeros for whole numbers). On a processor normal numbers between 0.5 and 1, none of them slow because
    of its value; on a GPU, whose clock depends on how many bits change, drawn as weights are (normal distribution)."""
    if not dtype.is_floating_point:
        return torch.full((elements,), 1 if dtype == torch.bool else 0, dtype=dtype, device=device)
    if device.type == "cuda":
        return _drawn(elements, dtype, device)
    generator = torch.Generator().manual_seed(0)
    tile = (0.5 + 0.5 * torch.rand(min(_TILE, max(elements, 1)), generator=generator)).to(dtype)
    memory = torch.empty(elements, dtype=dtype)
    for begin in range(0, elements, _TILE):
        part = memory[begin : begin + _TILE]
        part.copy_(tile[: part.numel()])
    return memory


def _drawn(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(0)
    memory = torch.empty(elements, dtype=dtype, device=device)
    for begin in range(0, elements, _DRAWN):
        part = memory[begin : begin + _DRAWN]
        part.copy_(torch.randn(part.numel(), generator=generator, device=device))
    return memory


class Untouched:
    """In place of an arena, for one call that only has to be possible: memory that nobody has written to, most of which never exists."""

    def place(self, slot: Slot) -> torch.Tensor:
        return torch.empty(slot.extent, dtype=slot.dtype).as_strided(slot.shape, slot.stride)


class Arena:
    """Places for cold tensors of one dtype. Each is a view at the next page; one that does not fit has memory of its own."""

    def __init__(self, nbytes: int, device: torch.device = CPU) -> None:
        self._size = nbytes
        self._device = device
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
                if self._device.type == "cpu":
                    self._large = {}  # one at a time, so that memory stays bounded
                # Calls are made ready together on a GPU: what one call takes is bounded by the cap.
                self._large[key] = filled(slot.extent, slot.dtype, self._device)
            return self._large[key].as_strided(slot.shape, slot.stride)
        memory = self._memory.get(slot.dtype)
        if memory is None:
            memory = self._memory[slot.dtype] = filled(self._size // slot.dtype.itemsize, slot.dtype, self._device)
        if self._cursor + nbytes > self._size:
            self._cursor = 0
        begin = self._cursor // slot.dtype.itemsize
        # The page after it stays unused, or the hardware would have fetched the beginning of the next one.
        self._cursor += (nbytes + PAGE - 1) // PAGE * PAGE + PAGE
        return memory.as_strided(slot.shape, slot.stride, begin)

    def forget_large(self) -> None:
        self._large = {}
