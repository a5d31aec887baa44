"""A cloud that costs next to nothing: `python -m bench.gateway.upstream` says its port, and answers chat completions.

It speaks the chat completions protocol as `shoal upstream` does, but answers everything alike and looks at nothing that
it need not, so that it is not what is measured. Each token of a stream holds the moment at which it was written, by the
clock that all processes of a machine share. The model `paced` writes a token every PACE_S, every other one all at once.
"""

import asyncio
import json
import time
from collections.abc import Iterator

from pydantic_core import from_json

AT_ONCE, PACED = "at-once", "paced"
PACE_S = 0.02
PROMPT_TOKENS = 50
PATH = b"/v1/chat/completions "
HEAD_END = b"\r\n\r\n"
WORD = "word "
_OPEN = '{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
_EVENT = "data: " + _OPEN + '[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """One connection, kept for request after request."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads any more."""
        if self._writing is not None:
            self._writing.cancel()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        self._received += data
        head_end = self._received.find(HEAD_END)
        if head_end < 0:
            return
        head, start = bytes(self._received[:head_end]), head_end + len(HEAD_END)
        end = start + _content_length(head)
        if len(self._received) >= end:
            body = bytes(self._received[start:end])
            del self._received[:end]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if not head.startswith(b"POST " + PATH):
            self._transport.write(_NOT_FOUND)
            return
        asked = from_json(body)
        if not asked.get("stream"):
            self._transport.write(_whole(asked["max_tokens"]))
        elif asked["model"] == PACED:
            self._writing = asyncio.get_running_loop().create_task(self._paced(asked["max_tokens"]))
        else:
            self._transport.write(_STREAM_HEAD + _chunked(_EVENT % ('{"role":"assistant","content":""}', "null")))
            for _ in range(asked["max_tokens"]):
                self._transport.write(_token())
            self._transport.write(_end(asked["max_tokens"]))

    async def _paced(self, tokens: int) -> None:
        """Writes each token when its time has come, however late the one before was."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._transport.write(_STREAM_HEAD + _chunked(_EVENT % ('{"role":"assistant","content":""}', "null")))
        for n in range(tokens):
            await asyncio.sleep(max(0.0, began_s + n * PACE_S - loop.time()))
            self._transport.write(_token())
        self._transport.write(_end(tokens))


def stamp() -> str:
    """Now, as a token says it."""
    return f"@{time.monotonic_ns()} "


def _content_length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((int(value) for name, _, value in lines if name.strip().lower() == b"content-length"), 0)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}


def _whole(tokens: int) -> bytes:
    message = {"role": "assistant", "content": WORD * tokens, "refusal": None}
    tree = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _usage(tokens),
    }
    body = json.dumps(tree).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _token() -> bytes:
    return _chunked(_EVENT % (f'{{"content":"{stamp()}"}}', "null"))


def _end(tokens: int) -> bytes:
    return b"".join(map(_chunked, _closing(tokens))) + b"0\r\n\r\n"


def _closing(tokens: int) -> Iterator[str]:
    yield _EVENT % ("{}", '"stop"')
    yield f'data: {_OPEN}[],"usage":{json.dumps(_usage(tokens))}}}\n\n'
    yield "data: [DONE]\n\n"


def _chunked(event: str) -> bytes:
    data = event.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve() -> None:
    """Until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
