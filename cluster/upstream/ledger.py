"""Every byte that came in, request by request, with what became of it: proof of what did and did not leave a client.

A request is noted with its first byte, so one that broke off is there too. Bounded: past the limit the oldest are
forgotten and counted. With a file, each request becomes a line of it once it is over.
"""

import base64
import json
import os
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from cluster.upstream.asked import Json
from cluster.upstream.reply import Usage
from replicas.errors import SettingsError

LIMIT_BYTES = 256 * 1024 * 1024


class Outcome(StrEnum):
    """How a request ended. `BROKEN_OFF`: before it was there in full. `CUT`: the script cut the answer."""

    UNDER_WAY = "under_way"
    ANSWERED = "answered"
    CUT = "cut"
    CLIENT_GONE = "client_gone"
    BROKEN_OFF = "broken_off"


@dataclass(slots=True, eq=False)
class Entry:
    """One request. `raw` is all of it, head and body, as it came. `usage` is the true one, whatever was claimed.

    `tokens_sent` of the answer were given to the connection, and `billed_usd` is what a provider would charge for it.
    """

    number: int
    arrived_at: float
    raw: bytearray = field(default_factory=bytearray)
    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    model: str | None = None
    status: int | None = None
    fault: str | None = None
    usage: Usage | None = None
    tokens_sent: int = 0
    billed_usd: float = 0.0
    outcome: Outcome = Outcome.UNDER_WAY

    def tree(self, has_raw: bool = True) -> Json:
        """As JSON; `raw` in base64, `body` as JSON where it is."""
        usage = None
        if self.usage is not None:
            usage = {name: getattr(self.usage, name) for name in Usage.__slots__}
        return {
            "number": self.number,
            "arrived_at": self.arrived_at,
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "body": _decoded(self.body),
            "model": self.model,
            "status": self.status,
            "fault": self.fault,
            "usage": usage,
            "tokens_sent": self.tokens_sent,
            "billed_usd": self.billed_usd,
            "outcome": self.outcome,
        } | ({"raw": base64.b64encode(self.raw).decode()} if has_raw else {})


class Ledger:
    """All entries. Not for several threads. `path` is appended to, readable by its owner only: keys are in it."""

    def __init__(self, path: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._entries: deque[Entry] = deque()  # oldest first
        self._limit_bytes = limit_bytes
        self._kept_bytes = 0
        self._began = 0
        self._file = _opened(path) if path else None
        self.dropped = 0

    def begin(self) -> Entry:
        """A new entry, for a request whose first bytes are here."""
        self._began += 1
        entry = Entry(self._began, time.time())
        self._entries.append(entry)
        return entry

    def end(self, entry: Entry, outcome: Outcome) -> None:
        """Note how the request ended."""
        entry.outcome = outcome
        self._kept_bytes += len(entry.raw)
        while self._kept_bytes > self._limit_bytes and self._entries[0].outcome is not Outcome.UNDER_WAY:
            self._kept_bytes -= len(self._entries.popleft().raw)
            self.dropped += 1
        if self._file is not None:
            self._file.write(json.dumps(entry.tree()) + "\n")
            self._file.flush()

    def discard(self, entry: Entry) -> None:
        """Forget that `entry` began."""
        self._entries.remove(entry)

    def entries(self) -> list[Entry]:
        """Those that are kept, oldest first."""
        return list(self._entries)

    def forget(self) -> None:
        """Drop all that are over; `dropped` begins anew."""
        self._entries = deque(entry for entry in self._entries if entry.outcome is Outcome.UNDER_WAY)
        self._kept_bytes = 0
        self.dropped = 0

    def tree(self, has_raw: bool) -> Json:
        """All of it as JSON, with the sums."""
        return {
            "count": len(self._entries),
            "dropped": self.dropped,
            "billed_usd": sum(entry.billed_usd for entry in self._entries),
            "requests": [entry.tree(has_raw) for entry in self._entries],
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _opened(path: Path) -> TextIO:
    try:
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
