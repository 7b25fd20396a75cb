"""Several prompts as batches of tokens: in their order, each batch padded to its longest prompt, nothing repeated or left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from profiling.loading import Inputs, stop_tokens, tokenized
from profiling.prompts import Batches
from profiling.spec import ModelSpec, SpecError, Workload


@dataclass(frozen=True)
class Prompts:
    """The prompts of a workload as tokens, and how they are put into batches. Needs no weights."""

    texts: tuple[str, ...]
    tokens: list[list[int]]
    tokenizer: Any
    chat_template: bool
    side: str
    batches: Batches

    def asked(self, workload: Workload) -> Workload:
        """``workload`` with the input of the largest batch, which estimates and instrumented passes are of."""
        return replace(workload, input_tokens=self.batches.shapes[self.batches.largest][1])

    def instrumented(self, workload: Workload) -> Workload:
        """``workload`` with the sequences of that batch: the last one may have fewer than were asked for."""
        return replace(workload, batch_size=self.batches.shapes[self.batches.largest][0])

    def inputs(self, loaded: Any, device: torch.device) -> list[Inputs]:
        """One batch after the other."""
        ends = stop_tokens(loaded, self.tokenizer)
        found, begin = [], 0
        for part in self.batches.parts:
            rows = self.tokens[begin : begin + len(part)]
            begin += len(part)
            ids, mask = padded(rows, self.side, self._filler(ends))
            mask = None if mask is None else mask.to(device)
            found.append(Inputs(ids.to(device), None, self.tokenizer, ends, self.chat_template, mask, part))
        return found

    def batch(self, requests: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """ids and mask of a batch of requests by their numbers, which go through the prompts again and again."""
        return padded([self.tokens[one % len(self.tokens)] for one in requests], self.side, self._filler(frozenset()))

    def cautions(self) -> Iterator[tuple[str, str]]:
        """Code and sentence of what was made of the prompts, where it is not plain."""
        batches = self.batches
        if batches.padding:
            yield (
                "padding",
                f"Prompts of different lengths share batches: {batches.padding:,} tokens of padding beside {sum(batches.lengths):,} of "
                "prompts. They are computed like any other; rates count the tokens of the prompts.",
            )
        if not batches.alike:
            rows, tokens = batches.shapes[batches.largest]
            yield (
                "batches_differ",
                f"The {len(batches.parts)} batches differ in shape, so times are over all of them and differ with the prompts too. Times "
                f"by module, memory and the estimates are of the largest batch ({rows} × {tokens} tokens); no error of an estimated time "
                "and no utilisation is given.",
            )

    def _filler(self, ends: frozenset[int]) -> int:
        given = getattr(self.tokenizer, "pad_token_id", None)
        return given if isinstance(given, int) else min(ends, default=0)


def read(model: ModelSpec, workload: Workload) -> Prompts:
    """The prompts of ``workload`` through the tokenizer of ``model``. Raises :class:`SpecError` at what cannot be made a batch of."""
    texts = workload.prompts or ()
    tokenizer, tokens, templated = tokenized(model, texts)
    empty = next((number for number, row in enumerate(tokens, 1) if not row), None)
    if empty is not None:
        raise SpecError("prompts", f"Prompt {empty} has no tokens. Write some text.")
    batches = Batches(tuple(len(row) for row in tokens), workload.batch_size)
    if batches.padding and model.kind == "ssm":
        message = (
            f"{model.name} keeps a state that padding would flow into, so prompts of different lengths cannot share a batch. "
            "Choose a batch size of 1."
        )
        raise SpecError("batch_size", message)
    side = "left" if model.kind == "decoder" else "right"
    return Prompts(texts, tokens, tokenizer, templated, side, batches)


def padded(rows: Sequence[Sequence[int]], side: str, filler: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """ids [rows, longest] and their mask; the mask is None where all rows are equally long."""
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return torch.tensor([list(row) for row in rows]), None
    ids, mask = [], []
    for row in rows:
        fill = longest - len(row)
        given, padding = list(row), [filler] * fill
        ids.append(padding + given if side == "left" else given + padding)
        mask.append([0] * fill + [1] * len(row) if side == "left" else [1] * len(row) + [0] * fill)
    return torch.tensor(ids), torch.tensor(mask)
