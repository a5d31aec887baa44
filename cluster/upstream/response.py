"""A response as a value: head, timed frames, and how it ends. Whatever plays it needs to know no protocol.

A whole answer is one frame; a stream has one for each event. A frame that carries n tokens comes n token times after
the one before it, and the first that is no comment waits for the time to the first token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter

Headers = tuple[tuple[str, str], ...]
_LAST_CHUNK = b"0\r\n\r\n"


class Ending(StrEnum):
    """How the connection goes on after the last frame."""

    COMPLETE = "complete"
    CUT = "cut"
    RESET = "reset"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that go out together. `tokens` is how many of the answer's tokens they carry.

    `is_turn`: an event that opens or ends something, rather than carrying text of it. `is_comment`: no event.
    """

    data: bytes
    tokens: int = 0
    is_turn: bool = False
    is_comment: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that are due together, `at_s` after the request, as bytes of the body."""

    at_s: float
    data: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Bill:
    """What the provider charges: for the prompt once it is read, for tokens as far as they are written.

    `tokens` is all of them; an answer that was sent to its end is billed for so many.
    """

    prompt_usd: float
    token_usd: float
    tokens: int

    def usd(self, tokens_sent: int | None) -> float:
        """The charge after so many tokens; None: the whole answer."""
        return self.prompt_usd + self.token_usd * (self.tokens if tokens_sent is None else tokens_sent)


@dataclass(frozen=True, slots=True)
class Response:
    """`length` is what the head says of the body; None: chunked. No `bill`: free. `fault`: its kind, for the record."""

    status: int
    headers: Headers
    frames: tuple[Frame, ...]
    length: int | None
    ending: Ending = Ending.COMPLETE
    first_byte_s: float = 0.0
    token_s: float = 0.0
    bill: Bill | None = None
    fault: str | None = None

    @property
    def is_stream(self) -> bool:
        return self.length is None

    def batches(self) -> Iterator[Batch]:
        """The frames with their times. Only the end of a complete stream says that it is one."""
        for at_s, group in groupby(zip(self._times(), self.frames, strict=True), key=itemgetter(0)):
            frames = [frame for _, frame in group]
            data = b"".join(_chunk(frame.data) if self.is_stream else frame.data for frame in frames)
            is_last = frames[-1] is self.frames[-1] and self.is_stream and self.ending is Ending.COMPLETE
            yield Batch(at_s, data + (_LAST_CHUNK if is_last else b""), sum(frame.tokens for frame in frames))

    def _times(self) -> Iterator[float]:
        at_s, has_begun = 0.0, False
        for frame in self.frames:
            if not has_begun and not frame.is_comment:
                at_s, has_begun = self.first_byte_s, True
            at_s += frame.tokens * self.token_s
            yield at_s


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def whole(status: int, body: bytes, headers: Headers = (), content_type: str = "application/json") -> Response:
    """A response of one piece."""
    return Response(status, (("content-type", content_type), *headers), (Frame(body),), len(body))
