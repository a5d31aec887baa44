"""Whose key is it? Answered from a copy of the store's keys that is seconds old, so that no request waits for SQL.

A copy older than REFRESH_S is read anew, by one reader for all who wait; a key that the copy lacks may be a new one, so
it is read anew for that too, but AGAIN_S apart: whoever makes keys up waits for that. A store that does not answer
leaves the old copy in force for STALE_S, then nobody gets in. Without a single key, also a revoked one, the instance is
open: there is nothing to check.
"""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from replicas.errors import ShoalError, Unauthenticated, Unavailable
from router.keys.key import Key, StoredKey, digest_of, read

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
AGAIN_S = 0.2
STALE_S = 60.0
WAIT_S = 3.0  # for a store that hangs, where the copy is of no use
SHORT_WAIT_S = 0.3  # where it is
NOBODY = digest_of("")  # compared with where there is no such key, so that both cases take the same time


class Keyring:
    """The keys that `load` (blocking) gives. Lives on one event loop."""

    def __init__(
        self, load: Callable[[], Sequence[StoredKey]] = list, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load = load
        self._clock = clock
        self._keys: Mapping[str, StoredKey] = {}
        self._loaded_s = -math.inf
        self._tried_s = -math.inf
        self._loading: asyncio.Task[None] | None = None

    async def key_of(self, text: str | None) -> Key | None:
        """The key whose text a caller sent; None if the instance is open. Raises Unauthenticated, Unavailable."""
        found = read(text) if text is not None else None
        keys = await self._known(found[0] if found else None)
        if not keys:
            return None
        if text is None:
            raise Unauthenticated("an API key is needed: send it as x-api-key, or as Authorization: Bearer")
        id_, secret = found or ("", "")
        stored = keys.get(id_)
        is_right = hmac.compare_digest(digest_of(secret), stored.digest if stored else NOBODY)
        if stored is None or not is_right:
            raise Unauthenticated("the API key is not known here")
        if stored.key.revoked_at is not None:
            raise Unauthenticated("the API key has been revoked")
        return stored.key

    async def _known(self, id_: str | None) -> Mapping[str, StoredKey]:
        """The keys; `id_` is among them if it exists."""
        age_s = self._clock() - self._tried_s
        is_new = id_ is not None and id_ not in self._keys
        if self._loading is None and (is_new or age_s > REFRESH_S):
            self._loading = asyncio.create_task(self._refresh(max(0.0, AGAIN_S - age_s)))
        if self._loading is not None:
            needs_it = is_new or self._clock() - self._loaded_s > STALE_S
            await asyncio.wait([self._loading], timeout=WAIT_S if needs_it else SHORT_WAIT_S)
        if self._clock() - self._loaded_s > STALE_S:
            raise Unavailable("the store of the keys", "the log of the service says why")
        return self._keys

    async def _refresh(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        began_s = self._clock()
        try:
            stored = await asyncio.to_thread(self._load)
        except ShoalError as error:
            logger.warning("the keys could not be read: %s", error)
        else:
            self._keys = {one.key.id: one for one in stored}
            self._loaded_s = began_s
        finally:
            self._tried_s = self._clock()
            self._loading = None
