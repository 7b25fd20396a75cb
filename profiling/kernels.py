"""Which operators of a trace become one kernel when they are fused, and so which tensors stay on chip. Pure functions.

Products, attention, experts, scans, convolutions and gathers are kernels of their own. Element-wise operators, copies and
reductions join the kernel that made what they read, as the compilers and the hand-written kernels of serving engines do:

- a normalisation with the residual addition before it is one kernel: what comes in, its weight and what goes out move once;
- so is a softmax with its scale and mask, and a causal depthwise convolution with its state and activation;
- a chain without a reduction rides along with the product before it (its epilogue). A reduction needs whole rows, which no
  product has in one place: then the product writes its result and the chain reads it once;
- a tensor that a later kernel reads again (a residual across a product) travels to memory and back.

Kernels run in the order in which they begin; an operator joins one only if everything it reads is there by then.

Repeated blocks are alike: none joins what runs once before all of them (a mask, the embedding), not even the first, and what they
all read each of them reads for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from profiling.recording import Call

_JOINS = ("elementwise", "copy", "reduction")
_CARRIES = ("matmul", "attention", "experts", "convolution", "scan", "gather")


@dataclass
class _Kernel:
    """A kernel being put together: places of its calls in the trace, what it reads, and what it is.

    ``alone``: a kernel of its own; ``block``: number of the repeated block in which it begins, if any; ``rows``: it needs whole
    rows; ``free``: it needs nothing that a kernel makes (constants).
    """

    calls: list[int]
    alone: bool
    block: int | None = None
    rows: bool = False
    free: bool = False
    reads: set[int] = field(default_factory=set)


def kernels(calls: Sequence[Call], apart: Collection[int] = (), blocks: Mapping[int, int] | None = None) -> list[int]:
    """Number of the kernel of each call; those with the same number are one kernel.

    ``apart``: indices of calls that are kernels of their own whatever they are (what grows a cache). ``blocks``: numbers of the
    repeated blocks, by index of the calls in them.
    """
    made: list[_Kernel] = []
    kernel_of: dict[int, int] = {}  # place of a call → kernel
    writer: dict[int, int] = {}  # storage → place of the call that wrote it last
    for place, call in enumerate(calls):
        joins = _may_join(call) and call.index not in apart
        sources = {kernel_of[writer[uid]] for uid, nbytes, _ in call.reads if nbytes and uid in writer}
        block = (blocks or {}).get(call.index)
        number = _joined(made, call, sources, block) if joins else None
        if number is None:
            number = len(made)
            free = joins and all(made[s].free for s in sources)
            made.append(_Kernel([], alone=not joins, block=block, free=free))
        kernel = made[number]
        for source in sources if joins else ():
            if source != number and made[source].free and not kernel.free and _may_follow(made[source], block):
                for moved in made[source].calls:
                    kernel_of[moved] = number
                kernel.calls += made[source].calls
                kernel.reads |= made[source].reads
                made[source].calls = []
        kernel.calls.append(place)
        kernel.rows |= _needs_rows(call)
        kernel.reads |= {uid for uid, nbytes, _ in call.reads if nbytes}
        kernel_of[place] = number
        writer.update((uid, place) for uid, _ in call.writes)
    _carry(calls, made, kernel_of)
    return [kernel_of[place] for place in range(len(calls))]


def on_chip(
    calls: Sequence[Call], kept: Collection[int], apart: Collection[int] = (), blocks: Mapping[int, int] | None = None
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Reads (index of the call, input) and writes (index, output) that never reach memory.

    ``kept``: storages that are written whoever reads them (cache, results). ``apart``, ``blocks``: see :func:`kernels`.
    A kernel that reads a tensor several times, or several parts of it, reads it once at most.
    """
    numbers = kernels(calls, apart, blocks)
    size: dict[int, int] = {}  # storage → most bytes of it that anyone touches at once
    for call in calls:
        for uid, nbytes in [(uid, nbytes) for uid, nbytes, _ in call.reads] + list(call.writes):
            size[uid] = max(size.get(uid, 0), nbytes)
    writer: dict[int, tuple[int, int]] = {}  # storage → (place, output)
    readers: dict[tuple[int, int], list[bool]] = {}
    taken: dict[tuple[int, int], int] = {}  # (kernel, storage) → bytes that it has read of it so far
    reads: set[tuple[int, int]] = set()
    for place, call in enumerate(calls):
        for position, (uid, nbytes, _) in enumerate(call.reads):
            if not nbytes:
                continue
            made = writer.get(uid)
            inside = made is not None and numbers[made[0]] == numbers[place]
            if made is not None:
                readers.setdefault(made, []).append(inside)
            total = taken.get((numbers[place], uid), 0) + nbytes
            if inside or (_may_join(call) and total > size[uid]):
                reads.add((call.index, position))
            else:
                taken[(numbers[place], uid)] = total
        for position, (uid, _) in enumerate(call.writes):
            writer[uid] = (place, position)
    writes = {
        (calls[place].index, position)
        for (place, position), inside in readers.items()
        if all(inside) and calls[place].writes[position][0] not in kept
    }
    return reads, writes


def _may_join(call: Call) -> bool:
    return call.op_class in _JOINS or _is_depthwise(call)


def _is_depthwise(call: Call) -> bool:
    """A convolution along the sequence with one channel in a group: a few products an element, and no weights to speak of."""
    return call.op_class == "convolution" and len(call.inputs[1].shape) == 3 and call.inputs[1].shape[1] == 1


def _needs_rows(call: Call) -> bool:
    return call.op_class in ("reduction", "convolution")


def _may_follow(kernel: _Kernel, block: int | None) -> bool:
    """May a call in ``block`` ride along with what ``kernel`` made? Not when that ran once, before all blocks."""
    return block is None or kernel.block is not None


def _joined(made: list[_Kernel], call: Call, sources: set[int], block: int | None) -> int | None:
    """The kernel that ``call`` joins: the last that made something for it, or a later one that reads the same tensor."""
    bound = {s for s in sources if not made[s].free} or sources
    last = max(bound, default=-1)
    if last >= 0 and not made[last].alone and _may_follow(made[last], block):
        return last
    wanted = {uid for uid, nbytes, source in call.reads if nbytes and source == "activation"}
    for number in range(len(made) - 1, last, -1):
        kernel = made[number]
        if not kernel.alone and not kernel.free and kernel.block == block and kernel.reads & wanted:
            return number
    return None


def _carry(calls: Sequence[Call], made: list[_Kernel], kernel_of: dict[int, int]) -> None:
    """Move chains without a reduction into the product that they follow."""
    writer: dict[int, int] = {}
    sources: dict[int, set[int]] = {}
    for place, call in enumerate(calls):
        mine = kernel_of[place]
        read = {kernel_of[writer[uid]] for uid, nbytes, _ in call.reads if nbytes and uid in writer}
        sources.setdefault(mine, set()).update(read - {mine})
        writer.update((uid, place) for uid, _ in call.writes)
    for number, kernel in enumerate(made):
        if kernel.alone or kernel.rows or not kernel.calls or not sources.get(number):
            continue
        last = max(sources[number])
        follows = made[last].alone and _may_follow(made[last], kernel.block)
        if follows and calls[made[last].calls[0]].op_class in _CARRIES:
            for place in kernel.calls:
                kernel_of[place] = last
