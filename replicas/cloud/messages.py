"""Answers in Anthropic's Messages protocol as chunks.

Text and tool calls become chunks; thinking, citations and blocks of tools that the cloud runs become `Native` pieces.
Events that come twice change nothing: a block opens once and closes once, and counts are cumulative. What is unknown is
passed over, what cannot be (a delta of no block, bytes that are no JSON) is a CloudBroken.
"""

from collections.abc import Mapping
from dataclasses import replace

from replicas.cloud.answer import CloudChunk, CloudFinal, Native, Part, Spent
from replicas.cloud.errors import CloudBroken
from replicas.cloud.fields import Fields, count, counted, fields, objects, parsed, text, written
from replicas.cloud.refusal import told
from replicas.cloud.sse import Event
from replicas.engine import CallPiece, Chunk, Finish, Usage
from replicas.errors import ShoalError

_FINISHES = {
    "max_tokens": Finish.LENGTH,
    "stop_sequence": Finish.STOP,
    "refusal": Finish.REFUSED,
    "model_context_window_exceeded": Finish.CONTEXT,
}


class MessagesReader:
    """Reads one answer; its chunks have the id `id_`, its errors name the pool `cloud`."""

    def __init__(self, cloud: str, id_: str) -> None:
        self._cloud = cloud
        self.id = id_
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._model = self.reason = ""
        self._stop_sequence: str | None = None
        self._deltas = 0
        self._spent = Spent()
        self.is_done = False

    @property
    def spent(self) -> Spent:
        """What the answer has used so far: until the cloud counts, each piece of it is taken for a token."""
        known = self._spent
        if known.is_settled or known.usage.generated >= self._deltas:
            return known
        return replace(known, usage=replace(known.usage, generated=self._deltas))

    def event(self, event: Event) -> list[Chunk]:
        """The chunks of an event."""
        value = parsed(self._cloud, event.data)
        index = count(value.get("index"))
        match value.get("type", event.name):
            case "message_start":
                self._message(fields(value.get("message")))
            case "content_block_start" if index not in self._blocks:
                return self._begin(index, fields(value.get("content_block")))
            case "content_block_delta":
                return self._delta(index, fields(value.get("delta")))
            case "content_block_stop":
                return self._stop(index)
            case "message_delta":
                self._ended(fields(value.get("delta")), value.get("usage"))
            case "message_stop":
                self.is_done = True
            case "error":
                raise self._failed(value.get("error"))
        return []

    def whole(self, body: bytes) -> list[Chunk]:
        """The chunks of a whole message."""
        value = parsed(self._cloud, body)
        if value.get("type") == "error" or "error" in value:
            raise self._failed(value.get("error"))
        self._message(value)
        chunks: list[Chunk] = []
        for index, block in enumerate(objects(value.get("content"))):
            chunks += [*self._begin(index, block), *self._stop(index)]
        self._ended(value, value.get("usage"))
        return chunks

    def end(self) -> list[Chunk]:
        """The last chunk."""
        if not self.reason:
            raise CloudBroken(self._cloud, "the answer broke off")
        final = CloudFinal(
            finish=_FINISHES.get(self.reason, Finish.END),
            usage=self.spent.usage,
            stop_sequence=self._stop_sequence,
            reason=self.reason,
            model=self._model,
            spent=self.spent,
        )
        return [CloudChunk(self.id, "", 0, final)]

    def _failed(self, error: object) -> ShoalError:
        """The cloud says that it has failed."""
        self._spent = replace(self.spent, cost_usd=0.0)
        return told(self._cloud, error)

    def _message(self, message: Fields) -> None:
        self._model = text(message.get("model")) or self._model
        self._count(message.get("usage"), is_settled=False)

    def _ended(self, delta: Fields, usage: object) -> None:
        self.reason = text(delta.get("stop_reason")) or self.reason
        self._stop_sequence = text(delta.get("stop_sequence")) or self._stop_sequence
        self._count(usage, is_settled=bool(self.reason))

    def _begin(self, index: int, block: Fields) -> list[Chunk]:
        kind = text(block.get("type"))
        if kind == "tool_use":
            self._blocks[index] = _Block(kind, self._calls, fields(block.get("input")))
            self._calls += 1
            return [self._call(CallPiece(self._calls - 1, text(block.get("name"))))]
        self._blocks[index] = _Block(kind)
        said = text(block.get("text"))
        if kind != "text":
            return [self._native("begin", block)]
        # Citations of a whole text block have no delta of their own: they follow its text as they do in a stream.
        citations = [{"type": "citations_delta", "citation": one} for one in objects(block.get("citations"))]
        return [*([self._text(said)] if said else []), *(self._native("delta", one) for one in citations)]

    def _delta(self, index: int, delta: Fields) -> list[Chunk]:
        block = self._blocks.get(index)
        kind = delta.get("type")
        if block is None or block.is_closed:
            raise CloudBroken(self._cloud, "a piece of the answer belongs nowhere")
        if kind == "text_delta" and block.kind == "text":
            return [self._text(text(delta.get("text")))]
        if kind == "input_json_delta" and block.kind == "tool_use":
            arguments = text(delta.get("partial_json"))
            block.has_arguments = block.has_arguments or bool(arguments)
            return [self._call(CallPiece(block.call, None, arguments))] if arguments else []
        self._deltas += 1
        return [self._native("delta", delta)]

    def _stop(self, index: int) -> list[Chunk]:
        block = self._blocks.get(index)
        if block is None or block.is_closed:
            return []
        block.is_closed = True
        if block.kind == "tool_use":
            whole = CallPiece(block.call, None, written(block.input))
            return [] if block.has_arguments else [self._call(whole)]
        return [] if block.kind == "text" else [self._native("end", None)]

    def _count(self, value: object, *, is_settled: bool) -> None:
        """Take over the counts that are given: later ones replace earlier ones, absent ones leave them."""
        if not isinstance(value, dict):
            return
        before = self._spent
        fresh = before.usage.prompt - before.usage.cached - before.cache_write
        cached = _given(value, "cache_read_input_tokens", before.usage.cached)
        write = _given(value, "cache_creation_input_tokens", before.cache_write)
        hour = _given(fields(value.get("cache_creation")), "ephemeral_1h_input_tokens", before.cache_write_1h)
        prompt = _given(value, "input_tokens", fresh) + cached + write
        usage = Usage(prompt, _given(value, "output_tokens", before.usage.generated), cached)
        is_counted = prompt > 0 and counted(value.get("output_tokens")) is not None
        is_settled = is_settled and is_counted
        self._spent = replace(before, usage=usage, cache_write=write, cache_write_1h=hour, is_settled=is_settled)

    def _text(self, said: str) -> Chunk:
        self._deltas += 1
        return CloudChunk(self.id, said, 1)

    def _call(self, piece: CallPiece) -> Chunk:
        self._deltas += 1
        return CloudChunk(self.id, "", 1, call=piece)

    def _native(self, part: Part, value: Fields | None) -> Chunk:
        return CloudChunk(self.id, "", 0, native=Native("anthropic", part, "" if value is None else written(value)))


class _Block:
    """A content block; `call` is the number of the call that it is, `input` what it began with."""

    __slots__ = ("call", "has_arguments", "input", "is_closed", "kind")

    def __init__(self, kind: str, call: int = -1, input_: Mapping[str, object] | None = None) -> None:
        self.kind = kind
        self.call = call
        self.input = input_ or {}
        self.has_arguments = False
        self.is_closed = False


def _given(value: Fields, key: str, before: int) -> int:
    return before if value.get(key) is None else count(value.get(key))
