"""The content of a message that is not streamed, put together from text and what a cloud's model said beside it."""

from collections.abc import Sequence
from json import loads

from pydantic_core import from_json

from replicas.cloud.answer import Native
from router.sse import Json

Block = dict[str, Json]


def whole_blocks(text: str, natives: Sequence[tuple[int, Native]]) -> list[Block]:
    """The blocks in order. `natives` come with the number of characters of `text` before each; at least one block."""
    blocks: list[Block] = []
    said = 0
    for at, native in natives:
        if at > said:
            blocks.append({"type": "text", "text": text[said:at]})
            said = at
        if native.part == "begin":
            blocks.append(loads(native.json))
        elif native.part == "delta" and blocks:
            _add(blocks[-1], loads(native.json))
    if text[said:] or not blocks:
        blocks.append({"type": "text", "text": text[said:]})
    return [_closed(block) for block in blocks]


def _closed(block: Block) -> Block:
    written = block.get("input")
    return block | {"input": from_json(written or "{}", allow_partial=True)} if isinstance(written, str) else block


def _add(block: Block, delta: Block) -> None:
    """What `delta` adds to its block: words to a member of the same name, a citation, a piece of an input."""
    if delta.get("type") == "citations_delta":
        known = block.get("citations")
        block["citations"] = [*(known if isinstance(known, list) else []), delta.get("citation")]
        return
    for name, value in delta.items():
        before = block.get(name)
        if name == "partial_json":
            held = block.get("input")
            block["input"] = f"{held if isinstance(held, str) else ''}{value}"  # `_closed` reads it
        elif name != "type" and isinstance(value, str):
            block[name] = before + value if isinstance(before, str) else value
