"""An API key: `sk-shoal-<id>-<secret>`. The id is public and finds the key; the secret has 256 random bits.

Only the SHA-256 of the secret is kept. A slow hash would protect guessable secrets; nobody guesses 256 bits, and a fast
one can be checked on every request.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

FORM = re.compile(r"sk-shoal-([0-9a-f]{12})-([0-9a-f]{64})")


class Scope(StrEnum):
    """What a key may be used for."""

    INFERENCE = "inference"  # completions, and counting their tokens
    EMBEDDINGS = "embeddings"
    SWARM = "swarm"  # jobs: all of them, whoever submitted them
    SESSIONS = "sessions"  # the KV of conversations
    ADMIN = "admin"  # status, metrics, adapters


USUAL = frozenset(Scope) - {Scope.ADMIN}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a key may ask for; None is no limit. Tokens are those of prompts and answers."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. Times are seconds since 1970; `weight` is its share where keys wait for each other.

    What is asked with an `is_private` one never leaves for a cloud.
    """

    id: str
    name: str
    created_at: float
    scopes: frozenset[Scope] = USUAL
    limits: Limits = Limits()
    weight: float = 1.0
    revoked_at: float | None = None
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: with the SHA-256 of its secret, in hex."""

    key: Key
    digest: str


def session_of(key: Key | None, session_id: str) -> str:
    """What the engines call a session: a key's own sessions are nobody else's, whatever id another key sends."""
    return session_id if key is None else f"{key.id}/{session_id}"


def created(id_: str) -> tuple[str, str]:
    """A fresh secret for the key `id_`: the whole text to hand out once, and the digest to keep."""
    secret = secrets.token_hex(32)
    return f"sk-shoal-{id_}-{secret}", digest_of(secret)


def new_id() -> str:
    """An id for a new key."""
    return secrets.token_hex(6)


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read(text: str) -> tuple[str, str] | None:
    """The id and the secret in what a caller sent; None if it has not the form of a key."""
    found = FORM.fullmatch(text)
    return (found[1], found[2]) if found else None
