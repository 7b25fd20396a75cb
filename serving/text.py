"""The text of tokens as they come. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: What a decoder writes where the bytes of a character are not all there yet.
HALF = "\N{REPLACEMENT CHARACTER}"


class Pieces:
    """What each token adds to the text. A token whose character is not whole yet adds nothing, the one that ends it adds it all."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = self._shown = (
            0  # the text of ids[window:shown] is known; a word is decoded with the one before it
        )
        self.text = ""

    def add(self, token: int) -> str:
        self._ids.append(token)
        before, now = self._decode(self._ids[self._window : self._shown]), self._decode(self._ids[self._window :])
        if len(now) <= len(before) or now.endswith(HALF):
            return ""
        self._window, self._shown = self._shown, len(self._ids)
        piece = now[len(before) :]
        self.text += piece
        return piece

    def rest(self, whole: str) -> str:
        """What is missing of the ``whole`` text when no more tokens come."""
        if not whole.startswith(self.text):
            return ""
        piece, self.text = whole[len(self.text) :], whole
        return piece
