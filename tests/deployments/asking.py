"""Requests in both dialects, and a raw client that can leave whenever it likes."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGES = "/v1/messages"
CHAT = "/v1/chat/completions"


def body(text: str = "hello", **changes: object) -> dict[str, object]:
    """A body that is right in both dialects."""
    return {"model": "echo", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **changes}


class RawClient:
    """One connection, by hand."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.received = b""

    def post(self, path: str, tree: object) -> None:
        raw = json.dumps(tree).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: shoal\r\ncontent-type: application/json\r\n"
        self.socket.sendall(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)

    def read_until(self, mark: bytes) -> bytes:
        """Everything so far, once `mark` has come."""
        while mark not in self.received:
            part = self.socket.recv(65536)
            assert part, f"closed before {mark!r}: {self.received!r}"
            self.received += part
        return self.received


@contextmanager
def raw_client(address: tuple[str, int]) -> Iterator[RawClient]:
    """A client that leaves at the end of the block, whatever is still under way."""
    client = RawClient(address)
    try:
        yield client
    finally:
        client.socket.close()
