"""One answer in the chat completions dialect; for a stream, its grammar as a state machine.

    FRESH --begin--> OPEN --Final--> DONE

The first chunk names the role, then come content chunks, one with the finish reason, one with the usage if it was
asked for (its `choices` empty, and `usage: null` in all the others), and `[DONE]`. An error is an event with an `error`
member, and `[DONE]` too, for clients that wait for it. After the end, nothing more is sent whatever is fed.
"""

from collections.abc import Sequence
from enum import Enum, auto
from json import dumps

from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import EngineFailed
from router import sse
from router.call import Answer
from router.openai.errors import error_value

_FINISH_REASONS = {
    Finish.END: "stop",
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.CANCELLED: "length",  # cut short: the nearest word that the dialect has
}
_DONE = b"data: [DONE]\n\n"
_MARK = "\x00"
"""Stands for the text in the prebuilt chunk."""


class _State(Enum):
    FRESH = auto()
    OPEN = auto()
    DONE = auto()


class OpenAIReply:
    """Words one answer; `model` is the name that the caller asked for, `created_s` the Unix time."""

    ping = b": ping\n\n"

    def __init__(self, completion_id: str, model: str, created_s: int, wants_usage: bool = False) -> None:
        self._completion_id = completion_id
        self._model = model
        self._created_s = created_s
        self._wants_usage = wants_usage
        self._state = _State.FRESH
        self._head = self._tail = b""

    def begin(self, prompt_tokens: int) -> bytes:
        """The chunk that names the role. The dialect tells `prompt_tokens` only at the end."""
        assert self._state is _State.FRESH, "begin() comes once, first"
        self._state = _State.OPEN
        # The last one: a caller can name a model like the mark, and the name comes before the content.
        self._head, _, self._tail = self._chunk({"content": _MARK}, None).rpartition(sse.encoded(_MARK))
        return self._chunk({"role": "assistant", "content": ""}, None)

    def feed(self, chunks: Sequence[Chunk]) -> bytes:
        """One content chunk for all the text of `chunks`, and the closing ones after a `Final`."""
        assert self._state is not _State.FRESH, "feed() comes after begin()"
        if self._state is _State.DONE:
            return b""
        text, final = sse.merged(chunks)
        sent = self._head + dumps(text).encode("ascii") + self._tail if text else b""
        return sent if final is None else sent + self._end(final)

    def whole(self, answer: Answer) -> bytes:
        """The body of a reply that is not streamed."""
        message: sse.Json = {"role": "assistant", "content": answer.text, "refusal": None}
        choice: sse.Json = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _FINISH_REASONS[answer.final.finish],
        }
        return sse.encoded(self._envelope("chat.completion", [choice]) | {"usage": _usage(answer.final.usage)})

    def _end(self, final: Final) -> bytes:
        self._state = _State.DONE
        if final.finish in (Finish.ERROR, Finish.CANCELLED) or final.error is not None:
            return sse.data(error_value(final.error or EngineFailed(final.finish))) + _DONE
        closing = self._chunk({}, _FINISH_REASONS[final.finish])
        if self._wants_usage:
            last = self._envelope("chat.completion.chunk", []) | {"usage": _usage(final.usage)}
            closing += sse.data(last)
        return closing + _DONE

    def _chunk(self, delta: dict[str, sse.Json], finish_reason: str | None) -> bytes:
        choice: sse.Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        value = self._envelope("chat.completion.chunk", [choice])
        return sse.data(value | {"usage": None} if self._wants_usage else value)

    def _envelope(self, kind: str, choices: list[sse.Json]) -> dict[str, sse.Json]:
        return {
            "id": self._completion_id,
            "object": kind,
            "created": self._created_s,
            "model": self._model,
            "choices": choices,
        }


def _usage(usage: Usage) -> dict[str, sse.Json]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
