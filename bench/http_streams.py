"""The clients of `bench.stack`, in a process of their own: `python -m bench.http_streams URL`.

A line `STREAMS TOKENS` on stdin starts that many streamed chat completions at once; the answer is a line of JSON with
the tokens that came and the seconds it took. Raw asyncio sockets: what arrives is kept as bytes and read only after the
clock has stopped, so that the clients take as little as possible of the cores that the model runs on.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from bench.work import prompt, sampling

DEADLINE_S = 600.0
DONE = b"data: [DONE]"
_USAGE = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Run:
    """What one run made: all tokens of all streams, from the first request to the last token."""

    tokens: int
    time_s: float

    @property
    def tokens_s(self) -> float:
        """Tokens per second."""
        return self.tokens / self.time_s


class AnswerReader(asyncio.Protocol):
    """One connection: sends its request when it is told to, keeps the answer's bytes."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes) -> None:
        """Send the request."""
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """More of the answer."""
        self.received += data
        # The end may be cut in two, so look a little back.
        if self.received.find(DONE, max(0, len(self.received) - len(data) - len(DONE))) >= 0:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed it: the answer is whole or it is not, `tokens` will tell."""
        self._end()

    def close(self) -> None:
        """Let the connection go."""
        if self._transport is not None:
            self._transport.close()

    @property
    def tokens(self) -> int:
        """Tokens of the answer, as its usage says. Raises RuntimeError if it has none."""
        found = _USAGE.findall(self.received)
        if not found:
            raise RuntimeError(f"no whole answer came: {bytes(self.received[:500])!r}")
        return int(found[-1])

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(host: str, port: int, streams: int, tokens: int) -> Run:
    """Stream `streams` answers of `tokens` tokens at once. Raises RuntimeError if one of them is not whole."""
    loop = asyncio.get_running_loop()
    readers = [(await loop.create_connection(AnswerReader, host, port))[1] for _ in range(streams)]
    try:
        began_s = time.perf_counter()
        for stream, reader in enumerate(readers):
            reader.send(request(host, stream, tokens))
        await asyncio.wait_for(asyncio.gather(*(reader.done for reader in readers)), DEADLINE_S)
        time_s = time.perf_counter() - began_s
        return Run(sum(reader.tokens for reader in readers), time_s)
    finally:
        for reader in readers:
            reader.close()


def request(host: str, stream: int, tokens: int) -> bytes:
    """The whole request of a stream, head and body."""
    wanted = sampling(tokens)
    body = json.dumps(
        {
            "messages": [{"role": message.role, "content": message.content} for message in prompt(stream)],
            "max_tokens": wanted.max_tokens,
            "ignore_eos": wanted.ignore_eos,
            "temperature": wanted.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    url = urlsplit(sys.argv[1])
    assert url.hostname is not None
    assert url.port is not None
    for line in sys.stdin:
        streams, tokens = map(int, line.split())
        done = asyncio.run(run(url.hostname, url.port, streams, tokens))
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    main()
