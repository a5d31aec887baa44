"""The callers: `python -m bench.gateway.client`, a line of work on stdin, a line of what was found on stdout.

Raw asyncio connections that are kept open, as an SDK keeps its own; of an answer only what is measured is read.
"""

import asyncio
import json
import re
import sys
import time
from functools import partial
from itertools import count

from bench.gateway.load import Found, Target, Work, found_line, read_asked
from bench.gateway.upstream import PACE_S

DEADLINE_S = 120.0
MS_NS = 1_000_000
QUESTION = "Question %08d: which seas does a ship cross on its way from Trieste to Bergen? Answer in one sentence."
"""Each with a number of its own, so that nothing on the way can know it already."""
OK = (b"HTTP/1.1 200", b"HTTP/1.0 200")
_STAMP = re.compile(rb"@(\d+) ")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LAST_CHUNK = b"\r\n0\r\n\r\n"
SHOWN_BYTES = 400
_numbers = count(1)  # of all runs of a process


class Load:
    """One run: what is left to ask, and what was found."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._left = work.requests
        self._ends_s = time.monotonic() + work.for_s
        self.whole_ms: list[float] = []
        self.first_ms: list[float] = []
        self.token_ms: list[float] = []

    def next(self) -> int | None:
        """The number of the next request; None: there is no more to ask."""
        if self._left <= 0 or time.monotonic() >= self._ends_s:
            return None
        self._left -= 1
        return next(_numbers)


class Caller(asyncio.Protocol):
    """One connection that asks `target` again and again. `done` says when there is no more to ask."""

    def __init__(self, load: Load, target: Target) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load = load
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._sent_ns = self._at = self._tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Too early, unless all is done."""
        self._fail("the connection was closed")

    def ask(self) -> None:
        """Send one more, if there is one."""
        assert self._transport is not None
        if self.done.done():
            return
        number = self._load.next()
        if number is None:
            self.done.set_result(None)
            return
        asked = request(self._target, self._load.work, number)
        self._received.clear()
        self._at = self._tokens = 0
        self._sent_ns = time.monotonic_ns()
        self._transport.write(asked)

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        now_ns = time.monotonic_ns()
        self._received += data
        if self._load.work.is_stream:
            self._read_tokens(now_ns)
        if not self._is_whole():
            return
        if not self._received.startswith(OK):
            self._fail("an answer is an error")
        elif self._load.work.is_stream and self._tokens != self._load.work.tokens:
            self._fail(f"{self._tokens} of {self._load.work.tokens} tokens came")
        else:
            self._load.whole_ms.append((now_ns - self._sent_ns) / MS_NS)
            self.ask()

    def close(self) -> None:
        """Let the connection go."""
        if not self.done.done():
            self.done.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _read_tokens(self, now_ns: int) -> None:
        for found in _STAMP.finditer(self._received, self._at):
            if self._tokens == 0:
                self._load.first_ms.append((now_ns - self._sent_ns) / MS_NS)
            self._load.token_ms.append((now_ns - int(found[1])) / MS_NS)
            self._tokens += 1
            self._at = found.end()

    def _is_whole(self) -> bool:
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        length = _LENGTH.search(self._received, 0, head_end)
        if length is None:
            return self._received.endswith(_LAST_CHUNK)
        return len(self._received) >= head_end + 4 + int(length[1])

    def _fail(self, words: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"{words}: {bytes(self._received[:SHOWN_BYTES])!r}"))


def request(target: Target, work: Work, number: int) -> bytes:
    """The whole request, head and body."""
    body = {
        "model": target.models[1 if work.is_paced else 0],
        "messages": [
            {"role": "system", "content": "You answer briefly, in plain words."},
            {"role": "user", "content": QUESTION % number},
        ],
        "max_tokens": work.tokens,
        "temperature": 0.2,
        **({"stream": True, "stream_options": {"include_usage": True}} if work.is_stream else {}),
    }
    data = json.dumps(body).encode()
    head = [
        f"POST {target.path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *([f"Authorization: Bearer {target.key}"] if target.key else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + data


def between_s(work: Work) -> float:
    """Between the first requests of two connections. Paced streams are spread, and stay so, as all take as long: else
    they would begin together, again and again."""
    return work.tokens * PACE_S / work.at_once if work.is_paced else 0.0


async def run(target: Target, work: Work) -> Found:
    """Do `work`. Raises RuntimeError if an answer is not what it should be, TimeoutError if one does not come."""
    loop = asyncio.get_running_loop()
    load, callers = Load(work), list[Caller]()
    try:
        for _ in range(work.at_once):
            _, one = await loop.create_connection(partial(Caller, load, target), "127.0.0.1", target.port)
            callers.append(one)
        began_s = time.monotonic()
        for one in callers:
            one.ask()
            await asyncio.sleep(between_s(work))
        await asyncio.wait_for(asyncio.gather(*(one.done for one in callers)), work.for_s + DEADLINE_S)
        return Found(time.monotonic() - began_s, load.whole_ms, load.first_ms, load.token_ms)
    finally:
        for one in callers:
            one.close()


def main() -> None:
    for line in sys.stdin:
        print(found_line(asyncio.run(run(*read_asked(line)))), flush=True)


if __name__ == "__main__":
    main()
