"""The chunks of a streamed chat completion."""

from collections.abc import Iterator

from cluster.upstream.asked import Asked, Dialect, Json
from cluster.upstream.chance import digits
from cluster.upstream.reply import Called, Reply
from cluster.upstream.response import Frame
from cluster.upstream.script import FaultKind
from cluster.upstream.tokens import count, pieces
from cluster.upstream.wire import Telling, compact

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}
CALLS: Json = {"tool_calls": []}
_LOGPROB = -0.125


def completion_id(dialect: Dialect, name: str) -> str:
    """The id of an answer."""
    return f"gen-{name}" if dialect is Dialect.OPENROUTER else f"chatcmpl-{name}"


def call_id(telling: Telling, at: int) -> str:
    """The id of the call that is number `at` of an answer."""
    return f"call_{digits(telling.name, at)}"


def logprobs(tokens: list[str], top: int) -> Json:
    """Made-up log-probabilities in the right form: each token is likely, and so are `top` others in its place."""
    entries = []
    for token in tokens:
        others = [token, *(f" {rank}" for rank in range(1, top))][:top]
        entries.append({**_entry(token, 0), "top_logprobs": [_entry(other, rank) for rank, other in enumerate(others)]})
    return {"content": entries, "refusal": None}


def _entry(token: str, rank: int) -> Json:
    return {"token": token, "logprob": _LOGPROB - rank, "bytes": list(token.encode())}


class Chunks:
    """Makes the chunks of one answer."""

    def __init__(self, asked: Asked, telling: Telling) -> None:
        self._asked = asked
        self._telling = telling
        self._head: Json = {
            "id": completion_id(asked.dialect, telling.name),
            "object": "chat.completion.chunk",
            "created": telling.created_s,
            "model": asked.model,
        }

    def chunk(
        self, index: int, delta: Json, finish: str | None = None, tokens: int = 0, is_turn: bool = False
    ) -> Frame:
        """A chunk of the choice `index`."""
        choice: Json = {"index": index, "delta": delta, "finish_reason": finish}
        if self._asked.top_logprobs is not None:
            text = delta.get("content")
            words = [text] if isinstance(text, str) and text else []
            choice["logprobs"] = logprobs(words, self._asked.top_logprobs) if words else None
        usage = {"usage": None} if self._asked.is_usage_wanted and self._asked.dialect is Dialect.OPENAI else {}
        return self._frame(self._head | {"choices": [choice]} | usage, tokens, is_turn)

    def last(self, usage: Json) -> Frame:
        """The chunk after the last choice."""
        return self._frame(self._head | {"choices": [], "usage": usage}, 0, True)

    def words(self, index: int, reply: Reply) -> Iterator[Frame]:
        """Reasoning, then text."""
        for piece in pieces(reply.thinking):
            yield self.chunk(index, {"content": "", "reasoning": piece}, tokens=1)
        beside = CALLS if self._telling.quirk is FaultKind.EMPTY_CALLS else {}
        is_refusal = reply.stop == "refusal" and self._asked.dialect is Dialect.OPENAI
        for piece in pieces(reply.text):
            yield self.chunk(index, {"refusal" if is_refusal else "content": piece, **beside}, tokens=1)

    def calls(self, index: int, calls: tuple[Called, ...]) -> Iterator[Frame]:
        """Calls one after the other, or, as a quirk, their fragments in turns."""
        fragments = [list(self._fragments(index, at, call)) for at, call in enumerate(calls)]
        if self._telling.quirk is not FaultKind.INTERLEAVED_CALLS:
            for parts in fragments:
                yield from parts
            return
        for step in range(max((len(parts) for parts in fragments), default=0)):
            yield from (parts[step] for parts in fragments if step < len(parts))

    def _fragments(self, index: int, at: int, call: Called) -> Iterator[Frame]:
        first: Json = {"index": at, "id": call_id(self._telling, at), "type": "function"}
        quirk = self._telling.quirk
        if quirk in (FaultKind.WHOLE_ARGUMENTS, FaultKind.OBJECT_ARGUMENTS):
            arguments = call.input if quirk is FaultKind.OBJECT_ARGUMENTS else call.arguments
            function: Json = {"name": call.name, "arguments": arguments}
            yield self.chunk(index, {"tool_calls": [first | {"function": function}]}, tokens=count(call.arguments))
            return
        opening: Json = {"tool_calls": [first | {"function": {"name": call.name, "arguments": ""}}]}
        yield self.chunk(index, opening, is_turn=True)
        for piece in pieces(call.arguments):
            yield self.chunk(index, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}, tokens=1)

    @staticmethod
    def _frame(tree: Json, tokens: int, is_turn: bool) -> Frame:
        return Frame(f"data: {compact(tree)}\n\n".encode(), tokens, is_turn)
