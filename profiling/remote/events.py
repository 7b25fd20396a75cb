"""Server-sent events out of a stream of bytes, as they arrive. Written for measuring: it holds nothing back, and every event carries the
time at which its last byte was read.

Lines may be cut anywhere, also inside of a character; they end with LF, CR LF or CR (WHATWG HTML, "Server-sent events").
"""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

#: Characters of a line, and of the lines of one event together: a packed profile is one, of up to 10 MB.
MAX_LINE = 16 * 2**20
#: What a line of an event costs beside its characters: without it, an event of empty lines could grow on and on.
PER_LINE = 64
MAX_BYTES = 256 * 2**20


class BrokenStream(Exception):
    """The stream is not one of events, or larger than any answer is."""


@dataclass(frozen=True, slots=True)
class Event:
    """``data`` of an event, its lines joined, and ``at_ns`` of the clock when the read returned that completed it."""

    data: str
    at_ns: int
    kind: str = "message"


async def read_events(
    stream: AsyncIterator[bytes], now_ns: Callable[[], int] = time.perf_counter_ns, *, max_bytes: int = MAX_BYTES
) -> AsyncIterator[Event]:
    """Events of ``stream``. One that has begun when the stream ends counts too, as servers forget the last empty line.

    Raises :class:`BrokenStream` for lines and events over :data:`MAX_LINE`, more than ``max_bytes`` in all, and bytes that are not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest, total, size, first, held = "", 0, 0, True, False
    data: list[str] = []
    kind = "message"
    at = now_ns()

    def bounded(length: int) -> None:
        if length > MAX_LINE:
            raise BrokenStream(f"The answer has a line of more than {MAX_LINE // 2**20} MiB.")

    def field(line: str) -> None:
        nonlocal kind, size
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            size += len(value) + (PER_LINE if data else 0)
            bounded(size)
            data.append(value)
        elif name == "event":
            kind = value or "message"

    async for part in stream:
        at = now_ns()
        total += len(part)
        if total > max_bytes:
            raise BrokenStream(f"The answer is larger than {max_bytes // 2**20} MiB.")
        try:
            text = decoder.decode(part)
        except UnicodeDecodeError:
            raise BrokenStream("The answer is not UTF-8.") from None
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        rest += text
        if not held and "\n" not in text and "\r" not in text:
            bounded(len(rest))
            continue  # no line ends here: what has come of it is not looked through again for every few bytes
        # A CR at the end may be the first half of CR LF: it stays until more is known, unless it ends an event anyway.
        held = rest.endswith("\r")
        lines = (rest[:-1] if held else rest).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        rest = lines.pop() + ("\r" if held else "")
        for line in lines:
            if line:
                field(line)
                continue
            if data:
                yield Event("\n".join(data), at, kind)
            data, kind, size = [], "message", 0
    for line in rest.rstrip("\r").split("\r"):
        if line:
            field(line)
    if data:
        yield Event("\n".join(data), at, kind)
