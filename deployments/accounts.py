"""What each key uses: counted while an answer is made, told to the key's limits at once and to the store a bit later.

The prompt counts when the answer is begun, its tokens when it ends, however it ends: who leaves early pays for what was
made until then. Requests without a key are nobody's, and are not counted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from starlette.requests import Request

from replicas.cloud.answer import CloudFinal
from replicas.engine import Chunk
from router.budget import Payer
from router.keys import Key
from router.keys.limiter import Limiter
from router.store import Use


class Account:
    """One request's use so far."""

    def __init__(self) -> None:
        self.generated = 0
        self.cached = 0

    def count(self, chunks: Sequence[Chunk]) -> None:
        """These were made."""
        self.generated += sum(chunk.tokens for chunk in chunks)
        for final in [chunk.final for chunk in chunks if chunk.final is not None]:
            self.cached += final.usage.cached
            if isinstance(final, CloudFinal):
                self.generated = final.usage.generated  # a cloud's chunks are no tokens


def utc_day() -> str:
    """Today, as 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


def _nowhere(_: Use) -> None:
    """For an edge without a store."""


class Accounts:
    """Opens accounts. `write` must not wait."""

    def __init__(
        self, limiter: Limiter, write: Callable[[Use], None] = _nowhere, today: Callable[[], str] = utc_day
    ) -> None:
        self.limiter = limiter
        self._write = write
        self._today = today

    @contextmanager
    def opened(self, key: Key | None, model: str, prompt_tokens: int) -> Iterator[Account]:
        """The account of one answer, settled at the end of the block."""
        account = Account()
        if key is None:
            yield account
            return
        self.limiter.spend(key, prompt_tokens)
        try:
            yield account
        finally:
            self.limiter.spend(key, account.generated)
            self._write(Use(key.id, self._today(), model, 1, prompt_tokens, account.cached, account.generated))


def payer_of(key: Key | None, job: str = "") -> Payer:
    """Who pays for a request that came in with `key`, for `job`."""
    return Payer(job=job) if key is None else Payer(key.id, key.name, job)


def is_private(key: Key | None) -> bool:
    """Whatever is asked with `key` stays here."""
    return key is not None and key.is_private


def key_of(request: Request) -> Key | None:
    """The key that a request came in with."""
    key = getattr(request.state, "key", None)
    assert key is None or isinstance(key, Key)
    return key
