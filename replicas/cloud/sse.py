"""Server-sent events out of bytes, however they are cut: lines end in LF, CRLF or CR, comments are skipped.

Only the ends of lines that the standard names count: `str.splitlines` would break an event at a U+2028 in its text.
"""

from dataclasses import dataclass

EVENT_LIMIT_BYTES = 16 * 1024 * 1024
"""A choice: no event of an answer is near it, and a service that never ends a line must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `name` is empty where none was given."""

    name: str
    data: str


class EventParser:
    """Reads one stream. Raises ValueError for bytes that are no UTF-8, and for an event past the limit."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._size_bytes = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. One that the stream's end leaves without its blank line is none."""
        lines = self._lines(data)
        return [event for line in lines if (event := self._line(line)) is not None]

    def _lines(self, data: bytes) -> list[bytes]:
        text = self._rest + data
        # A CR at the end may be half of a CRLF.
        held = b"\r" if text.endswith(b"\r") else b""
        *lines, rest = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = rest + held
        if len(self._rest) + self._size_bytes > EVENT_LIMIT_BYTES:
            raise ValueError("an event is too large")
        return lines

    def _line(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size_bytes = "", [], 0
            return event
        field, _, value = line.decode("utf-8").partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
            self._size_bytes += len(line)
        elif field == "event":
            self._name = value.removeprefix(" ")
        return None
