"""Which texts have been examined and hold nothing private: a conversation comes again with every turn, and each request
is examined twice. What is kept is a digest under a key of this process; no text, and none that could be looked up.
"""

import secrets
from hashlib import blake2b

MOST = 8192
DIGEST_BYTES = 16


class CleanTexts:
    """Remembers the last MOST texts, and about as many before them. For any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._key = secrets.token_bytes(32)
        self._recent: set[bytes] = set()
        self._earlier: set[bytes] = set()

    def __contains__(self, text: str) -> bool:
        """This very text was added, and is not forgotten."""
        digest = self._digest(text)
        if digest in self._earlier:
            self._keep(digest)
            return True
        return digest in self._recent

    def add(self, text: str) -> None:
        """`text` holds nothing."""
        self._keep(self._digest(text))

    def _keep(self, digest: bytes) -> None:
        if len(self._recent) >= self._most:
            self._earlier, self._recent = self._recent, set()
        self._recent.add(digest)

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES, key=self._key).digest()
