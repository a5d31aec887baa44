"""How many tokens a request is at most, whoever counts them: no less may be held for it than it can cost.

A token of a text covers at least a byte of it. That holds for byte-level BPE, and for SentencePiece that counts unknown
letters by the byte; both may first bring a text into a normal form, which can be longer. Services word tools and calls
as JSON or by marks of their own, put marks round every turn, and say things before the first. Pictures and files are
reckoned by the piece: those by address have some bytes here and thousands of tokens there, others the reverse.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from unicodedata import normalize

from replicas.cloud.fields import Fields, fields, objects, text
from replicas.cloud.release import CloudKind, Draft
from router.body import parsed_json

OWN_TOKENS = 1_000
"""Of what services say before a prompt: how tools are called, dates, a system prompt where there is none. The longest
that their papers name has some 500."""
MARK_TOKENS = 4
"""Round each value, beside its own text: what begins and ends a turn, and the signs and blanks of JSON."""
BRACKET_TOKENS = 2
"""Of a list or an object, beside those round it."""
TYPED_TOOL_TOKENS = 1_500
"""Of a tool that has a type in the place of a definition: 735 and 499 more for a screen, by Anthropic's own papers."""
PICTURE_TOKENS: Mapping[CloudKind, int] = {"anthropic": 5_000, "openai": 50_000}
"""Of a picture: 4,784 by Anthropic's formula for the largest that it does not scale down; 48,169 by OpenAI's, where
gpt-4o-mini counts the dearest."""
FILE_TOKENS = 200_000
"""Of a document, a recording or a film: as much as most models can read at all. So is what is around a text that is to
be cited, of which each sentence has marks."""
LIKELY_BYTES = 2
"""Of a body, for each of its tokens, where nobody is refused for them: prose has four, few texts less than two."""

DEFINED = frozenset({"", "custom", "function"})
"""The types of tools that come with their definition."""

_PICTURES = frozenset({"image", "image_url"})
_FILES = frozenset({"document", "file", "container_upload", "input_audio", "video_url"})
_DATA = frozenset({"data", "url", "file_data", "image_url", "video_url"})
"""Texts in pictures and files that no model reads as such."""
_AS_JSON = frozenset(
    {
        "function_call",
        "functions",
        "input",
        "output_config",
        "output_format",
        "response_format",
        "tool",
        "tool_calls",
        "tools",
    }
)
"""Members that services word as JSON, whose letters beyond ASCII may have six signs each."""
_FORMS: tuple[Literal["NFC", "NFKC"], ...] = ("NFC", "NFKC")

_escaped = json.JSONEncoder().encode
_written = json.JSONEncoder(ensure_ascii=False).encode


def most_tokens(draft: Draft) -> int:
    """The most that the prompt of `draft` can be."""
    body = fields(parsed_json(draft.body))
    typed = sum(text(tool.get("type")) not in DEFINED for tool in tools_in(body))
    return OWN_TOKENS + typed * TYPED_TOOL_TOKENS + _Reading(draft.kind).most(body)


def likely_tokens(draft: Draft) -> int:
    """What it is likely to be, rather too much than too little."""
    return len(draft.body) // LIKELY_BYTES


def tools_in(body: Fields) -> list[Fields]:
    """The tools of a body, those too that a turn brings along."""
    blocks = [block for turn in objects(body.get("messages")) for block in objects(turn.get("content"))]
    later = [fields(block.get("tool")).get("definition") for block in blocks if block.get("type") == "tool_addition"]
    return [*objects(body.get("tools")), *objects(later)]


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a service of `kind` makes of a part of a body, which may be in a picture or a file, or be worded as JSON."""

    kind: CloudKind
    is_data: bool = False
    is_json: bool = False

    def most(self, value: object) -> int:
        """The most tokens of `value`."""
        if isinstance(value, str):
            return MARK_TOKENS + self._bytes(value)
        if isinstance(value, list):
            return MARK_TOKENS + BRACKET_TOKENS + sum(self.most(one) for one in value)
        if not isinstance(value, dict):
            return MARK_TOKENS + len(str(value))
        inner = replace(self, is_data=True) if _is_data(value) else self
        own = MARK_TOKENS + BRACKET_TOKENS + self._piece(value)
        return own + sum(inner.member(*one) for one in value.items())

    def member(self, name: str, value: object) -> int:
        """Those of a member of an object, with its name."""
        if self.is_data and name in _DATA and isinstance(value, str):
            return self._bytes(name)
        inner = replace(self, is_json=True) if name in _AS_JSON else self
        return self._bytes(name) + inner.most(value)

    def _piece(self, value: Fields) -> int:
        """What a picture or a file is beside the text that is in the body."""
        name, is_cited = text(value.get("type")), fields(value.get("citations")).get("enabled") is True
        if name in _PICTURES:
            return PICTURE_TOKENS[self.kind]
        return FILE_TOKENS if name in _FILES and (is_cited or _is_data(value)) else 0

    def _bytes(self, words: str) -> int:
        """The bytes of the longest of the forms of `words`."""
        escaped, written = len(_escaped(words)), _written(words)
        if words.isascii():
            return escaped
        forms = (written, *(normalize(form, written) for form in _FORMS))
        longest = max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
        return max(longest, escaped) if self.is_json else longest


def _is_data(value: Fields) -> bool:
    """`value` is a picture or a file, and not one that is given as text."""
    name, source = text(value.get("type")), fields(value.get("source"))
    is_words = name == "document" and source.get("type") in ("text", "content")
    return name in _PICTURES or (name in _FILES and not is_words)
