"""Which text belongs to which session, so that its KV can be found when it is to go elsewhere.

Ids are kept as 32-bit numbers, four bytes a token, and at most MOST_TOKENS of all sessions together: the least recently
used session is forgotten first.
"""

from array import array
from collections import OrderedDict
from dataclasses import dataclass

from replicas.slot.request.lane import Lane

MOST_TOKENS = 1 << 22
"""16 MB."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation as far as its KV is known. `owner`: its id if its KV came from outside, which nobody else gets."""

    lane: Lane
    tokens: "array[int]"
    owner: str = ""


class Sessions:
    """Sessions by id, the latest used ones."""

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._most_tokens = most_tokens
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._tokens = 0

    def find(self, session_id: str) -> Session | None:
        """What is known of a session."""
        return self._sessions.get(session_id)

    def note(self, session_id: str, session: Session) -> None:
        """`session` is what is known of it now."""
        self._forget(session_id)
        self._sessions[session_id] = session
        self._tokens += len(session.tokens)
        while self._tokens > self._most_tokens:
            self._forget(next(iter(self._sessions)))

    def _forget(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._tokens -= len(session.tokens)
