"""What the predictor sees of a request: counts and marks of what the user said last, and hashed pieces of its words.

Whole numbers only, no text. They are written in one short line, which the journal keeps of requests that are not
private. What a trait is must not change under a number of SCHEMA: a model is good only for the traits that it learned.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from router.call import Call
from router.policy.features import last_words, tokens_in
from router.policy.language import is_code, language_of

SCHEMA = 1
TRAITS = "traits"
"""The feature of a journal's entry that holds them."""

HEAD_CHARS, TAIL_CHARS = 1000, 500
"""What is read of a long text, about a millisecond: what is asked stands at its beginning or at its end."""

GRAMS = 128
"""Buckets of words and pairs of words; more make a larger model file, and need more examples."""

GRAM_WORDS = 256
MOST = 10**9
"""A count is never more: a caller may ask for any number of tokens."""

QUESTION_WORDS = ("what", "which", "who", "when", "where", "how", "why")

_WORD = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"\d+")
_OPERATOR = re.compile(r"(?<=[\d\s)])[-+*/%^=<>\u00d7\u00f7](?=[\d\s(])")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_QUOTE = re.compile(r"[\"“”«»]")
_JSON = re.compile(r"(?i)\bjson\b|[{\[]\s*\"")
_LIST = re.compile(r"(?i)\b(?:lists?|bullets?|table|csv|comma[- ]separated|steps)\b")
_CHOICE = re.compile(r"(?i)\b(?:yes or no|true or false|one of|one word|choose|classify|category|label)\b")


@dataclass(frozen=True, slots=True)
class _Text:
    """A text, its words in lower case, and the language it begins in."""

    text: str
    words: tuple[str, ...]
    language: str

    @classmethod
    def of(cls, call: Call) -> "_Text":
        said = last_words(call)
        if len(said) > HEAD_CHARS + TAIL_CHARS:
            said = f"{said[:HEAD_CHARS]}\n{said[-TAIL_CHARS:]}"
        return cls(said, tuple(_WORD.findall(said.lower())), language_of(said))


_OF_TEXT: dict[str, Callable[[_Text], int]] = {
    "chars": lambda one: len(one.text),
    "words": lambda one: len(one.words),
    "capitals": lambda one: sum(map(str.isupper, one.text)),
    "digits": lambda one: sum(map(str.isdigit, one.text)),
    "numbers": lambda one: len(_NUMBER.findall(one.text)),
    "longest_number": lambda one: max(map(len, _NUMBER.findall(one.text)), default=0),
    "longest_word": lambda one: max(map(len, one.words), default=0),
    "operators": lambda one: len(_OPERATOR.findall(one.text)),
    "questions": lambda one: one.text.count("?"),
    "lines": lambda one: one.text.count("\n"),
    "items": lambda one: len(_ITEM.findall(one.text)),
    "quotes": lambda one: len(_QUOTE.findall(one.text)),
    "code": lambda one: is_code(one.text),
    "json": lambda one: _JSON.search(one.text) is not None,
    "list": lambda one: _LIST.search(one.text) is not None,
    "choice": lambda one: _CHOICE.search(one.text) is not None,
    "english": lambda one: one.language == "en",
    "undetermined": lambda one: one.language == "und",
}
_OF_CALL: dict[str, Callable[[Call], int]] = {
    "prompt_tokens": tokens_in,
    "turns": lambda call: len(call.messages),
    "answer_tokens": lambda call: call.sampling.max_tokens,
    "tools": lambda call: len(call.tools),
    "call_required": lambda call: call.tool_choice.mode in ("required", "named"),
    "form": lambda call: call.grammar is not None,
    "image": lambda call: call.has_image,
    "system": lambda call: any(message.role == "system" for message in call.messages),
}
NAMES = (*_OF_TEXT, *(f"asks_{word}" for word in QUESTION_WORDS), *_OF_CALL)
"""The counts and marks, in their order; a mark is 0 or 1."""


@dataclass(frozen=True, slots=True)
class Traits:
    """`counts` go with NAMES; `grams` are the buckets, ascending, that some word or pair of words fell into."""

    counts: tuple[int, ...]
    grams: tuple[int, ...]

    @property
    def line(self) -> str:
        """As the journal keeps them."""
        bits = sum(1 << gram for gram in self.grams)
        return f"{SCHEMA}:{' '.join(map(str, self.counts))}:{bits:x}"

    @classmethod
    def of_line(cls, line: str) -> "Traits | None":
        """What `line` says; None if it is of another schema, or nothing of the kind."""
        schema, _, rest = line.partition(":")
        counts, found, bits = rest.partition(":")
        if schema != str(SCHEMA) or not found:
            return None
        try:
            told, kept = tuple(map(int, counts.split())), int(bits, 16)
        except ValueError:
            return None
        if len(told) != len(NAMES) or min(told) < 0 or max(told) > MOST or not 0 <= kept < 1 << GRAMS:
            return None
        return cls(told, tuple(gram for gram in range(GRAMS) if kept >> gram & 1))


def traits_of(call: Call) -> Traits:
    """The traits of `call`. Never of a private one that would be kept: the caller sees to that."""
    text = _Text.of(call)
    said = frozenset(text.words)
    counts = (
        *(int(read(text)) for read in _OF_TEXT.values()),
        *(int(word in said) for word in QUESTION_WORDS),
        *(int(read(call)) for read in _OF_CALL.values()),
    )
    return Traits(tuple(min(count, MOST) for count in counts), _grams(text.words[:GRAM_WORDS]))


def _grams(words: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers are all alike here: how long they are is a count."""
    alike = ["#" if word[0].isdigit() else word for word in words]
    pairs = (f"{first} {second}" for first, second in pairwise(alike))
    return tuple(sorted({zlib.crc32(gram.encode()) % GRAMS for gram in (*alike, *pairs)}))
