"""Sessions in the journal: a digest that tells them apart, and says nothing of their names.

Names of sessions can be guessed (users' names, addresses), so what is kept is a digest under a secret of the store: who
has the rows alone cannot try names out. Without the secret a process can already tell sessions apart, and no more.
"""

from hashlib import blake2b

KEYED_BY = "sessions"
"""The name of the secret in the store."""

SESSION_BYTES = 16


def digest(session_id: str) -> str:
    """What a session has before it is kept."""
    return blake2b(session_id.encode("utf-8", "replace"), digest_size=SESSION_BYTES).hexdigest()


def sealed(digested: str, secret: bytes) -> str:
    """What is kept of a session's digest. No session stays none."""
    return blake2b(digested.encode(), key=secret, digest_size=SESSION_BYTES).hexdigest() if digested else ""
