"""Keys that share a pool over a socket: whoever has little gets its turn, whoever has much is turned away."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from deployments.places import room_of
from deployments.plan import AppPlan
from router.fair_queue import Room
from router.keys import Key, StoredKey
from router.keys.key import created, new_id
from router.keys.keyring import Keyring
from tests.deployments.asking import CHAT, body
from tests.deployments.hand_engine import HandEngine
from tests.deployments.served import ECHO, Served, serving

SMALL = replace(ECHO, engine=replace(ECHO.engine, slots=1, queue_limit=2))
WAIT_S = 20


class Shared:
    """An edge with one engine moved by hand, and two keys."""

    def __init__(self, served: Served, engine: HandEngine, texts: list[str]) -> None:
        self.served = served
        self.engine = engine
        self.much, self.little = ({"x-api-key": text} for text in texts)
        self.statuses: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def ask(self, name: str, headers: dict[str, str]) -> None:
        def run() -> None:
            answer = httpx.post(self.served.url + CHAT, json=body(name), headers=headers, timeout=WAIT_S)
            self.statuses[name] = answer.status_code

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def waiting(self) -> int:
        """As the metrics tell it."""
        page = self.served.on_loop(lambda: self.served.metrics.registry.get_sample_value("shoal_http_queued"))
        return int(page or 0)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_S)


@pytest.fixture
def shared() -> Iterator[Shared]:
    keys, texts = [], []
    for _ in range(2):
        id_ = new_id()
        text, digest = created(id_)
        texts.append(text)
        keys.append(StoredKey(Key(id_, "test", 1.0), digest))
    engine = HandEngine()
    with serving(AppPlan((SMALL,), "echo"), Keyring(lambda: keys), echo=[engine]) as served:
        yield Shared(served, engine, texts)


def eventually(claim: Callable[[], bool]) -> None:
    """Wait until `claim` holds."""
    give_up_s = time.monotonic() + WAIT_S
    while not claim():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_an_engine_gets_its_slots_and_a_few_more() -> None:
    assert room_of(SMALL) == Room(running=2, most=3, waiting=1)
    wide = replace(ECHO, max_replicas=2, engine=replace(ECHO.engine, slots=16, queue_limit=64))
    assert room_of(wide) == Room(running=40, most=80, waiting=120)
    strict = replace(ECHO, engine=replace(ECHO.engine, slots=4, queue_limit=0))
    assert room_of(strict) == Room(running=4, most=4, waiting=0)


def test_a_key_that_floods_is_turned_away_for_one_that_does_not(shared: Shared) -> None:
    for name in ("much.0", "much.1"):
        shared.ask(name, shared.much)
        shared.engine.next()
    shared.ask("much.2", shared.much)
    eventually(lambda: shared.waiting() == 1)
    shared.ask("little", shared.little)
    eventually(lambda: shared.statuses.get("much.2") == 429)
    assert shared.waiting() == 1
    shared.engine.streams[0].end()
    last = shared.engine.next()
    last.end()
    shared.engine.streams[1].end()
    shared.join()
    assert shared.statuses == {"much.0": 200, "much.1": 200, "much.2": 429, "little": 200}


def test_who_leaves_while_waiting_leaves_no_trace(shared: Shared) -> None:
    for name in ("much.0", "much.1"):
        shared.ask(name, shared.much)
        shared.engine.next()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(shared.served.url + CHAT, json=body(), headers=shared.little, timeout=0.3)
    eventually(lambda: shared.waiting() == 0)
    for stream in list(shared.engine.under_way):
        stream.end()
    shared.join()
    assert len(shared.engine.streams) == 2
