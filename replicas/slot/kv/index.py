"""Which beginnings of texts are kept: a block is known by the digest of its tokens and of all tokens before it.

Two texts that begin alike share the digests of what they share, so the longest common beginning is found by looking
up one digest a block. The least recently used block goes first; a text is touched from its end to its beginning, so
its end goes before its beginning does.
"""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from replicas.slot.kv.blocks import BLOCK
from replicas.slot.request.lane import Lane

_DIGEST_BYTES = 16


def root(lane: Lane, adapter_digest: str = "", owner: str = "") -> bytes:
    """What the digests of a lane begin with: another adapter, or other rotary factors, make other KV.

    `owner` is the session that KV from outside was loaded for. What is in it cannot be checked against its tokens, so
    no other session may find it.
    """
    name = f"{lane.adapter or ''}\0{adapter_digest}\0{int(lane.is_long)}\0{owner}"
    return hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).digest()


def extend(chain: list[bytes], start: bytes, tokens: Sequence[int], blocks: int) -> None:
    """Grow `chain`, the digests of the first blocks of `tokens`, to `blocks` of them."""
    for block in range(len(chain), blocks):
        content = struct.pack(f"<{BLOCK}q", *tokens[block * BLOCK : (block + 1) * BLOCK])
        before = chain[-1] if chain else start
        chain.append(hashlib.blake2b(before + content, digest_size=_DIGEST_BYTES).digest())


class Index:
    """Digest -> block, for `capacity` blocks, least recently used first."""

    def __init__(self, capacity: int) -> None:
        self._blocks: OrderedDict[bytes, int] = OrderedDict()
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._blocks

    def find(self, chain: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known beginning of `chain`."""
        found: list[int] = []
        for digest in chain:
            block = self._blocks.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def touch(self, chain: Sequence[bytes]) -> None:
        """`chain` was just used."""
        for digest in reversed(chain):
            if digest in self._blocks:
                self._blocks.move_to_end(digest)

    def take(self, count: int) -> list[int]:
        """Blocks to write to, if none is free those of the least recently used digests; `put` or `give_back` next."""
        return [self._free.pop() if self._free else self._blocks.popitem(last=False)[1] for _ in range(count)]

    def put(self, digest: bytes, block: int) -> None:
        """`block` is written: it is known by `digest` from now on."""
        self._blocks[digest] = block

    def give_back(self, blocks: Iterable[int]) -> None:
        """These were not written."""
        self._free.extend(blocks)

    def drop(self, chain: Iterable[bytes]) -> None:
        """Forget these."""
        for digest in chain:
            block = self._blocks.pop(digest, None)
            if block is not None:
                self._free.append(block)
