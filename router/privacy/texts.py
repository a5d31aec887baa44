"""Every text in a request, as the detectors read it: plain characters, escapes of nested JSON undone.

Full-width digits, zero-width spaces and other disguises of the same text are taken off first; addresses of pages and
HTML are read as written and without their escapes, blocks of text that stand in one message also as one text. What is
inside pictures and encoded documents is not read; who sends such marks the request, or a rule does.
"""

import re
import unicodedata
from collections.abc import Iterator
from html import unescape
from itertools import chain
from urllib.parse import unquote

from replicas.engine import Message
from router.body import parsed_json
from router.call import Call

INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
ENCODED = re.compile(r"(?:data:[\w.+/-]{1,128};base64,)?[A-Za-z0-9+/_-]{4096,}={0,2}")
"""A picture or a document: so many characters without a space are no text."""

ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|&#?\w{2,8};")

NESTING = 4
"""JSON inside strings inside JSON is read so deep: a tool's arguments are at 1."""


def plain(text: str) -> str:
    """`text` in the characters that a reader sees."""
    return text if text.isascii() else unicodedata.normalize("NFKC", INVISIBLE.sub("", text))


def texts_of_parts(call: Call) -> Iterator[str]:
    """All that is said in a call that came in no dialect."""
    tools = ((tool.name, tool.description, tool.schema) for tool in call.tools)
    said = chain.from_iterable(_said(message) for message in call.messages)
    texts = chain(said, *tools, call.sampling.stop, (call.grammar.text,) if call.grammar else ())
    return chain.from_iterable(map(readings, texts))


def readings(text: str) -> Iterator[str]:
    """`text` as a reader sees it, and without the escapes of addresses and HTML if it has any."""
    seen = plain(text)
    yield seen
    if ESCAPE.search(seen):
        yield plain(unescape(unquote(seen)))


def texts_of_json(value: object, nesting: int = 0) -> Iterator[str]:
    """All strings, names and numbers in a JSON value, and in JSON that a string holds."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from chain.from_iterable(map(readings, item))
            waiting += item.values()
        elif isinstance(item, list):
            yield from _joined(item)
            waiting += item
        elif isinstance(item, str):
            yield from _texts_of_string(item, nesting)
        elif item is not None and not isinstance(item, bool):
            yield str(item)


def _texts_of_string(text: str, nesting: int) -> Iterator[str]:
    if ENCODED.fullmatch(text):
        return
    yield from readings(text)
    if nesting < NESTING and text.lstrip()[:1] in ("{", "[", '"') and "\\" in text:
        try:
            inner = parsed_json(text)
        except ValueError:
            return
        yield from texts_of_json(inner, nesting + 1)


def _joined(blocks: list[object]) -> Iterator[str]:
    """What blocks of text say together: a model reads them as one."""
    texts = [block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str)]
    if len(texts) > 1:
        yield from readings("".join(texts))


def _said(message: Message) -> Iterator[str]:
    yield message.content
    for call in message.tool_calls:
        yield call.name
        yield call.arguments
