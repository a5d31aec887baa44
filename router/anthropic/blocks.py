"""The content blocks of one Messages answer; in a stream, one open at a time, numbered in order.

    none --text--> TEXT --a call's name--> TOOL_USE --text or a name--> ...

A call's `input` is `{}` when its block begins; the pieces of `input_json_delta` together are the object. Ids are made
of the message's, so that the same answer has the same. Blocks that only a cloud's model makes (thinking, its own tools)
come with their events, and keep their place.
"""

from collections.abc import Sequence
from json import dumps, loads

from pydantic_core import from_json

from replicas.cloud.answer import Native
from replicas.engine import CallPiece
from router import sse
from router.anthropic.whole import whole_blocks
from router.call import Answer

_TEXT: sse.Json = {"type": "text", "text": ""}


class Blocks:
    """Words the blocks of one answer."""

    def __init__(self, message_id: str) -> None:
        self._stem = message_id.removeprefix("msg_")
        self._index = -1
        self._is_open = False
        self._head = self._tail = b""  # around the text of a text delta; empty while no text block is open
        self.has_called = False

    def events(self, run: sse.Run) -> bytes:
        """The events for one run of a stream."""
        if run.native is not None and run.native.kind == "anthropic":
            return self._native(run.native)
        sent = b""
        if run.text:
            sent = b"" if self._head else self._start(_TEXT)
            sent += self._head + dumps(run.text).encode("ascii") + self._tail
        return sent + b"".join(map(self._piece, run.calls))

    def close(self) -> bytes:
        """The end of the last block, which is an empty text if there was none."""
        return (b"" if self._index >= 0 else self._start(_TEXT)) + self._stop()

    def whole(self, answer: Answer) -> Sequence[sse.Json]:
        """The blocks of an answer that is not streamed."""
        own = [(at, native) for at, native in answer.natives if native.kind == "anthropic"]
        text: list[sse.Json] = [*whole_blocks(answer.text, own)] if answer.text or own or not answer.calls else []
        calls = [self._tool_use(i, call.name, _input(call.arguments)) for i, call in enumerate(answer.calls)]
        return [*text, *calls]

    def _native(self, native: Native) -> bytes:
        """Events as the cloud had them, but for the index. What it says of a text (a citation) needs one."""
        if native.part == "end":
            return b""
        value: sse.Json = loads(native.json)
        if native.part == "begin":
            return self._start(value)
        return (b"" if self._is_open else self._start(_TEXT)) + self._event("content_block_delta", "delta", value)

    def _piece(self, piece: CallPiece) -> bytes:
        sent = b""
        if piece.name is not None:
            self.has_called = True
            sent = self._start(self._tool_use(piece.index, piece.name, {}))
        if piece.arguments:
            sent += self._event("content_block_delta", "delta", _json_delta(piece.arguments))
        return sent

    def _tool_use(self, index: int, name: str, value: sse.Json) -> sse.Json:
        return {"type": "tool_use", "id": f"toolu_{self._stem}_{index}", "name": name, "input": value}

    def _start(self, block: sse.Json) -> bytes:
        closing = self._stop() if self._is_open else b""
        self._index += 1
        self._is_open = True
        self._head = self._tail = b""
        if block is _TEXT:
            delta = self._event("content_block_delta", "delta", {"type": "text_delta", "text": ""})
            self._head, self._tail = delta.split(b'""')
        return closing + self._event("content_block_start", "content_block", block)

    def _stop(self) -> bytes:
        return sse.event("content_block_stop", {"type": "content_block_stop", "index": self._index})

    def _event(self, name: str, member: str, value: sse.Json) -> bytes:
        return sse.event(name, {"type": name, "index": self._index, member: value})


def _json_delta(arguments: str) -> sse.Json:
    return {"type": "input_json_delta", "partial_json": arguments}


def _input(arguments: str) -> dict[str, sse.Json]:
    """The object that `arguments` is, or has begun to be: an answer may end within a call."""
    value: dict[str, sse.Json] = from_json(arguments or "{}", allow_partial=True)
    return value
