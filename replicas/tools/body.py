"""The JSON of calls, read piece by piece in two ways.

Where a grammar has shaped the answer, `CertainBody` follows the very words that the grammar dictates and hands on
arguments as they come. Elsewhere anything may come, so `ProvenBody` waits for the end of the JSON and gives its calls
only if they are calls of tools that were offered. A brace within a string counts for nothing in either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic_core import from_json

from replicas.engine import CallPiece
from replicas.tools.syntax import CallSyntax
from replicas.tools.tool import JsonObject, written


@dataclass(frozen=True, slots=True)
class Read:
    """What a piece of text has brought: pieces that are certain; `rest`, the text behind the JSON, once that is over.
    `words` is what turned out to be no call; None while nothing did."""

    pieces: tuple[CallPiece, ...] = ()
    rest: str | None = None
    words: str | None = None


class Body(Protocol):
    """The calls of one block. `index` counts the calls of the answer."""

    index: int

    def push(self, text: str) -> Read:
        """What `text` brings."""
        ...

    def end(self) -> str:
        """The answer is over before the JSON was: what of it no piece has told."""
        ...


class ValueEnd:
    """Finds the end of a JSON object or array that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = False
        self._is_escaped = False

    def push(self, text: str) -> int | None:
        """How much of `text` belongs to the value, if it ends within."""
        for i, character in enumerate(text):
            if self._is_string:
                self._in_string(character)
            elif character == '"':
                self._is_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return i + 1
        return None

    def _in_string(self, character: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif character == "\\":
            self._is_escaped = True
        elif character == '"':
            self._is_string = False


class CertainBody:
    """Calls as the grammar writes them: a head with the name, arguments, `}`; in lists `, ` and the next, or `]`."""

    def __init__(self, syntax: CallSyntax, names: Sequence[str], index: int) -> None:
        self.index = index
        heads = {syntax.head(name): name for name in names}
        opening = f"{syntax.gap}[" if syntax.is_list else syntax.gap
        self._expected: dict[str, str | None] = {opening + head: name for head, name in heads.items()}
        self._following: dict[str, str | None] = {"}]" if syntax.is_list else "}": None}
        if syntax.is_list:
            self._following |= {f"}}, {head}": name for head, name in heads.items()}
        self._text = ""
        self._value: ValueEnd | None = None

    def push(self, text: str) -> Read:
        self._text += text
        pieces: list[CallPiece] = []
        while self._text:
            if self._value is not None:
                pieces.append(self._argument(self._value))
                continue
            told = next((word for word in self._expected if self._text.startswith(word)), None)
            if told is None:
                if any(word.startswith(self._text) for word in self._expected):
                    break
                return Read(tuple(pieces), self._text, words="")
            self._text, name = self._text[len(told) :], self._expected[told]
            if name is None:
                return Read(tuple(pieces), self._text)
            pieces.append(CallPiece(self.index, name))
            self._value = ValueEnd()
        return Read(tuple(pieces))

    def end(self) -> str:
        return self._text

    def _argument(self, value: ValueEnd) -> CallPiece:
        end = value.push(self._text)
        piece = CallPiece(self.index, arguments=self._text[:end])
        self._text = "" if end is None else self._text[end:]
        if end is not None:
            self._value, self._expected = None, self._following
            self.index += 1
        return piece


class ProvenBody:
    """Calls in any order of members and any spacing, given when they are whole."""

    def __init__(self, syntax: CallSyntax, names: Sequence[str], index: int) -> None:
        self.index = index
        self._names = frozenset(names)
        self._value = ValueEnd()
        self._space = ""
        self._parts: list[str] = []

    def push(self, text: str) -> Read:
        if not self._parts:
            ahead = (self._space + text).lstrip()
            self._space = (self._space + text)[: len(self._space + text) - len(ahead)]
            if ahead and ahead[0] not in "{[":
                return Read(rest=self._space + ahead, words="")
            text = ahead
        if not text:
            return Read()
        end = self._value.push(text)
        self._parts.append(text[:end])
        return Read() if end is None else self._ended("".join(self._parts), text[end:])

    def end(self) -> str:
        return self._space + "".join(self._parts)

    def _ended(self, text: str, rest: str) -> Read:
        try:
            value: object = from_json(text, allow_inf_nan=False)
        except ValueError:
            return Read(rest=rest, words=self._space + text)
        found = [self._call(one) for one in (value if isinstance(value, list) else [value])]
        calls = [call for call in found if call is not None]
        if not calls or len(calls) < len(found):
            return Read(rest=rest, words=self._space + text)
        pieces: list[CallPiece] = []
        for name, arguments in calls:
            pieces += [CallPiece(self.index, name), CallPiece(self.index, arguments=written(arguments))]
            self.index += 1
        return Read(tuple(pieces), rest)

    def _call(self, value: object) -> tuple[str, JsonObject] | None:
        """The name and arguments of a call; None for what is none. Some models put both into a `function`."""
        if not isinstance(value, dict):
            return None
        inner = value.get("function")
        call = inner if isinstance(inner, dict) else value
        name, arguments = call.get("name"), call.get("arguments", call.get("parameters", {}))
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
            return None
        return name, arguments
