"""Message content of either dialect, flattened to the text that a text-only local model reads.

Content is a string, null, or a list of blocks; each block type has a small function that turns it into text or drops
it. What a model cannot see (an image, a PDF) becomes a short note in brackets, so that the model can say so; thinking
is dropped; a block of a type that nobody here knows gives its `text` or `content`, or is dropped: never a 400. Calls
and results of tools keep their structure (router/turns.py); what of them stands deeper, or in the wrong turn, is text.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from replicas.errors import InvalidRequest, Unsupported
from replicas.tools.tool import written

NESTING = 8
"""Blocks inside blocks (a tool result's document's content ...) are read so deep; real requests reach 3."""

IMAGES = frozenset({"image", "image_url", "input_image"})
UNREAD = IMAGES | {"input_audio", "file"}

Block: TypeAlias = Mapping[str, object]


class Turn(Protocol):
    """A message of either dialect."""

    @property
    def content(self) -> object:
        """A string, a list of blocks, or nothing."""
        ...


def text_of(content: object, path: str, depth: int = 0) -> str | None:
    """All the text of `content`, blocks on lines of their own; None when there is none to speak of.

    Raises InvalidRequest for what is neither string, list of objects, nor null; `path` leads to `content`.
    """
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{path}: Input should be a string, a list of content blocks or null", path)
    found = [block_text(block, f"{path}[{i}]", depth) for i, block in enumerate(content)]
    parts = [part for part in found if part]
    return "\n".join(parts) if parts else None


def block_text(block: object, path: str, depth: int = 0) -> str | None:
    """The text of one block; None when there is none to speak of. Raises InvalidRequest if it is no object."""
    if not isinstance(block, dict):
        raise InvalidRequest(f"{path}: Input should be an object with a type, such as a text block", path)
    kind = _kind(block)
    reader = _READERS.get(kind, _unknown)
    return reader(block, path, depth) if depth < NESTING else None


def holds_image(content: object, depth: int = 0) -> bool:
    """A picture is among the blocks of `content`, or in a tool's result there."""
    if not isinstance(content, list) or depth >= NESTING:
        return False
    blocks = [block for block in content if isinstance(block, dict)]
    return any(_kind(block) in IMAGES or holds_image(block.get("content"), depth + 1) for block in blocks)


def unread(turns: Sequence[Turn]) -> Unsupported | None:
    """The first picture, sound or file in the content of `turns`, or in a tool's result there; None if all is text."""
    for i, turn in enumerate(turns):
        if place := _unread_place(turn.content, f"messages[{i}].content"):
            return Unsupported(f"{place}: local models read text alone; a cloud may see it", place)
    return None


def _unread_place(content: object, path: str, depth: int = 0) -> str | None:
    if not isinstance(content, list) or depth >= NESTING:
        return None
    blocks = [(block, f"{path}[{i}]") for i, block in enumerate(content) if isinstance(block, dict)]
    for block, place in blocks:
        if _is_unread(block):
            return place
        source = block.get("source")
        for holder, name in ((block, f"{place}.content"), (source, f"{place}.source.content")):
            inner = holder.get("content") if isinstance(holder, dict) else None
            if found := _unread_place(inner, name, depth + 1):
                return found
    return None


def _is_unread(block: Block) -> bool:
    """Of which a note is all that a text model would get."""
    if _kind(block) != "document":
        return _kind(block) in UNREAD
    source = block.get("source")
    if not isinstance(source, dict):
        return True
    is_plain = source.get("type") == "text"
    return not (isinstance(source.get("data"), str) if is_plain else isinstance(source.get("content"), str | list))


def _kind(block: Block) -> str:
    kind = block.get("type")
    return kind if isinstance(kind, str) else ""


def _text(block: Block, path: str, _depth: int) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{path}.text: Input should be a string", f"{path}.text")
    return text


def _unknown(block: Block, path: str, depth: int) -> str | None:
    text = block.get("text")
    return text if isinstance(text, str) else _inner(block, path, depth)


def _inner(block: Block, path: str, depth: int) -> str | None:
    """The text of a block's own `content`; a shape that is not content gives nothing rather than a 400."""
    content = block.get("content")
    return text_of(content, f"{path}.content", depth + 1) if isinstance(content, str | list) else None


def _dropped(_block: Block, _path: str, _depth: int) -> None:
    return None


def _note(words: str) -> Callable[[Block, str, int], str]:
    def note(block: Block, _path: str, _depth: int) -> str:
        title = block.get("title") or block.get("name")
        named = f" {title!r}" if isinstance(title, str) else ""
        return f"[{words}{named}: not readable by this text model]"

    return note


def _document(block: Block, path: str, depth: int) -> str | None:
    source = block.get("source")
    text: object = None
    if isinstance(source, dict):
        text = source.get("data") if source.get("type") == "text" else _inner(source, f"{path}.source", depth)
    if not isinstance(text, str):
        return _note("document")(block, path, depth)
    title = block.get("title")
    return f"{title}\n{text}" if isinstance(title, str) else text


def _search_result(block: Block, path: str, depth: int) -> str | None:
    heads = [value for value in (block.get("title"), block.get("source")) if isinstance(value, str)]
    text = _inner(block, path, depth)
    return "\n".join([*heads, text] if text else heads) or None


def _tool_use(block: Block, _path: str, _depth: int) -> str:
    name = block.get("name")
    return f"[tool call {name if isinstance(name, str) else '?'} {written(block.get('input', {}))}]"


def _tool_result(block: Block, path: str, depth: int) -> str:
    text = text_of(block.get("content"), f"{path}.content", depth + 1)
    return f"[tool {'error' if block.get('is_error') is True else 'result'}]\n{text or '(empty)'}"


def _refusal(block: Block, _path: str, _depth: int) -> str | None:
    words = block.get("refusal")
    return words if isinstance(words, str) else None


_READERS: dict[str, Callable[[Block, str, int], str | None]] = {
    "text": _text,
    "image": _note("image"),
    "image_url": _note("image"),
    "input_audio": _note("audio"),
    "file": _note("file"),
    "document": _document,
    "search_result": _search_result,
    "thinking": _dropped,
    "redacted_thinking": _dropped,
    "tool_use": _tool_use,
    "server_tool_use": _tool_use,
    "tool_result": _tool_result,
    "refusal": _refusal,
}
