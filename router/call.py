"""One internal request, and the seam by which a wire dialect turns into it and back.

`Dialect.parse` reads a body into an `Exchange`: the call, and the reply that will word its answer. The edge then feeds
chunks to the reply and sends on the bytes it gets; it knows neither dialect.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from replicas.cloud.answer import CloudChunk, Native
from replicas.engine import Chunk, Final, Grammar, Message, Priority, Sampling, TokenScore, ToolCall
from replicas.errors import ShoalError, Unsupported
from replicas.tools.tool import Tool, ToolChoice
from router.origin import NOBODY, Origin
from router.translate.source import Source

RawPrompt: TypeAlias = str | tuple[int, ...]
"""A text, or the ids of one model's tokens, to go on from: no conversation, and no chat template."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller wants, in no dialect. `model` None takes the default; `max_tokens` is clamped to the context.

    `adapter` names a LoRA adapter of the model. `has_image`: pictures came with it, of which `messages` hold a note.
    `top_logprobs` None wants no scores of tokens, n the n likeliest. With `raw` there is no conversation: `messages`
    holds its text for whoever looks at what is asked. `unsupported` is what of it no local model can do. `source` is
    what a cloud would be sent, None for a call that came in no dialect.
    """

    id: str
    model: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    is_stream: bool = False
    priority: Priority = Priority.INTERACTIVE
    session_id: str | None = None
    deadline_s: float = 600.0
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    grammar: Grammar | None = None
    top_logprobs: int | None = None
    adapter: str | None = None
    has_image: bool = False
    origin: Origin = NOBODY
    raw: RawPrompt | None = None
    unsupported: Unsupported | None = field(default=None, compare=False)
    source: Source | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: all that its chunks carry. `calls` have no ids: each dialect gives its own kind. `natives` are
    what a cloud said in its own dialect, each with the number of characters of `text` before it."""

    text: str
    final: Final
    calls: tuple[ToolCall, ...] = ()
    scores: tuple[TokenScore, ...] = ()
    natives: tuple[tuple[int, Native], ...] = ()

    @classmethod
    def of(cls, chunks: Sequence[Chunk], final: Final) -> "Answer":
        """The answer that `chunks` make, ended by `final`."""
        names: dict[int, str] = {}
        arguments: dict[int, str] = {}
        for piece in [chunk.call for chunk in chunks if chunk.call is not None]:
            names[piece.index] = piece.name or names.get(piece.index, "")
            arguments[piece.index] = arguments.get(piece.index, "") + piece.arguments
        calls = tuple(ToolCall("", names[index], arguments[index]) for index in sorted(names))
        scores = tuple(score for chunk in chunks for score in chunk.scores)
        return cls("".join(chunk.text for chunk in chunks), final, calls, scores, tuple(_natives(chunks)))


def _natives(chunks: Sequence[Chunk]) -> Iterator[tuple[int, Native]]:
    at = 0
    for chunk in chunks:
        if isinstance(chunk, CloudChunk) and chunk.native is not None:
            yield at, chunk.native
        at += len(chunk.text)


class Reply(Protocol):
    """Words one answer in the caller's dialect. `feed` holds the dialect's stream grammar."""

    ping: bytes
    """Sent while nothing else is: keeps clients and middleboxes from giving up on a quiet stream."""

    model: str
    """The name in the answer: the one asked for, or whoever answers a request that left the choice."""

    def begin(self, prompt_tokens: int) -> bytes:
        """What a stream begins with; sent at admission, before prefill."""
        ...

    def feed(self, chunks: Sequence[Chunk], choice: int = 0) -> bytes:
        """The events for `chunks` of one choice. After a chunk with a `Final` the closing ones, or after the last such
        chunk if there are several choices (or the dialect's error event)."""
        ...

    def whole(self, *answers: Answer) -> bytes:
        """The body of a reply that is not streamed, of one answer for each choice. None of them is an error."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """A parsed request and the reply that belongs to it. A request for several choices is one call for each: `call` is
    the first, `more` are the others."""

    call: Call
    reply: Reply
    more: tuple[Call, ...] = ()


class Dialect(Protocol):
    """One wire format."""

    def parse(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Read a request (header names in lower case). Raises InvalidRequest with the field in `param`."""
        ...

    def error(self, error: ShoalError, request_id: str) -> bytes:
        """The JSON body of an error, in the dialect's own shape."""
        ...
