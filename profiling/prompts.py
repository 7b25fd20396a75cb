"""Several prompts of one measurement: a file of them, and the batches that they are put into. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiling.spec import SpecError

#: Bounds of a prompt file; a prompt alone may have as many characters as the file has bytes.
MAX_BYTES, MAX_PROMPTS, MAX_CHARACTERS = 1_000_000, 1_000, 200_000
JSON_LINES = (".jsonl", ".ndjson")
#: Keys under which a line's object may have its prompt.
KEYS = ("prompt", "text")


def read_file(path: Path, at: str = "prompt_file") -> list[str]:
    """The prompts of a file; see :func:`parse`. Raises :class:`SpecError` at ``at``."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(at, f"{path.name} cannot be read: {error.strerror or 'unknown reason'}.") from None
    return parse(content, path.name, at)


def parse(content: bytes, name: str, at: str = "prompt_file") -> list[str]:
    """The prompts of a file by its name: JSON lines (.jsonl, .ndjson) with one prompt each, any other file is one prompt as a whole.

    A line is a string, or an object with ``prompt`` or ``text``; empty lines are skipped. Raises :class:`SpecError` at ``at`` with what is
    wrong and where.
    """
    if len(content) > MAX_BYTES:
        raise SpecError(
            at, f"The file has more than {MAX_BYTES:,} bytes, and that many are taken. Choose a smaller one."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"The file is not text in UTF-8: line {line} has a byte that is none (number {error.start + 1:,} of the file)."
        raise SpecError(at, message) from None
    if name.lower().endswith(JSON_LINES):
        return checked(_lines(text, at), at)
    return checked([text], at)


def _lines(text: str, at: str) -> list[str]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise SpecError(
                at, f"Line {number} is not JSON. Each line is one prompt: a string, or an object."
            ) from None
        if isinstance(value, dict):
            value = next((value[key] for key in KEYS if key in value), None)
        if not isinstance(value, str):
            message = f"Line {number} has no prompt: write a string, or an object with “prompt” or “text”."
            raise SpecError(at, message)
        found.append(value)
    return found


def to_lines(prompts: Sequence[str]) -> str:
    """JSON lines that :func:`parse` reads back."""
    return "".join(json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts)


def checked(prompts: Any, at: str = "prompts") -> list[str]:
    """The prompts as a list. Raises :class:`SpecError` at ``at`` when they are too many, too long, empty or no text."""
    if not isinstance(prompts, (list, tuple)) or not all(isinstance(prompt, str) for prompt in prompts):
        raise SpecError(at, "Prompts are a list of texts.")
    if not prompts:
        raise SpecError(at, "There is no prompt in it.")
    if len(prompts) > MAX_PROMPTS:
        raise SpecError(at, f"There are {len(prompts):,} prompts; at most {MAX_PROMPTS:,} are taken.")
    if sum(len(prompt.encode("utf-8", "surrogatepass")) for prompt in prompts) > MAX_BYTES:
        raise SpecError(at, f"The prompts have more than {MAX_BYTES:,} bytes together, and that many are taken.")
    for number, prompt in enumerate(prompts, 1):
        where = f"Prompt {number}" if len(prompts) > 1 else "The prompt"
        if not prompt.strip():
            raise SpecError(at, f"{where} is empty.")
        if len(prompt) > MAX_CHARACTERS:
            raise SpecError(at, f"{where} has {len(prompt):,} characters; {MAX_CHARACTERS:,} fit.")
        if "\x00" in prompt or any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise SpecError(at, f"{where} has characters that are no text (a zero character or half a surrogate pair).")
    return list(prompts)


@dataclass(frozen=True)
class Batches:
    """How prompts of ``lengths`` tokens are put into batches: in order, the last one may be smaller; each is padded to its longest."""

    lengths: tuple[int, ...]
    size: int

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """Lengths of each batch."""
        return [self.lengths[begin : begin + self.size] for begin in range(0, len(self.lengths), self.size)]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(sequences, tokens of each with its padding) of each batch."""
        return [(len(part), max(part)) for part in self.parts]

    @property
    def padding(self) -> int:
        """Tokens of padding in all batches together."""
        return sum(rows * longest for rows, longest in self.shapes) - sum(self.lengths)

    @property
    def alike(self) -> bool:
        """Whether all batches have one shape, so that their times are repetitions of the same work."""
        return len(set(self.shapes)) == 1

    @property
    def largest(self) -> int:
        """The batch with the most tokens: passes with instruments, and the estimates, are of it."""
        sizes = [rows * longest for rows, longest in self.shapes]
        return sizes.index(max(sizes))

    def describe(self, side: str) -> dict[str, Any]:
        """As the run document has it."""
        return {
            "prompts": len(self.lengths),
            "prompt_tokens": list(self.lengths),
            "batches": [{"sequences": rows, "tokens": longest} for rows, longest in self.shapes],
            "padding_tokens": self.padding,
            "padding_side": side if self.padding else None,
            "same_shape": self.alike,
            "instrumented": self.largest,
        }
