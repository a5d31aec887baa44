"""A session's KV as bytes: taken from one engine, to a file or to another replica of the same model.

    8 bytes magic | 4 bytes length of the header | header, JSON | blocks | 32 bytes SHA-256 of all before

The header names the model by the digest of its files, the runtime, the provider, the processor and the threads: KV of
another model, or of kernels that may compute other last bits, is refused. Blocks come one after another, as
`BlockPool.read` gives them.
"""

import hashlib
import struct
from array import array
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from replicas.engine import Determinism
from replicas.errors import InvalidRequest
from replicas.slot.kv.blocks import BLOCK
from replicas.slot.kv.sessions import Session
from replicas.slot.request.lane import Lane

_MAGIC = b"SHOALKV1"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32


_SAME_VERSION = "load it with the version of Shoal that saved it"
_FIXES = {
    "model": "load it into the model that it was saved from",
    "runtime": "load it where {} is installed",
    "provider": "start this model with `engine.provider: {}`",
    "processor": "load it on a machine with that processor",
    "threads": "start this model with `engine.threads: {}`",
    "determinism": "start this model with `engine.determinism: {}`",
}


class Origin(BaseModel):
    """Where KV comes from; both sides must agree in all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # digest of its files
    runtime: str
    provider: str
    processor: str
    threads: int
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
    tokens: list[Annotated[int, Field(ge=0, lt=2**31)]]
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


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What `packed` put together."""

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
    session = Session(Lane(header.adapter, header.is_long), array("i", header.tokens))
    return Unpacked(session_id=header.session_id, session=session, adapter_digest=header.adapter_digest, blocks=blocks)


def _check(theirs: Origin, ours: Origin) -> None:
    for field in Origin.model_fields:
        if getattr(theirs, field) != getattr(ours, field):
            value = getattr(theirs, field)
            what = f"the saved session is of another {field} ({value}, here {getattr(ours, field)})"
            fix = _FIXES.get(field, _SAME_VERSION).format(value)
            raise InvalidRequest(f"{what}: {fix}, or send the conversation as a whole, which prefills it here", "data")
