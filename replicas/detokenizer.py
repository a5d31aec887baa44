"""Tokens to text, piece by piece: each token costs the same however long the answer is.

A token is a fixed run of bytes (byte-level vocabularies store them as stand-in characters, byte-fallback ones as
`<0xE4>` tokens and `▁` for a space), so an answer is bytes through an incremental UTF-8 decoder: what could still
become a character waits, what cannot becomes U+FFFD. `StopFilter` then holds back whatever could be the beginning of a
stop string.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

Spelling: TypeAlias = Literal["byte_level", "byte_fallback"]

_FALLBACK_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _stand_ins() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _stand_ins()


def spelled(token: str, spelling: Spelling) -> bytes:
    """The bytes that a vocabulary's `token` stands for."""
    if spelling == "byte_level":
        # An added token may hold characters that stand for no byte: it is itself, as in the decoder of `tokenizers`.
        values = [_BYTE_OF.get(character) for character in token]
        return bytes(value for value in values if value is not None) if None not in values else token.encode()
    fallback = _FALLBACK_BYTE.fullmatch(token)
    return bytes([int(fallback[1], 16)]) if fallback else token.replace("▁", " ").encode()


class Detokenizer(Protocol):
    """The text of one answer, in order."""

    def push(self, token: int) -> str:
        """The characters that `token` completes; often none or several."""
        ...

    def flush(self) -> str:
        """U+FFFD if the answer ended within a character."""
        ...


class ByteDetokenizer:
    """Bytes of tokens to text. `is_space_stripped`: the first space is the vocabulary's, not the text's."""

    def __init__(self, bytes_of: Callable[[int], bytes], *, is_space_stripped: bool = False) -> None:
        self._bytes_of = bytes_of
        self._strip = is_space_stripped
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        piece = self._bytes_of(token)
        if self._strip and piece:
            self._strip = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class StopFilter:
    """Lets text through up to the first stop string, or to its end if it `keeps_stop`. The one that is complete first
    wins, of two the longer."""

    def __init__(self, stops: Sequence[str], *, keeps_stop: bool = False) -> None:
        self._keeps_stop = keeps_stop
        self._stops = tuple(stops)
        self._beginnings = frozenset(stop[0] for stop in stops)
        self._longest = max(map(len, stops), default=0)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """The text that is certain now, and the stop string if one is complete: nothing after it counts."""
        if not self._stops or not text:
            return text, None
        text = self._held + text
        # (end, start): the same answer gives the same cut, however its text is cut into pieces.
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self._held = ""
            end, start, stop = min(found)
            return text[: end if self._keeps_stop else start], stop
        cut = self._undecided(text)
        self._held = text[cut:]
        return text[:cut], None

    def flush(self) -> str:
        """What was held back; call it when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Where the longest tail starts that a stop string could begin with."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start] in self._beginnings and any(stop.startswith(text[start:]) for stop in self._stops):
                return start
        return len(text)
