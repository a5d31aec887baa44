"""Keys are checked against a copy that is seconds old; what the store does in between decides how old it may get."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from replicas.errors import Unauthenticated, Unavailable
from router.keys import Key, StoredKey
from router.keys.key import created, read
from router.keys.keyring import REFRESH_S, STALE_S, Keyring

pytestmark = pytest.mark.anyio

TEXT, DIGEST = created("0123456789ab")
OTHER_TEXT, OTHER_DIGEST = created("ba9876543210")
KEY = Key("0123456789ab", "agent", 1.0)
OTHER = Key("ba9876543210", "other", 2.0)


class Kept:
    """A store whose clock and keys the test holds."""

    def __init__(self, *keys: StoredKey) -> None:
        self.keys = list(keys)
        self.now_s = 1000.0
        self.loads = 0
        self.is_away = False
        self.gate = threading.Event()
        self.gate.set()

    def load(self) -> Sequence[StoredKey]:
        self.loads += 1
        assert self.gate.wait(20)
        if self.is_away:
            raise Unavailable("the store")
        return list(self.keys)

    def ring(self) -> Keyring:
        return Keyring(self.load, lambda: self.now_s)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def kept() -> Kept:
    return Kept(StoredKey(KEY, DIGEST))


async def test_the_right_secret_gives_the_key(kept: Kept) -> None:
    assert await kept.ring().key_of(TEXT) == KEY


@pytest.mark.parametrize(
    "text", [None, "", "local", TEXT[:-1], TEXT + "0", TEXT.upper(), TEXT.replace("0123456789ab", "ffffffffffff")]
)
async def test_anything_else_is_nobody(kept: Kept, text: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await kept.ring().key_of(text)


async def test_the_secret_of_another_key_is_not_good_enough(kept: Kept) -> None:
    kept.keys.append(StoredKey(OTHER, OTHER_DIGEST))
    secret = (read(OTHER_TEXT) or ("", ""))[1]
    with pytest.raises(Unauthenticated) as raised:
        await kept.ring().key_of(f"sk-shoal-{KEY.id}-{secret}")
    assert secret not in str(raised.value)


async def test_a_ring_without_keys_is_open_to_any_text() -> None:
    assert await Kept().ring().key_of("local") is None
    assert await Kept().ring().key_of(None) is None


async def test_a_revoked_key_closes_the_ring_for_good(kept: Kept) -> None:
    kept.keys = [StoredKey(Key(KEY.id, "agent", 1.0, revoked_at=2.0), DIGEST)]
    ring = kept.ring()
    with pytest.raises(Unauthenticated, match="revoked"):
        await ring.key_of(TEXT)
    with pytest.raises(Unauthenticated):
        await ring.key_of(None)


async def test_the_store_is_read_once_while_the_copy_is_fresh(kept: Kept) -> None:
    ring = kept.ring()
    for _ in range(50):
        await ring.key_of(TEXT)
    assert kept.loads == 1


async def test_a_revocation_is_known_when_the_copy_is_old(kept: Kept) -> None:
    ring = kept.ring()
    await ring.key_of(TEXT)
    kept.keys = [StoredKey(Key(KEY.id, "agent", 1.0, revoked_at=2.0), DIGEST)]
    kept.now_s += REFRESH_S + 0.1
    with pytest.raises(Unauthenticated, match="revoked"):
        await ring.key_of(TEXT)


async def test_a_new_key_is_known_at_once(kept: Kept) -> None:
    ring = kept.ring()
    await ring.key_of(TEXT)
    kept.keys.append(StoredKey(OTHER, OTHER_DIGEST))
    assert await ring.key_of(OTHER_TEXT) == OTHER


async def test_made_up_keys_do_not_wear_the_store_out(kept: Kept) -> None:
    ring = kept.ring()
    await ring.key_of(TEXT)
    made_up = [ring.key_of(created(f"{number:012x}")[0]) for number in range(100)]
    refusals = await asyncio.gather(*made_up, return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {Unauthenticated}
    assert kept.loads == 2


async def test_a_store_that_is_away_leaves_the_copy_in_force_for_a_while(kept: Kept) -> None:
    ring = kept.ring()
    await ring.key_of(TEXT)
    kept.is_away = True
    kept.now_s += STALE_S - 1
    assert await ring.key_of(TEXT) == KEY
    kept.now_s += 2
    with pytest.raises(Unavailable):
        await ring.key_of(TEXT)


async def test_a_store_that_hangs_holds_nobody_up_for_long(kept: Kept) -> None:
    ring = kept.ring()
    await ring.key_of(TEXT)
    kept.gate.clear()
    kept.now_s += REFRESH_S + 0.1
    try:
        assert await ring.key_of(TEXT) == KEY
        assert kept.loads == 2
    finally:
        kept.gate.set()


async def test_a_store_that_was_never_there_opens_nothing(kept: Kept) -> None:
    kept.is_away = True
    with pytest.raises(Unavailable):
        await kept.ring().key_of(None)
