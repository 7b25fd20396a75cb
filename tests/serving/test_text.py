"""The pieces of a stream are the whole text, however its characters are cut into tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.text import HALF, Pieces


def utf8(ids):
    """A tokenizer whose tokens are bytes: characters are cut in the middle."""
    return bytes(ids).decode("utf-8", "replace")


@given(st.text())
def test_pieces_add_up_to_the_text(text):
    pieces = Pieces(utf8)
    found = [pieces.add(byte) for byte in text.encode()]
    found.append(pieces.rest(text))
    assert "".join(found) == text
    if HALF not in text:
        assert HALF not in "".join(found)


def test_a_character_comes_with_its_last_byte():
    pieces = Pieces(utf8)
    assert [pieces.add(byte) for byte in "aé🙂".encode()] == ["a", "", "é", "", "", "", "🙂"]


def test_words_that_are_joined_by_spaces_keep_them():
    words = ["what", "is", "this"]
    pieces = Pieces(lambda ids: " ".join(words[number] for number in ids))
    assert [pieces.add(number) for number in range(3)] == ["what", " is", " this"]
    assert pieces.rest("what is this") == ""
    assert pieces.rest("something else") == "", "what was sent cannot be taken back"
