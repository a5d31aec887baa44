"""The upstream for tests: in a thread of this process, by a script, over a real socket."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from cluster.upstream.ledger import Entry, Outcome
from cluster.upstream.script import Script, parsed_script
from cluster.upstream.server import Upstream, serving

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"
ROUTER = "/api/v1/chat/completions"
HEADERS = {"authorization": "Bearer test-key", "anthropic-version": "2023-06-01"}
QUESTION = "Name the seven seas of the world"


class Played:
    """A running upstream. `url` is its own; OpenAI's clients add /v1."""

    def __init__(self, script: Script, record: Path | None = None) -> None:
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Upstream]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(script, record)), name="upstream")
        self._thread.start()
        self._loop, self._stopped, self._upstream = self._running.result(30)
        self.url = self._upstream.url

    def entries(self) -> list[Entry]:
        """What was received so far."""

        async def listed() -> list[Entry]:
            return self._upstream.ledger.entries()

        return asyncio.run_coroutine_threadsafe(listed(), self._loop).result(10)

    def begun(self) -> list[Entry]:
        """Wait for the first request to begin."""
        return self._wait_for(bool)

    def ended(self, is_enough: Callable[[list[Entry]], bool] = bool) -> list[Entry]:
        """Wait until no request is under way and `is_enough` holds for them."""

        def are_over(entries: list[Entry]) -> bool:
            return is_enough(entries) and all(entry.outcome is not Outcome.UNDER_WAY for entry in entries)

        return self._wait_for(are_over)

    def _wait_for(self, is_so: Callable[[list[Entry]], bool]) -> list[Entry]:
        give_up_s = time.monotonic() + 20
        while not is_so(entries := self.entries()):
            assert time.monotonic() < give_up_s, [entry.outcome for entry in entries]
            time.sleep(0.005)
        return entries

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    async def _serve(self, script: Script, record: Path | None) -> None:
        stopped = asyncio.Event()
        async with serving(script, record=record) as upstream:
            self._running.set_result((asyncio.get_running_loop(), stopped, upstream))
            await stopped.wait()


@contextmanager
def playing(script: str = "", record: Path | None = None) -> Iterator[Played]:
    """An upstream with the script that the YAML `script` is."""
    played = Played(parsed_script(script, "test"), record)
    try:
        yield played
    finally:
        played.close()


def body(path: str = MESSAGES, **more: object) -> dict[str, object]:
    """A request that asks QUESTION."""
    limit = {"max_tokens": 200} if path == MESSAGES else {}
    return {"model": "test", "messages": [{"role": "user", "content": QUESTION}], **limit, **more}
