"""Sessions out of one engine's cache and into another's."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnxruntime as ort

from replicas.errors import InvalidRequest, NotFound
from replicas.export import Export
from replicas.slot.kv.prefixes import PrefixCache, Session
from replicas.slot.kv.session_file import Origin, Unpacked, packed, unpacked
from replicas.slot.report import About


class Transfer:
    """Reads and writes sessions of `kept`. `digest_of` tells the adapters that are loaded."""

    def __init__(self, kept: PrefixCache, export: Export, about: About, digest_of: Callable[[str | None], str]) -> None:
        self._kept = kept
        self._digest_of = digest_of
        self._origin = Origin(
            model=model_digest(export.model_file),
            runtime=f"onnxruntime {ort.__version__}",
            provider=about.provider,
            determinism=about.determinism,
            block_bytes=kept.block_bytes,
        )

    def read(self, session_id: str) -> tuple[Session, list[bytes]]:
        """What is kept of a session. On the loop's thread. Raises NotFound."""
        session = self._kept.session(session_id)
        blocks = [] if session is None else self._kept.read(session)
        if session is None or not blocks:
            raise NotFound("session", session_id, "nothing of it is in the cache (any more)")
        return session, blocks

    def packed(self, session_id: str, session: Session, blocks: list[bytes]) -> bytes:
        """It as bytes."""
        return packed(self._origin, session_id, session, self._digest_of(session.lane.adapter), blocks)

    def unpacked(self, data: bytes) -> Unpacked:
        """What `packed` gave, checked. Raises InvalidRequest."""
        taken = unpacked(data, self._origin)
        adapter = taken.session.lane.adapter
        if taken.adapter_digest != self._digest_of(adapter):
            raise InvalidRequest(f"the saved session is of the adapter {adapter!r}, which is not loaded here", "data")
        return taken

    def write(self, taken: Unpacked, session_id: str) -> int:
        """Keep it as `session_id`; its tokens. On the loop's thread."""
        self._kept.write(session_id, taken.session, taken.blocks)
        return len(taken.session.tokens)


@cache
def model_digest(model_file: Path) -> str:
    """SHA-256 of a graph and of the weights beside it. Takes a second for a gigabyte, once per process."""
    digest = hashlib.sha256()
    for file in sorted(model_file.parent.glob(f"{model_file.name}*")):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
