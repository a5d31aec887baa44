"""What a cloud's answer has beyond a local one: what it cost, and pieces that only its own dialect has words for.

A `CloudChunk` is a `Chunk`, so whoever words answers or judges them need not know where one came from. A reply in the
cloud's own dialect can say more: thinking with its signature, citations, blocks of tools that the cloud runs itself.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from replicas.cloud.release import CloudKind, Releasable
from replicas.engine import Chunk, Final, Usage

Part: TypeAlias = Literal["begin", "delta", "end"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What an answer has used so far, by the cloud's own count. `cache_write` prompt tokens were written to its cache,
    `cache_write_1h` of them to be kept for an hour; `cost_usd` is the settled cost where the cloud says it, and nothing
    where it ends an answer in an error of its own: nobody is charged for those.

    Not `is_settled`: the cloud has not given its closing count, because the answer broke off or it never does; then
    `usage` is what is known, which is less than what it will charge for. `is_sent`: the request has left, so whoever
    does not wait for the answer may still be charged for it.
    """

    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    cache_write: int = 0
    cache_write_1h: int = 0
    cost_usd: float | None = None
    is_settled: bool = False
    is_sent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Native:
    """A piece in the cloud's own dialect, as JSON text. In the Messages dialect `begin` has a content block, `delta`
    a delta of it and `end` nothing; chat completions have only `delta`s, of the message."""

    kind: CloudKind
    part: Part
    json: str = ""


@dataclass(frozen=True, slots=True)
class CloudChunk(Chunk):
    """A chunk of a cloud's answer. A reply of the dialect of `native` words that, and not the `text` beside it."""

    native: Native | None = None


@dataclass(frozen=True, slots=True)
class CloudFinal(Final):
    """The end of a cloud's answer: `reason` is its own word for why, `model` the name it gives to who answered."""

    reason: str = ""
    model: str = ""
    spent: Spent = field(default_factory=Spent)


class Answer(Protocol):
    """One answer under way: its chunks in order, an empty one as soon as the cloud has taken the request, the last with
    a CloudFinal.

    Iterating raises CloudError, ContextOverflow or DeadlineExceeded. Close it (contextlib.aclosing) unless it was read
    to its end: that, like cancelling the task that reads, closes the connection, and the cloud stops writing.
    """

    @property
    def spent(self) -> Spent:
        """What it has used so far; asked after the end, whatever the end was."""
        ...

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    async def aclose(self) -> None:
        """Give up what is still to come. Idempotent."""
        ...


class Cloud(Protocol):
    """A model service elsewhere, which answers what may leave."""

    def ask(self, sent: Releasable) -> Answer:
        """The answer to `sent`; nothing leaves before its first chunk is asked for, and its deadline counts from there.
        Chunks have the draft's id."""
        ...

    async def fetch(self, sent: Releasable) -> bytes:
        """The whole body of what is no answer in words: vectors, or a count. Raises CloudError, DeadlineExceeded."""
        ...

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        ...
