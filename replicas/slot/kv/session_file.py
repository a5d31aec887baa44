"""A session's KV as bytes: taken from one engine, to a file or to another replica of the same model.

    8 bytes magic | 4 bytes length of the header | header, JSON | blocks | 32 bytes SHA-256 of all before

The header names the model by the digest of its files, the runtime and the provider: KV of another model, or of a
kernel that computes other last bits, is refused. Blocks come one after another, as `BlockPool.read` gives them.
"""

import hashlib
import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from replicas.engine import Determinism
from replicas.errors import InvalidRequest
from replicas.slot.kv.blocks import BLOCK
from replicas.slot.kv.prefixes import Session
from replicas.slot.request.lane import Lane

_MAGIC = b"SHOALKV1"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32


class Origin(BaseModel):
    """Where KV comes from; both sides must agree in all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # digest of its files
    runtime: str
    provider: str
    determinism: Determinism
    block_tokens: int = BLOCK
    block_bytes: int


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    origin: Origin
    session_id: str
    adapter: str | None
    adapter_digest: str
    is_long: bool
    tokens: list[int]
    blocks: int


def packed(origin: Origin, session_id: str, session: Session, adapter_digest: str, blocks: list[bytes]) -> bytes:
    """`session` as bytes, as far as `blocks` go."""
    header = _Header(
        version=1,
        origin=origin,
        session_id=session_id,
        adapter=session.lane.adapter,
        adapter_digest=adapter_digest,
        is_long=session.lane.is_long,
        tokens=list(session.tokens[: len(blocks) * BLOCK]),
        blocks=len(blocks),
    )
    text = header.model_dump_json().encode()
    content = b"".join((_MAGIC, _LENGTH.pack(len(text)), text, *blocks))
    return content + hashlib.sha256(content).digest()


class Unpacked(BaseModel):
    """What `packed` put together."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    session_id: str
    session: Session
    adapter_digest: str
    blocks: list[bytes]


def unpacked(data: bytes, origin: Origin) -> Unpacked:
    """Read `data` for an engine of `origin`. Raises InvalidRequest with what does not fit."""
    start = len(_MAGIC) + _LENGTH.size
    if len(data) < start + _DIGEST_BYTES or not data.startswith(_MAGIC):
        raise InvalidRequest("this is not a saved session, or it is of another version", "data")
    content, digest = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise InvalidRequest("the saved session is damaged: its checksum is wrong", "data")
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    try:
        header = _Header.model_validate_json(bytes(content[start : start + length]))
    except ValidationError as error:
        raise InvalidRequest("the saved session's header cannot be read: it is of another version", "data") from error
    _check(header.origin, origin)
    size, body = origin.block_bytes, content[start + length :]
    if len(body) != header.blocks * size or len(header.tokens) != header.blocks * BLOCK:
        raise InvalidRequest("the saved session is damaged: its size is wrong", "data")
    blocks = [bytes(body[place * size : (place + 1) * size]) for place in range(header.blocks)]
    session = Session(Lane(header.adapter, header.is_long), tuple(header.tokens))
    return Unpacked(session_id=header.session_id, session=session, adapter_digest=header.adapter_digest, blocks=blocks)


def _check(theirs: Origin, ours: Origin) -> None:
    for field in Origin.model_fields:
        if getattr(theirs, field) != getattr(ours, field):
            values = f"{getattr(theirs, field)}, here {getattr(ours, field)}"
            raise InvalidRequest(f"the saved session is of another {field} ({values})", "data")
