"""OpenAI's side of the seam: chat completions whole and in chunks, errors in its words and in OpenRouter's."""

from collections.abc import Iterator

from cluster.upstream.asked import Asked, Dialect, Json, Problem
from cluster.upstream.openai.chunks import CALLS, FINISHES, Chunks, call_id, completion_id, logprobs
from cluster.upstream.openai.reading import read
from cluster.upstream.reply import Reply, Usage
from cluster.upstream.response import Frame
from cluster.upstream.script import FaultKind
from cluster.upstream.tokens import pieces
from cluster.upstream.wire import Telling, compact

COMMENT = Frame(b": OPENROUTER PROCESSING\n\n", is_comment=True)
_CODES = {401: "invalid_api_key", 404: "model_not_found", 413: "request_too_large", 429: "rate_limit_exceeded"}


class OpenAIWire:
    """Chat completions in `dialect`, OpenAI's own or OpenRouter's."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def read(self, body: Json) -> Asked:
        return read(body, self._dialect)

    def write(self, asked: Asked, reply: Reply, telling: Telling) -> tuple[Frame, ...]:
        if not asked.is_stream:
            return (_whole(asked, reply, telling),)
        return tuple(_stream(asked, reply, telling))

    def error(self, problem: Problem, is_event: bool, name: str) -> bytes:
        if self._dialect is Dialect.OPENROUTER:
            inner: Json = {"code": problem.status, "message": problem.message}
            tree: Json = {"error": inner, "user_id": "user_upstream"}
            if is_event:
                choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
                tree = {
                    "id": completion_id(self._dialect, name),
                    "object": "chat.completion.chunk",
                    "error": inner,
                    "choices": [choice],
                }
        else:
            kind = problem.kind or ("server_error" if problem.status >= 500 else "invalid_request_error")
            code = "context_length_exceeded" if problem.kind == "context" else _CODES.get(problem.status)
            kind = "invalid_request_error" if problem.kind == "context" else kind
            tree = {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": code}}
        return f"data: {compact(tree)}\n\n".encode() if is_event else compact(tree).encode()


def usage_tree(asked: Asked, usage: Usage, cost_usd: float) -> Json:
    """What an answer has used, as the protocol tells it."""
    tree: Json = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking},
    }
    return tree | ({"cost": cost_usd} if asked.dialect is Dialect.OPENROUTER else {})


def _whole(asked: Asked, reply: Reply, telling: Telling) -> Frame:
    is_refusal = reply.stop == "refusal" and asked.dialect is Dialect.OPENAI
    message: Json = {
        "role": "assistant",
        "content": None if is_refusal or (reply.calls and not reply.text) else reply.text,
        "refusal": reply.text if is_refusal else None,
    }
    if reply.thinking:
        message["reasoning"] = reply.thinking
    if reply.calls or telling.quirk is FaultKind.EMPTY_CALLS:
        message["tool_calls"] = [
            {"id": call_id(telling, at), "type": "function", "function": {"name": c.name, "arguments": arguments}}
            for at, c in enumerate(reply.calls)
            for arguments in [c.input if telling.quirk is FaultKind.OBJECT_ARGUMENTS else c.arguments]
        ]
    finish = "stop" if telling.quirk is FaultKind.STOP_WITH_CALLS and reply.calls else FINISHES[reply.stop]
    words = None if asked.top_logprobs is None else logprobs(pieces(reply.text), asked.top_logprobs)
    choice = {"message": message, "logprobs": words, "finish_reason": finish}
    tree: Json = {
        "id": completion_id(asked.dialect, telling.name),
        "object": "chat.completion",
        "created": telling.created_s,
        "model": asked.model,
        "choices": [{"index": index, **choice} for index in range(asked.choices)],
    }
    if telling.usage is not None:
        tree["usage"] = usage_tree(asked, telling.usage, telling.cost_usd)
    return Frame(compact(tree).encode(), reply.usage.output)


def _stream(asked: Asked, reply: Reply, telling: Telling) -> Iterator[Frame]:
    chunks = Chunks(asked, telling)
    is_router = asked.dialect is Dialect.OPENROUTER
    if is_router:
        yield COMMENT
    for index in range(asked.choices):
        yield chunks.chunk(index, {"role": "assistant", "content": "", "refusal": None}, is_turn=True)
        yield from chunks.words(index, reply)
        if is_router:
            yield COMMENT
        yield from chunks.calls(index, reply.calls)
        finish = "stop" if telling.quirk is FaultKind.STOP_WITH_CALLS and reply.calls else FINISHES[reply.stop]
        yield chunks.chunk(index, CALLS if telling.quirk is FaultKind.EMPTY_CALLS else {}, finish, is_turn=True)
    if asked.is_usage_wanted and telling.usage is not None:
        yield chunks.last(usage_tree(asked, telling.usage, telling.cost_usd))
    yield Frame(b"data: [DONE]\n\n", is_turn=True)
