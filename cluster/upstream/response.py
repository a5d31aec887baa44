"""A response as a value: head, timed frames, and how it ends. Whatever plays it needs to know no protocol.

A whole answer is one frame; a stream has one for each event. A frame that carries n tokens comes n token times after
the one before it, and the first that is no comment waits for the time to the first token.
"""

from dataclasses import dataclass
from enum import StrEnum

Headers = tuple[tuple[str, str], ...]


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


def whole(status: int, body: bytes, headers: Headers = (), content_type: str = "application/json") -> Response:
    """A response of one piece."""
    return Response(status, (("content-type", content_type), *headers), (Frame(body),), len(body))
