"""Session transfers: pieces out and in, bounded, dropped when idle; engines that keep nothing say so."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from deployments.session_transfer import MOST_OPEN, PIECE_BYTES, SessionTransfers, returned
from replicas.errors import InvalidRequest, NotFound, Overloaded
from tests.deployments.hand_engine import HandEngine

pytestmark = pytest.mark.anyio
CONTENT = bytes(range(256)) * (PIECE_BYTES // 128) + b"the end"  # two pieces and a little


class KeepingEngine(HandEngine):
    """Keeps one session, called `mine`, and what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, bytes] = {}

    def export_session(self, session_id: str) -> bytes:
        if session_id != "mine":
            raise NotFound("session", session_id)
        return CONTENT

    def import_session(self, data: bytes, session_id: str) -> int:
        if data != CONTENT:
            raise InvalidRequest("it is damaged", "data")
        self.taken[session_id] = data
        return 64


async def fetched(transfers: SessionTransfers, session_id: str = "mine") -> list[bytes]:
    saved = await transfers.save(session_id)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < saved.size_bytes:
        pieces.append(await transfers.read(saved.transfer_id, sum(map(len, pieces))))
    return pieces


async def test_a_session_goes_out_and_in_whole() -> None:
    engine = KeepingEngine()
    transfers = SessionTransfers(engine)
    pieces = await fetched(transfers)
    assert b"".join(pieces) == CONTENT
    for piece in pieces:
        await transfers.write("t", piece)
    assert await transfers.load("t", "yours") == 64
    assert engine.taken == {"yours": CONTENT}


async def test_a_transfer_is_gone_when_it_is_done_or_was_refused() -> None:
    transfers = SessionTransfers(KeepingEngine())
    saved = await transfers.save("mine")
    await transfers.read(saved.transfer_id, 2 * PIECE_BYTES)
    await transfers.write("t", b"no session")
    with pytest.raises(InvalidRequest, match="damaged"):
        await transfers.load("t", "mine")
    again: list[Callable[[], Awaitable[object]]] = [
        lambda: transfers.read(saved.transfer_id, 0),
        lambda: transfers.load("t", "mine"),
        lambda: transfers.save("unknown"),
    ]
    for call in again:
        with pytest.raises(NotFound):
            await call()


async def test_only_so_many_are_under_way_at_once() -> None:
    transfers = SessionTransfers(KeepingEngine())
    saved = [await transfers.save("mine") for _ in range(MOST_OPEN)]
    with pytest.raises(Overloaded):
        await transfers.write("t", b"")
    await transfers.read(saved[0].transfer_id, 2 * PIECE_BYTES)
    await transfers.write("t", b"")


async def test_an_idle_transfer_is_dropped() -> None:
    transfers = SessionTransfers(KeepingEngine(), idle_s=0.0)
    saved = await transfers.save("mine")
    give_up_s = time.monotonic() + 10
    while not isinstance(await returned(transfers.read(saved.transfer_id, 0)), NotFound):
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0)


async def test_an_engine_that_keeps_no_sessions_says_so() -> None:
    transfers = SessionTransfers(HandEngine())
    with pytest.raises(InvalidRequest, match="the hand engine keeps no sessions"):
        await transfers.save("mine")
    await transfers.write("t", b"")
    with pytest.raises(InvalidRequest, match="keeps no sessions"):
        await transfers.load("t", "mine")
