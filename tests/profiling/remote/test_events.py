"""Events come out whole and in order wherever the stream is cut, and nothing unbounded is kept."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.remote import events
from profiling.remote.events import BrokenStream, read_events


def read(*parts: bytes, **options):
    async def stream():
        for part in parts:
            yield part

    async def go():
        return [event async for event in read_events(stream(), **options)]

    return asyncio.run(go())


def test_events_are_read_with_every_kind_of_line_end():
    for end in ("\n", "\r\n", "\r"):
        text = f": ping{end}data: a{end}data: b{end}{end}event: error{end}data:c{end}{end}id: 7{end}{end}data: last"
        found = read(text.encode())
        assert [(e.data, e.kind) for e in found] == [("a\nb", "message"), ("c", "error"), ("last", "message")]


@given(
    st.lists(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n"), min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.randoms(),
)
def test_cuts_change_nothing(texts, end, chance):
    whole = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.randrange(8)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert [event.data for event in read(*parts)] == texts


def test_an_event_has_the_time_of_the_read_that_completed_it():
    clock = iter(range(100))
    found = read(b"data: a\n", b"\ndata: b", b"\n\n", now_ns=lambda: next(clock))
    assert [(e.data, e.at_ns) for e in found] == [("a", 2), ("b", 3)]


def test_a_stream_without_end_or_of_other_bytes_is_broken(monkeypatch):
    with pytest.raises(BrokenStream, match="not UTF-8"):
        read(b"data: \xff\xfe\n\n")
    monkeypatch.setattr(events, "MAX_LINE", 1000)
    with pytest.raises(BrokenStream, match="line"):
        read(b"data: " + b"x" * 2000)
    with pytest.raises(BrokenStream, match="larger"):
        read(*[b"data: x\n\n"] * 300, max_bytes=2000)


def test_an_event_of_lines_without_end_is_broken_too(monkeypatch):
    monkeypatch.setattr(events, "MAX_LINE", 1000)
    with pytest.raises(BrokenStream, match="line"):
        read(*[b"data:\n"] * 300)
    assert [len(event.data) for event in read(*[b"data: " + b"x" * 600 + b"\n\n"] * 3)] == [600] * 3


def test_a_line_that_trickles_in_costs_no_more_than_its_length():
    """Looked through anew for each byte, it would keep this side busy for minutes, and with it every other stream."""
    begin = time.process_time()
    (event,) = read(b"data: ", *[b"x"] * 300_000, b"\n\n")
    assert len(event.data) == 300_000
    assert time.process_time() - begin < 5
