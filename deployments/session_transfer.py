"""Sessions on their way out of an engine, and into one: the replica's side, in pieces.

The KV of a session is some kilobytes a token, too much for one message. What is saved lies here until its pieces are
fetched, what is loaded until its last piece has come; each is dropped `IDLE_S` after it was last touched. An engine
that keeps no KV refuses with words of its own.
"""

import asyncio
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from replicas.engine import Engine
from replicas.errors import InvalidRequest, NotFound, Overloaded, ShoalError

PIECE_BYTES = 1 << 20
IDLE_S = 30.0
MOST_OPEN = 4
T = TypeVar("T")


@runtime_checkable
class SessionEngine(Protocol):
    """An engine whose sessions can be carried elsewhere. Both calls block, for as long as copying the KV takes."""

    def export_session(self, session_id: str) -> bytes:
        """What is kept of a session. Raises NotFound."""
        ...

    def import_session(self, data: bytes, session_id: str) -> int:
        """Take over a session as `session_id`; its tokens. Raises InvalidRequest if it does not fit."""
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """A session that is ready to be fetched."""

    transfer_id: str
    size_bytes: int


class SessionTransfers:
    """The sessions of `engine` that are under way. Lives on one event loop."""

    def __init__(self, engine: Engine, idle_s: float = IDLE_S) -> None:
        self._engine = engine
        self._idle_s = idle_s
        self._contents: dict[str, bytearray] = {}
        self._alarms: dict[str, asyncio.TimerHandle] = {}

    async def save(self, session_id: str) -> Saved:
        """Copy a session out of the engine. Raises NotFound, Overloaded, InvalidRequest."""
        engine, transfer_id = self._keeper(), uuid.uuid4().hex
        content = self._open(transfer_id)
        try:
            content += await asyncio.to_thread(engine.export_session, session_id)
        except BaseException:
            self._drop(transfer_id)
            raise
        return Saved(transfer_id, len(content))

    async def read(self, transfer_id: str, start: int) -> bytes:
        """The piece of a saved session that begins at `start`; the last one ends it. Raises NotFound."""
        content = self._touched(transfer_id)
        piece = bytes(content[start : start + PIECE_BYTES])
        if start + len(piece) >= len(content):
            self._drop(transfer_id)
        return piece

    async def write(self, transfer_id: str, piece: bytes) -> None:
        """The next piece of a session that is to be loaded; the first one begins it. Raises Overloaded."""
        is_open = transfer_id in self._contents
        content = self._touched(transfer_id) if is_open else self._open(transfer_id)
        content += piece

    async def load(self, transfer_id: str, session_id: str) -> int:
        """Give the session to the engine as `session_id`; its tokens. Raises NotFound, InvalidRequest."""
        engine, content = self._keeper(), self._touched(transfer_id)
        try:
            return await asyncio.to_thread(engine.import_session, bytes(content), session_id)
        finally:
            self._drop(transfer_id)

    def _keeper(self) -> SessionEngine:
        if not isinstance(self._engine, SessionEngine):
            raise InvalidRequest(f"the {self._engine.stats().engine} engine keeps no sessions", "model")
        return self._engine

    def _open(self, transfer_id: str) -> bytearray:
        if len(self._contents) >= MOST_OPEN:
            raise Overloaded("session transfers", self._idle_s)
        content = self._contents[transfer_id] = bytearray()
        self._touched(transfer_id)
        return content

    def _touched(self, transfer_id: str) -> bytearray:
        content = self._contents.get(transfer_id)
        if content is None:
            raise NotFound("transfer", transfer_id, "it was done, or idle for too long")
        if transfer_id in self._alarms:
            self._alarms[transfer_id].cancel()
        loop = asyncio.get_running_loop()
        self._alarms[transfer_id] = loop.call_later(self._idle_s, self._drop, transfer_id)
        return content

    def _drop(self, transfer_id: str) -> None:
        self._contents.pop(transfer_id, None)
        alarm = self._alarms.pop(transfer_id, None)
        if alarm is not None:
            alarm.cancel()


async def returned(work: Awaitable[T]) -> T | ShoalError:
    """What `work` gives or raises: an expected refusal is no traceback in Serve's log."""
    try:
        return await work
    except ShoalError as error:
        return error
