"""One answer in the Messages dialect; for a stream, its grammar as a state machine.

    FRESH --begin--> OPEN --Final, or an error--> DONE

`message_start` opens the message; text goes into one block, each call into one of its own, in order and closed before
the next (router/anthropic/blocks.py); `message_delta`, `message_stop` close. An answer with nothing in it still gets an
empty text block: callers read `content[0]`. An `error` event ends the stream at any point; after the end, nothing more
is sent whatever is fed.
"""

from collections.abc import Sequence
from enum import Enum, auto

from replicas.cloud.answer import CloudFinal
from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import EngineFailed
from router import sse
from router.anthropic.blocks import Blocks
from router.anthropic.errors import error_value
from router.call import Answer

_STOP_REASONS = {
    Finish.END: "end_turn",
    Finish.STOP: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.CONTEXT: "model_context_window_exceeded",
    Finish.REFUSED: "refusal",
    Finish.CANCELLED: "max_tokens",  # cut short: the nearest word that the dialect has
}
_MESSAGE_STOP = sse.event("message_stop", {"type": "message_stop"})


class _State(Enum):
    FRESH = auto()
    OPEN = auto()
    DONE = auto()


class AnthropicReply:
    """Words one answer; `model` is the name that the caller asked for."""

    ping = sse.event("ping", {"type": "ping"})

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id = message_id
        self.model = model
        self._state = _State.FRESH
        self._blocks = Blocks(message_id)

    def begin(self, prompt_tokens: int) -> bytes:
        """`message_start`. What the cache held is not known yet: the closing usage corrects the counts."""
        assert self._state is _State.FRESH, "begin() comes once, first"
        self._state = _State.OPEN
        message = self._message([], None, None, Usage(prompt_tokens, 0))
        return sse.event("message_start", {"type": "message_start", "message": message})

    def feed(self, chunks: Sequence[Chunk], choice: int = 0) -> bytes:
        """One delta for all the text of `chunks` between calls, and the closing events after a `Final`."""
        assert self._state is not _State.FRESH, "feed() comes after begin()"
        if self._state is _State.DONE:
            return b""
        runs, final = sse.runs(chunks)
        sent = b"".join(map(self._blocks.events, runs))
        return sent if final is None else sent + self._end(final)

    def whole(self, *answers: Answer) -> bytes:
        """The body of a reply that is not streamed."""
        [answer] = answers  # the dialect knows no second choice
        final = answer.final
        content = self._blocks.whole(answer)
        reason = _stop_reason(final, has_called=bool(answer.calls))
        message = self._message(content, reason, final.stop_sequence, final.usage)
        return sse.encoded(message | {"usage": _final_usage(final)})

    def _end(self, final: Final) -> bytes:
        self._state = _State.DONE
        if final.finish in (Finish.ERROR, Finish.CANCELLED) or final.error is not None:
            return sse.event("error", error_value(final.error or EngineFailed(final.finish)))
        reason = _stop_reason(final, has_called=self._blocks.has_called)
        delta: sse.Json = {"stop_reason": reason, "stop_sequence": final.stop_sequence}
        closing = sse.event("message_delta", {"type": "message_delta", "delta": delta, "usage": _final_usage(final)})
        return self._blocks.close() + closing + _MESSAGE_STOP

    def _message(
        self, content: Sequence[sse.Json], stop_reason: str | None, stop_sequence: str | None, usage: Usage
    ) -> dict[str, sse.Json]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": _usage(usage),
        }


def _stop_reason(final: Final, *, has_called: bool) -> str:
    """`pause_turn` is a cloud's alone: its caller is to send the turn back, and the cloud goes on with it."""
    if isinstance(final, CloudFinal) and final.reason == "pause_turn":
        return final.reason
    is_call = has_called and final.finish in (Finish.END, Finish.STOP)
    return "tool_use" if is_call else _STOP_REASONS[final.finish]


def _final_usage(final: Final) -> dict[str, sse.Json]:
    """The counts, and of a cloud's answer also what was written to its cache, which costs more than plain input."""
    write = final.spent.cache_write if isinstance(final, CloudFinal) else 0
    usage = _usage(final.usage)
    fresh = final.usage.prompt - final.usage.cached - write
    return usage | {"input_tokens": fresh, "cache_creation_input_tokens": write}


def _usage(usage: Usage) -> dict[str, sse.Json]:
    """All four counts, always: clients add them up. `input_tokens` is what the cache did not hold."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.generated,
    }
