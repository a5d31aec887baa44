"""Answers in OpenAI's chat completions protocol as chunks, from OpenAI, OpenRouter and the many that speak nearly so.

The finish reason and the usage come in chunks of their own, in either order, and may come twice; an error may come with
HTTP 200, in the middle. Null and empty members mean nothing, `finish_reason: "stop"` beside calls does no harm. What
chunks have no words for (reasoning, refusals, annotations) comes along as `Native` pieces.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import zip_longest

from replicas.cloud.answer import CloudChunk, CloudFinal, Native, Spent
from replicas.cloud.calls import CallOrder, Fragment
from replicas.cloud.errors import CloudBroken
from replicas.cloud.fields import Fields, count, counted, fields, number, objects, parsed, text, written
from replicas.cloud.refusal import told
from replicas.cloud.sse import Event
from replicas.engine import Chunk, Finish, Scored, TokenScore, Usage
from replicas.errors import ShoalError

DONE = "[DONE]"
NO_TOKEN = -1
"""The id of a scored token: the protocol has none."""

_FINISHES = {"length": Finish.LENGTH, "content_filter": Finish.REFUSED}
_NATIVE = ("reasoning", "reasoning_content", "reasoning_details", "refusal", "annotations", "audio", "images")


class CompletionsReader:
    """Reads one answer; its chunks have the id `id_`, its errors name the pool `cloud`."""

    def __init__(self, cloud: str, id_: str) -> None:
        self._cloud = cloud
        self.id = id_
        self._calls = CallOrder()
        self._held: list[Chunk] = []  # came within a call: told after it
        self._model = self.reason = ""
        self._has_refused = False
        self._deltas = 0
        self._logprobs: list[float] = []
        self._spent: Spent | None = None
        self.is_done = False

    @property
    def spent(self) -> Spent:
        """What the answer has used so far: until the cloud counts, each piece of it is taken for a token."""
        return self._spent or Spent(Usage(0, self._deltas))

    def event(self, event: Event) -> list[Chunk]:
        """The chunks of an event."""
        if event.data.strip() == DONE:
            self.is_done = True
            return []
        return self._completion(parsed(self._cloud, event.data), "delta")

    def whole(self, body: bytes) -> list[Chunk]:
        """The chunks of a whole completion."""
        return self._completion(parsed(self._cloud, body), "message")

    def end(self) -> list[Chunk]:
        """The last calls, then the last chunk."""
        if not self.reason or self._calls.has_nameless:
            raise CloudBroken(self._cloud, "the answer broke off")
        pieces = [CloudChunk(self.id, "", 0, call=piece) for piece in self._calls.end()]
        finish = Finish.REFUSED if self._has_refused else _FINISHES.get(self.reason, Finish.END)
        final = CloudFinal(
            finish=finish,
            usage=self.spent.usage,
            mean_logprob=sum(self._logprobs) / len(self._logprobs) if self._logprobs else None,
            min_logprob=min(self._logprobs, default=None),
            reason=self.reason,
            model=self._model,
            spent=self.spent,
        )
        return [*pieces, *self._held, CloudChunk(self.id, "", 0, final)]

    def _failed(self, error: object) -> ShoalError:
        """The cloud says that it has failed."""
        self._spent = replace(self.spent, cost_usd=0.0)
        return told(self._cloud, error)

    def _completion(self, value: Fields, member: str) -> list[Chunk]:
        if value.get("error"):
            raise self._failed(value["error"])
        self._model = text(value.get("model")) or self._model
        chunks: list[Chunk] = []
        for choice in objects(value.get("choices")):
            if count(choice.get("index")) == 0:
                bare = choice.get("text")  # of the older completions
                chunks += self._choice(choice, fields(choice.get(member)) if bare is None else {"content": bare})
        self._count(value.get("usage"))
        return chunks

    def _choice(self, choice: Fields, delta: Fields) -> list[Chunk]:
        if choice.get("error"):
            raise self._failed(choice["error"])
        self.reason = text(choice.get("finish_reason")) or self.reason
        if self.reason == "error":
            self._spent = replace(self.spent, cost_usd=0.0)
            raise CloudBroken(self._cloud, "the answer ended in an error")
        said = self._said(delta, _scores(choice.get("logprobs")))
        pieces = [piece for fragment in _fragments(delta) for piece in self._calls.take(fragment)]
        self._deltas += bool(pieces)
        return [*said, *(CloudChunk(self.id, "", 1, call=piece) for piece in pieces)]

    def _said(self, delta: Fields, scores: tuple[TokenScore, ...]) -> list[Chunk]:
        """What `delta` says, unless a call is under way: then it is held, and told after it."""
        refusal, native = text(delta.get("refusal")), {key: delta[key] for key in _NATIVE if delta.get(key)}
        words = _words(delta.get("content")) + refusal
        self._has_refused = self._has_refused or bool(refusal)
        self._logprobs += [score.chosen.logprob for score in scores]
        if not words and not native and not scores:
            return []
        self._deltas += 1
        piece = Native("openai", "delta", written(native)) if native else None
        # A reply in this dialect words a native piece and not its text: text beside reasoning is a chunk of its own.
        both = words != refusal and piece is not None
        texts = [CloudChunk(self.id, words, 1, scores=scores, native=None if both else piece)]
        chunks: list[Chunk] = [CloudChunk(self.id, "", 0, native=piece), *texts] if both else [*texts]
        if not self._calls.is_open:
            return chunks
        self._held += chunks
        return []

    def _count(self, value: object) -> None:
        if not isinstance(value, Mapping):
            return
        details = fields(value.get("prompt_tokens_details"))
        prompt = count(value.get("prompt_tokens"))
        cached = min(count(details.get("cached_tokens")), prompt)
        write = min(count(details.get("cache_write_tokens")), prompt - cached)
        usage = Usage(prompt, count(value.get("completion_tokens")), cached)
        cost_usd = number(value.get("cost"))
        is_counted = prompt > 0 and counted(value.get("completion_tokens")) is not None
        is_settled = bool(self.reason) and (is_counted or cost_usd is not None)
        self._spent = Spent(usage, write, cost_usd=cost_usd, is_settled=is_settled)


def _words(content: object) -> str:
    """Content as text: a string, or parts of which the texts count."""
    if isinstance(content, str):
        return content
    return "".join(text(part.get("text")) for part in objects(content))


def _fragments(delta: Fields) -> list[Fragment]:
    legacy = fields(delta.get("function_call"))
    calls = objects(delta.get("tool_calls")) + ([{"index": 0, "function": legacy}] if legacy else [])
    return [_fragment(call) for call in calls]


def _fragment(call: Fields) -> Fragment:
    function = fields(call.get("function"))
    arguments = function.get("arguments")
    index = call.get("index")
    return Fragment(
        index if isinstance(index, int) else None,
        text(call.get("id")),
        text(function.get("name")),
        written(arguments) if isinstance(arguments, dict) else text(arguments),
    )


def _scores(value: object) -> tuple[TokenScore, ...]:
    told = fields(value)
    tokens = objects(told.get("content")) or _side_by_side(told)
    return tuple(
        TokenScore(_scored(token), tuple(_scored(top) for top in objects(token.get("top_logprobs"))))
        for token in tokens
    )


def _side_by_side(value: Fields) -> list[Fields]:
    """The scores of the older completions, which are lists side by side, in the newer form."""
    lists = [value.get(name) for name in ("tokens", "token_logprobs", "top_logprobs")]
    tokens, logprobs, tops = (one if isinstance(one, list) else [] for one in lists)
    found: list[Fields] = []
    for token, logprob, top in zip_longest(tokens, logprobs, tops):
        likeliest = [{"token": name, "logprob": score} for name, score in fields(top).items()]
        found.append({"token": token, "logprob": logprob, "top_logprobs": likeliest})
    return found


def _scored(token: Fields) -> Scored:
    logprob, bytes_ = token.get("logprob"), token.get("bytes")
    is_bytes = isinstance(bytes_, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in bytes_)
    said = bytes(bytes_) if is_bytes and isinstance(bytes_, list) else text(token.get("token")).encode()
    return Scored(NO_TOKEN, said, float(logprob) if isinstance(logprob, int | float) else 0.0)
