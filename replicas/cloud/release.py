"""The one door by which a request leaves this service: a cloud client takes a `Releasable` and nothing else.

A `Draft` is what would be sent, to the last byte. The privacy guard (router/privacy/guard.py) reads it and signs a
`Clearance` with its digest; `release` gives a `Releasable` for the very draft that was read, or raises. Only this
module makes a Releasable and only the guard makes a Clearance: tests/router/test_privacy_types.py reads the source for
that. Neither can be pickled: a request is cleared in the process that sends it, right before.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from replicas.errors import Withheld

CloudKind: TypeAlias = Literal["anthropic", "openai"]
"""The protocol that a cloud speaks."""

Asking: TypeAlias = Literal["conversation", "completions", "embeddings", "count"]
"""What a body asks for: an answer to a conversation, that a bare text goes on, vectors, or the number of tokens."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A request as a cloud would get it. `body` is JSON of the cloud's own protocol, its `model` the cloud's name for
    it; `headers` are the caller's that go along (names in lower case), never keys."""

    id: str
    kind: CloudKind
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    deadline_s: float = 600.0
    asking: Asking = "conversation"

    @property
    def digest(self) -> str:
        """SHA-256 of all that would leave; lengths are part of it, so that parts cannot trade bytes."""
        headers = (part.encode() for header in self.headers for part in header)
        parts = (self.kind.encode(), self.asking.encode(), self.body, *headers)
        told = hashlib.sha256()
        for part in parts:
            told.update(len(part).to_bytes(8, "big") + part)
        return told.hexdigest()


class _Unpickled:
    """Stays in the process where it was made."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} stays in its process: clear the request where it is sent")


@dataclass(frozen=True, slots=True)
class Clearance(_Unpickled):
    """The guard's word that the draft with this `digest` holds nothing private."""

    draft_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Releasable(_Unpickled):
    """A draft that may leave. Made by `release`; raises Withheld if it is not the one that was cleared, to the byte."""

    draft: Draft
    clearance: Clearance

    def __post_init__(self) -> None:
        if (self.draft.id, self.draft.digest) != (self.clearance.draft_id, self.clearance.digest):
            raise Withheld("it was changed after it had been cleared")


def release(draft: Draft, clearance: Clearance) -> Releasable:
    """`draft`, free to leave. Raises Withheld if `clearance` is another draft's."""
    return Releasable(draft, clearance)
