"""An answer's text as words and calls, however it is cut into pieces.

    WORDS --an opener--> CALLS --the JSON ends--> CLOSING --the closer, or anything else--> WORDS

White space beside a call belongs to the layout and is dropped; what turns out to be no call is given as the text that
it is. What could still become an opener or a closer waits, so `push` may return nothing for a while.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import TypeAlias

from replicas.engine import CallPiece
from replicas.tools.body import Body, CertainBody, ProvenBody
from replicas.tools.syntax import CallSyntax

Said: TypeAlias = str | CallPiece


class _State(Enum):
    WORDS = auto()
    CALLS = auto()
    CLOSING = auto()


class CallParser:
    """Reads one answer. `names` are the tools that were offered; `is_certain`: a grammar has shaped the answer, and
    `is_only_calls`: it allowed nothing else."""

    def __init__(
        self, syntax: CallSyntax, names: Sequence[str], *, is_certain: bool, is_only_calls: bool = False
    ) -> None:
        self._syntax = syntax
        self._names = tuple(names)
        self._is_certain = is_certain
        self._is_only_calls = is_certain and is_only_calls
        self._openers = tuple(filter(None, (syntax.opener, *syntax.also_opens)))
        self._state = _State.WORDS
        self._text = ""
        self._opening = ""
        self._body: Body | None = None
        self._index = 0
        self._has_spoken = False
        self._follows_call = False
        self._is_ended = False

    def push(self, text: str) -> list[Said]:
        """What is certain now, in order."""
        self._text += text
        said: list[Said] = []
        while self._step(said):
            pass
        return said

    def flush(self, *, is_cut: bool = False) -> list[Said]:
        """What was held back; call it when no more text comes. Of an answer that `is_cut` short, what could only have
        become a call is no text."""
        self._is_ended = True
        said = self.push("")
        if is_cut and self._is_within_calls():
            self._text = ""
            return said
        if self._state is _State.CALLS and self._body is not None:
            self._text = self._opening + self._body.end()
        if not (self._follows_call and not self._text.strip()):
            self._say(self._text, said)
        self._text = ""
        return said

    def _is_within_calls(self) -> bool:
        """Whether the grammar allows nothing but calls here."""
        has_opened = isinstance(self._body, CertainBody) and bool(self._opening.strip())
        return self._is_only_calls or (self._is_certain and (has_opened or self._follows_call))

    def _step(self, said: list[Said]) -> bool:
        """One transition; whether another one may be possible."""
        if self._state is _State.WORDS:
            return self._words(said)
        return self._calls(said) if self._state is _State.CALLS else self._close()

    def _words(self, said: list[Said]) -> bool:
        found = self._find_opener()
        if found is not None:
            start, length = found
            words = self._text[:start].rstrip()
            self._say(words, said)
            self._opening, self._text = self._text[len(words) : start + length], self._text[start + length :]
            is_certain = self._is_certain and self._opening.lstrip() == self._syntax.opener
            make = CertainBody if is_certain else ProvenBody
            self._body, self._state = make(self._syntax, self._names, self._index), _State.CALLS
            return True
        cut = self._undecided()
        if cut:
            self._say(self._text[:cut], said)
            self._text = self._text[cut:]
        return False

    def _calls(self, said: list[Said]) -> bool:
        assert self._body is not None
        text, self._text = self._text, ""
        read = self._body.push(text)
        if read.pieces:
            said += read.pieces
            self._opening, self._has_spoken, self._follows_call = "", True, True
        if read.rest is None:
            return False
        self._index, self._body, self._text = self._body.index, None, read.rest
        self._state = _State.CLOSING if read.words is None else _State.WORDS
        if read.words is not None:
            words = self._opening + read.words or self._text[:1]
            if not self._opening and not read.words:
                self._text = self._text[1:]  # else the same brace would open again
            self._say(words, said)
        return True

    def _close(self) -> bool:
        closer = self._syntax.closer
        ahead = self._text.lstrip()
        if closer and closer.startswith(ahead) and ahead != closer and not self._is_ended:
            return False
        if closer and ahead.startswith(closer):
            self._text = ahead[len(closer) :]
        self._state = _State.WORDS
        return True

    def _find_opener(self) -> tuple[int, int] | None:
        """Where the first opener is and how long; for a syntax without, a brace that begins the answer or its next
        call is one of length 0."""
        found = [(at, len(opener)) for opener in self._openers if (at := self._text.find(opener)) >= 0]
        if not self._syntax.opener and (not self._has_spoken or self._follows_call):
            ahead = self._text.lstrip()
            if ahead.startswith("{"):
                found.append((len(self._text) - len(ahead), 0))
        return min(found, default=None)

    def _undecided(self) -> int:
        """How much of the text is words whatever follows: not the white space at its end, nor half an opener."""
        if self._is_ended:
            return 0
        end = len(self._text)
        for opener in self._openers:
            for start in range(max(0, len(self._text) - len(opener) + 1), len(self._text)):
                if opener.startswith(self._text[start:]):
                    end = min(end, start)
                    break
        return len(self._text[:end].rstrip())

    def _say(self, text: str, said: list[Said]) -> None:
        if text:
            said.append(text)
            self._has_spoken, self._follows_call = True, False
