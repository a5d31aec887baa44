"""One answer in the chat completions dialect; for a stream, its grammar as a state machine.

    FRESH --begin--> OPEN --Final--> DONE

The first chunk names the role, then come chunks with content or pieces of calls, one with the finish reason, one with
the usage if it was asked for (its `choices` empty, and `usage: null` in all the others), and `[DONE]`. An error is an
event with an `error` member, and `[DONE]` too, for clients that wait for it. After the end, nothing more is sent
whatever is fed.
"""

from collections.abc import Sequence
from enum import Enum, auto
from json import dumps, loads

from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import EngineFailed
from router import sse
from router.call import Answer
from router.openai.calls import CallWording
from router.openai.errors import error_value
from router.openai.logprobs import logprobs_value
from router.openai.request import Wording

_FINISH_REASONS = {
    Finish.END: "stop",
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.REFUSED: "content_filter",
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

    def __init__(self, completion_id: str, model: str, created_s: int, wording: Wording) -> None:
        self._completion_id = completion_id
        self.model = model
        self._created_s = created_s
        self._wording = wording
        self._calls = CallWording(completion_id, is_legacy=wording.is_legacy)
        self._has_called = False
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
        """One content chunk for all the text of `chunks` between calls, and the closing ones after a `Final`."""
        assert self._state is not _State.FRESH, "feed() comes after begin()"
        if self._state is _State.DONE:
            return b""
        runs, final = sse.runs(chunks)
        sent = b"".join(map(self._run, runs))
        return sent if final is None else sent + self._end(final)

    def whole(self, answer: Answer) -> bytes:
        """The body of a reply that is not streamed."""
        self._has_called = bool(answer.calls)
        content = answer.text if answer.text or not answer.calls else None
        message: sse.Json = {
            "role": "assistant",
            "content": content,
            "refusal": None,
            **self._calls.members(answer.calls),
            **_natives(answer),
        }
        choice: sse.Json = {
            "index": 0,
            "message": message,
            "logprobs": logprobs_value(answer.scores) if answer.scores else None,
            "finish_reason": self._finish_reason(answer.final.finish),
        }
        return sse.encoded(self._envelope("chat.completion", [choice]) | {"usage": _usage(answer.final.usage)})

    def _run(self, run: sse.Run) -> bytes:
        if run.native is not None and run.native.kind == "openai":
            return self._chunk(loads(run.native.json), None, logprobs_value(run.scores) if run.scores else None)
        sent = b""
        if run.scores:
            sent = self._chunk({"content": run.text}, None, logprobs_value(run.scores))
        elif run.text:
            sent = self._head + dumps(run.text).encode("ascii") + self._tail
        for piece in run.calls:
            self._has_called = True
            delta = self._calls.delta(piece)
            sent += self._chunk(delta, None) if delta is not None else b""
        return sent

    def _finish_reason(self, finish: Finish) -> str:
        is_call = self._has_called and finish in (Finish.END, Finish.STOP)
        return self._calls.finish_reason if is_call else _FINISH_REASONS[finish]

    def _end(self, final: Final) -> bytes:
        self._state = _State.DONE
        if final.finish in (Finish.ERROR, Finish.CANCELLED) or final.error is not None:
            return sse.data(error_value(final.error or EngineFailed(final.finish))) + _DONE
        closing = self._chunk({}, self._finish_reason(final.finish))
        if self._wording.wants_usage:
            last = self._envelope("chat.completion.chunk", []) | {"usage": _usage(final.usage)}
            closing += sse.data(last)
        return closing + _DONE

    def _chunk(self, delta: dict[str, sse.Json], finish_reason: str | None, logprobs: sse.Json = None) -> bytes:
        choice: sse.Json = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        value = self._envelope("chat.completion.chunk", [choice])
        return sse.data(value | {"usage": None} if self._wording.wants_usage else value)

    def _envelope(self, kind: str, choices: list[sse.Json]) -> dict[str, sse.Json]:
        return {
            "id": self._completion_id,
            "object": kind,
            "created": self._created_s,
            "model": self.model,
            "choices": choices,
        }


def _natives(answer: Answer) -> dict[str, sse.Json]:
    """The members that a cloud of this dialect gave beyond ours, its deltas put together. A refusal is no content."""
    found: dict[str, sse.Json] = {}
    for native in [native for _, native in answer.natives if native.kind == "openai"]:
        for name, value in loads(native.json).items():
            is_more = name in found and isinstance(value, str | list)
            found[name] = found[name] + value if is_more else value
    return found | ({"content": None} if "refusal" in found else {})


def _usage(usage: Usage) -> dict[str, sse.Json]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
