"""One answer in the chat completions dialect, of one choice or several; for a stream, its grammar as a state machine.

    FRESH --begin--> OPEN --each choice's Final, or an error--> DONE

The first chunk of each choice names the role, then come chunks with content or pieces of calls, one with the finish
reason; choices come in turns, told apart by their `index`. After the last of them comes the usage if it was asked for
(its `choices` empty, and `usage: null` in all the others), and `[DONE]`. An error is an event with an `error` member,
and `[DONE]` too, for clients that wait for it. After the end, nothing more is sent whatever is fed.
"""

from collections.abc import Sequence
from enum import Enum, auto
from json import dumps, loads

from replicas.engine import Chunk, Final, Finish
from replicas.errors import EngineFailed
from router import sse
from router.answer_id import numbered_id
from router.call import Answer
from router.openai.calls import CallWording
from router.openai.choices import Tally
from router.openai.errors import error_value
from router.openai.logprobs import logprobs_value
from router.openai.request import Wording

FINISH_REASONS = {
    Finish.END: "stop",
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.REFUSED: "content_filter",
    Finish.CANCELLED: "length",  # cut short: the nearest word that the dialect has
}
DONE = b"data: [DONE]\n\n"
_MARK = "\x00"
"""Stands for the text in the prebuilt chunk."""


class _State(Enum):
    FRESH = auto()
    OPEN = auto()
    DONE = auto()


class _Choice:
    """What is known of one choice: `head` and `tail` are around the text of a content chunk."""

    def __init__(self, index: int, calls: CallWording) -> None:
        self.index = index
        self.calls = calls
        self.has_called = False
        self.head = self.tail = b""

    def finish_reason(self, finish: Finish) -> str:
        is_call = self.has_called and finish in (Finish.END, Finish.STOP)
        return self.calls.finish_reason if is_call else FINISH_REASONS[finish]


class OpenAIReply:
    """Words one answer; `model` is the name that the caller asked for, `created_s` the Unix time."""

    ping = b": ping\n\n"

    def __init__(self, completion_id: str, model: str, created_s: int, wording: Wording) -> None:
        self._completion_id = completion_id
        self.model = model
        self._created_s = created_s
        self._wants_usage = wording.wants_usage
        ids = [numbered_id(completion_id, index) for index in range(wording.choices)]
        self._choices = [_Choice(index, CallWording(id_, is_legacy=wording.is_legacy)) for index, id_ in enumerate(ids)]
        self._tally = Tally(wording.choices, wording.choices)
        self._state = _State.FRESH

    def begin(self, prompt_tokens: int) -> bytes:
        """The chunks that name the role. The dialect tells `prompt_tokens` only at the end."""
        assert self._state is _State.FRESH, "begin() comes once, first"
        self._state = _State.OPEN
        for choice in self._choices:
            # The last one: a caller can name a model like the mark, and the name comes before the content.
            filled = self._chunk(choice, {"content": _MARK}, None)
            choice.head, _, choice.tail = filled.rpartition(sse.encoded(_MARK))
        return b"".join(self._chunk(choice, {"role": "assistant", "content": ""}, None) for choice in self._choices)

    def feed(self, chunks: Sequence[Chunk], choice: int = 0) -> bytes:
        """One content chunk for all the text of `chunks` between calls, and the closing ones after a `Final`."""
        assert self._state is not _State.FRESH, "feed() comes after begin()"
        if self._state is _State.DONE or self._tally.has_ended(choice):
            return b""
        runs, final = sse.runs(chunks)
        own = self._choices[choice]
        sent = b"".join(self._run(own, run) for run in runs)
        return sent if final is None else sent + self._end(own, final)

    def whole(self, *answers: Answer) -> bytes:
        """The body of a reply that is not streamed."""
        choices = [self._whole(*each) for each in zip(self._choices, answers, strict=True)]
        return sse.encoded(self._envelope("chat.completion", choices) | {"usage": self._tally.usage()})

    def _whole(self, choice: _Choice, answer: Answer) -> sse.Json:
        choice.has_called = bool(answer.calls)
        self._tally.end(choice.index, answer.final.usage)
        content = answer.text if answer.text or not answer.calls else None
        message: sse.Json = {
            "role": "assistant",
            "content": content,
            "refusal": None,
            **choice.calls.members(answer.calls),
            **_natives(answer),
        }
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs_value(answer.scores) if answer.scores else None,
            "finish_reason": choice.finish_reason(answer.final.finish),
        }

    def _run(self, choice: _Choice, run: sse.Run) -> bytes:
        if run.native is not None and run.native.kind == "openai":
            scores = logprobs_value(run.scores) if run.scores else None
            return self._chunk(choice, loads(run.native.json), None, scores)
        sent = b""
        if run.scores:
            sent = self._chunk(choice, {"content": run.text}, None, logprobs_value(run.scores))
        elif run.text:
            sent = choice.head + dumps(run.text).encode("ascii") + choice.tail
        for piece in run.calls:
            choice.has_called = True
            delta = choice.calls.delta(piece)
            sent += self._chunk(choice, delta, None) if delta is not None else b""
        return sent

    def _end(self, choice: _Choice, final: Final) -> bytes:
        if final.finish in (Finish.ERROR, Finish.CANCELLED) or final.error is not None:
            self._state = _State.DONE
            return sse.data(error_value(final.error or EngineFailed(final.finish))) + DONE
        self._tally.end(choice.index, final.usage)
        closing = self._chunk(choice, {}, choice.finish_reason(final.finish))
        if not self._tally.is_done:
            return closing
        self._state = _State.DONE
        if self._wants_usage:
            last = self._envelope("chat.completion.chunk", []) | {"usage": self._tally.usage()}
            closing += sse.data(last)
        return closing + DONE

    def _chunk(
        self, choice: _Choice, delta: dict[str, sse.Json], finish_reason: str | None, logprobs: sse.Json = None
    ) -> bytes:
        told: sse.Json = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        value = self._envelope("chat.completion.chunk", [told])
        return sse.data(value | {"usage": None} if self._wants_usage else value)

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
