"""What the passes of one request have in work at a time (activations, scratch of kernels, logits), by the length of its prompt and answer.

Read off traces without weights, as in estimates (:meth:`profiling.recording.Recording.peak`). A trace takes a part of a second, which a request
should not wait for: sizes are known beforehand at lengths that double, and a request is held against the next of them, as longer passes have
more in work. Only a request that would not fit so is traced itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from profiling.build import Built
from profiling.passes import Pass, trace
from profiling.spec import SpecError

#: The first length. Requests below it are held against it.
SHORTEST = 512
#: Of models without a longest context, lengths up to this one are traced beforehand.
UNLIMITED = 8192


class WorkingMemory:
    """Of batch 1. ``threads``: of a processor, None for an accelerator. Sizes in bytes; None where a pass cannot be traced."""

    def __init__(self, built: Built, *, threads: int | None, logits: str) -> None:
        self._built, self._threads, self._logits = built, threads, logits
        self._known: dict[Pass, int | None] = {}

    def prepare(self) -> None:
        """Trace at every length that a request is held against."""
        length = SHORTEST
        while True:
            for one in self._passes(self._within(length), self._within(length)):
                self._size(one)
            if length >= (self._built.max_context or UNLIMITED):
                return
            length *= 2

    def at_most(self, prompt: int, answer: int) -> int | None:
        """Upper bound for ``prompt`` and ``answer`` tokens."""
        first, last = (self._within(_next(tokens)) for tokens in (prompt, self._longest(prompt, answer)))
        return self._largest(first, last)

    def exactly(self, prompt: int, answer: int) -> int | None:
        """The same, traced at these lengths themselves."""
        return self._largest(prompt, self._longest(prompt, answer))

    def _longest(self, prompt: int, answer: int) -> int:
        """Tokens that the last step attends to; an encoder's input is not in the decoder's context, so the longer of both stands for them."""
        return max(prompt, answer) if self._built.kind == "encdec" else prompt + answer

    def _within(self, tokens: int) -> int:
        return min(tokens, self._built.max_context or tokens)

    def _largest(self, prompt: int, last: int) -> int | None:
        sizes = [self._size(one) for one in self._passes(prompt, last)]
        known = [size for size in sizes if size is not None]
        return max(known) if len(known) == len(sizes) else None

    def _passes(self, prompt: int, last: int) -> Iterator[Pass]:
        """The pass over the prompt, and the step with the longest context."""
        if self._built.kind == "encdec":
            yield Pass("prefill", 1, 1, 0, prompt, self._logits)
            yield Pass("decode", 1, 1, max(1, last - 1), last)
        else:
            yield Pass("prefill", 1, prompt, 0, 0, self._logits)
            yield Pass("decode", 1, 1, max(1, last - 1))

    def _size(self, one: Pass) -> int | None:
        if one not in self._known:
            try:
                self._known[one] = trace(self._built, one).recording.peak(self._threads)
            except SpecError:
                self._known[one] = None
        return self._known[one]


def _next(tokens: int) -> int:
    """The next length, itself included, that doubling leads to."""
    length = SHORTEST
    while length < tokens:
        length *= 2
    return length
