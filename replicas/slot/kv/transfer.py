"""Sessions out of one engine's cache and into another's."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnxruntime as ort

from replicas.errors import InvalidRequest, NotFound
from replicas.export import Export
from replicas.host import Host
from replicas.slot.about import About
from replicas.slot.kv.blocks import BLOCK
from replicas.slot.kv.prefixes import PrefixCache
from replicas.slot.kv.session_file import Origin, Unpacked, packed, unpacked
from replicas.slot.kv.sessions import Session
from replicas.weights import weight_files

AT_ONCE = 16
"""Blocks that are copied between two steps: running answers wait for them."""

GONE = "nothing of it is in the cache (any more)"


class Transfer:
    """Reads and writes sessions of `kept`. `digest_of` tells the adapters that are loaded."""

    def __init__(self, kept: PrefixCache, export: Export, about: About, digest_of: Callable[[str | None], str]) -> None:
        self._kept = kept
        self._digest_of = digest_of
        self._origin = Origin(
            model=model_digest(export.model_file),
            runtime=f"onnxruntime {ort.__version__}",
            provider=about.provider,
            processor=Host().processor(),
            threads=about.threads,
            determinism=about.determinism,
            block_bytes=kept.block_bytes,
        )

    def session(self, session_id: str) -> Session:
        """What is known of a session. On the loop's thread. Raises NotFound."""
        session = self._kept.session(session_id)
        if session is None:
            raise NotFound("session", session_id, GONE)
        return session

    def read(self, session: Session, first: int) -> list[bytes]:
        """Some blocks of it, from `first` on; none if that was all. On the loop's thread."""
        return self._kept.read(session, first, AT_ONCE)

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

    def write(self, taken: Unpacked, session_id: str, first: int) -> int:
        """Keep some of its blocks, from `first` on, for the session `session_id`; how many. On the loop's thread."""
        session = Session(taken.session.lane, taken.session.tokens, owner=session_id)
        written = self._kept.write(session, first, taken.blocks[first : first + AT_ONCE])
        if written:
            self._kept.note(session_id, replace(session, tokens=session.tokens[: (first + written) * BLOCK]))
        return written


@cache
def model_digest(model_file: Path) -> str:
    """SHA-256 of a graph and of the weights beside it. Takes a second for a gigabyte, once per process."""
    digest = hashlib.sha256()
    for name in (model_file.name, *sorted(weight_files(model_file))):
        with (model_file.parent / name).open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
