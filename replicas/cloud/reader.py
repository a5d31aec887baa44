"""The seam between a protocol and the connection that brings it: a reader turns what came into chunks, without I/O."""

from typing import Protocol

from replicas.cloud.answer import Spent
from replicas.cloud.sse import Event
from replicas.engine import Chunk


class Reader(Protocol):
    """Reads one answer, a stream's events or a whole body. All raise CloudError and ContextOverflow."""

    id: str
    """Of the chunks."""
    is_done: bool
    """The stream has said that it is over."""
    reason: str
    """Why the answer ended, in the cloud's own word; empty as long as it has not said."""

    @property
    def spent(self) -> Spent:
        """What the answer has used so far."""
        ...

    def event(self, event: Event) -> list[Chunk]:
        """The chunks of an event; none has a Final."""
        ...

    def whole(self, body: bytes) -> list[Chunk]:
        """The chunks of an answer that is not streamed; `end` gives the last."""
        ...

    def end(self) -> list[Chunk]:
        """The last chunks, with the Final. Raises CloudBroken unless the answer said why it ended."""
        ...
