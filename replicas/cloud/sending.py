"""Whether a request has left, and is being answered: who does not wait for its answer may be charged once it has left,
and an answer that makes no sense will be, too.

It is known deep in the transport, and told in a context: the anthropic package hands nothing of ours through to there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Sending:
    """Of one request. `is_sent`: its body was handed to a connection. `is_taken`: the service has begun to answer."""

    def __init__(self) -> None:
        self.is_sent = False
        self.is_taken = False


_watched: ContextVar[Sending | None] = ContextVar("_watched", default=None)


def watched() -> Sending | None:
    """What notes whether the request that is sent now has left."""
    return _watched.get()


@contextmanager
def watching(sending: Sending) -> Iterator[None]:
    """What is sent in the block is noted in `sending`. Nothing may be yielded from within."""
    token = _watched.set(sending)
    try:
        yield
    finally:
        _watched.reset(token)
