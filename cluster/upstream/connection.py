"""One TCP connection: HTTP/1.1 in (by h11), responses out byte by byte as written, with the faults a socket can have.

A request that arrives while an answer is under way waits for it. The answer is a task of its own, and a client that
goes away ends it. Bytes are noted in the ledger as they come, before anything looks at them.
"""

import asyncio
import logging
import socket
import struct
from dataclasses import dataclass, field

import h11

from cluster.upstream.asked import Problem
from cluster.upstream.ledger import Entry, Ledger, Outcome
from cluster.upstream.request import Request
from cluster.upstream.response import Ending, Response, whole
from cluster.upstream.service import CONTROL, Service

BODY_LIMIT_BYTES = 64 * 1024 * 1024
HEAD_LIMIT_BYTES = 64 * 1024
SILENCE_S = 600.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Incoming:
    """A request that is being read."""

    entry: Entry
    parser: h11.Connection = field(default_factory=lambda: h11.Connection(h11.SERVER, HEAD_LIMIT_BYTES))
    head: h11.Request | None = None
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """Serves one client after the other's requests. `live` holds the connections that are open."""

    def __init__(self, service: Service, ledger: Ledger, live: "set[Connection]") -> None:
        self._service = service
        self._ledger = ledger
        self._live = live
        self._incoming: _Incoming | None = None
        self._pending = b""
        self._task: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._live.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._live.discard(self)
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()
        elif self._incoming is not None:
            self._ledger.end(self._incoming.entry, Outcome.BROKEN_OFF)
        if self._task is not None and self._pending:  # bytes behind a request that is still being answered
            entry = self._ledger.begin()
            entry.raw += self._pending
            self._ledger.end(entry, Outcome.BROKEN_OFF)

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            self._pending += data
            if len(self._pending) > BODY_LIMIT_BYTES:
                self.close()
            return
        if self._incoming is None:
            self._incoming = _Incoming(self._ledger.begin())
        self._incoming.entry.raw += data
        self._incoming.parser.receive_data(data)
        try:
            self._read(self._incoming)
        except h11.RemoteProtocolError as error:
            self._refuse(self._incoming, Problem(error.error_status_hint, str(error)))

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    async def ended(self) -> None:
        """Wait for the answer that is under way, if there is one."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _read(self, incoming: _Incoming) -> None:
        while True:
            event = incoming.parser.next_event()
            if isinstance(event, h11.Request):
                incoming.head = event
            elif isinstance(event, h11.Data):
                incoming.body += event.data
                if len(incoming.body) > BODY_LIMIT_BYTES:
                    self._refuse(incoming, Problem(413, "Request exceeds the maximum size"))
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._start(incoming)
                return
            else:
                if event is h11.NEED_DATA and incoming.parser.they_are_waiting_for_100_continue:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return

    def _start(self, incoming: _Incoming) -> None:
        assert incoming.head is not None
        self._pending, _ = incoming.parser.trailing_data
        entry = incoming.entry
        del entry.raw[len(entry.raw) - len(self._pending) :]
        entry.method, entry.target = incoming.head.method.decode(), incoming.head.target.decode("latin-1")
        for raw_name, raw_value in incoming.head.headers:
            name, value = raw_name.decode().lower(), raw_value.decode("latin-1")
            entry.headers[name] = f"{entry.headers[name]}, {value}" if name in entry.headers else value
        entry.body = bytes(incoming.body)
        self._task = asyncio.get_running_loop().create_task(self._serve(entry))

    def _refuse(self, incoming: _Incoming, problem: Problem) -> None:
        """Answer what is no request, and hang up."""
        incoming.entry.status = problem.status
        response = whole(problem.status, problem.message.encode(), (("connection", "close"),), "text/plain")
        self._transport.write(_head(response) + response.frames[0].data)
        self._ledger.end(incoming.entry, Outcome.BROKEN_OFF)
        self._incoming = None
        self._transport.close()

    async def _serve(self, entry: Entry) -> None:
        request = Request(entry.method, entry.target, entry.headers, entry.body)
        is_control = request.path.startswith(CONTROL)
        outcome = Outcome.CLIENT_GONE
        try:
            if is_control:
                self._ledger.discard(entry)
            try:
                response = self._service.control(request) if is_control else self._service.answer(request, entry)
            except Exception:
                log.exception("the upstream has a bug: request %d", entry.number)
                response = whole(500, b"the upstream has a bug; its log says which", (), "text/plain")
            entry.status, entry.fault = response.status or None, response.fault
            outcome = await self._play(response, entry, request.method == "HEAD")
        finally:
            if not is_control:
                self._ledger.end(entry, outcome)
        if outcome is Outcome.ANSWERED:
            self._next(entry.headers.get("connection", "").lower() == "close")

    async def _play(self, response: Response, entry: Entry, is_head: bool) -> Outcome:
        loop = asyncio.get_running_loop()
        start = loop.time()
        head = _head(response)
        for batch in response.batches():
            if start + batch.at_s > loop.time():
                await asyncio.sleep(start + batch.at_s - loop.time())
            self._transport.write(head + (b"" if is_head else batch.data))
            head = b""
            entry.tokens_sent += batch.tokens
            if response.bill is not None:  # a whole answer was generated to its end before its first byte
                entry.billed_usd = response.bill.usd(entry.tokens_sent if response.is_stream else None)
            await self._can_write.wait()
        return await self._finish(response, entry)

    async def _finish(self, response: Response, entry: Entry) -> Outcome:
        if response.ending is Ending.COMPLETE:
            if response.bill is not None:
                entry.billed_usd = response.bill.usd(None)
            return Outcome.ANSWERED
        if response.ending is Ending.SILENCE:
            await asyncio.sleep(SILENCE_S)
        if response.ending is Ending.RESET:
            _lose(self._transport)
            self._transport.abort()
        self._transport.close()
        return Outcome.CUT

    def _next(self, is_last: bool) -> None:
        """Be ready for the next request on this connection."""
        self._task, self._incoming = None, None
        if is_last:
            self._transport.close()
            return
        pending, self._pending = self._pending, b""
        if pending:
            self.data_received(pending)


def _head(response: Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Upstream')}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append("transfer-encoding: chunked" if response.length is None else f"content-length: {response.length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _lose(transport: asyncio.Transport) -> None:
    """Have the socket send RST and not FIN when it is closed."""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
