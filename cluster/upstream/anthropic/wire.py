"""Anthropic's side of the seam: messages whole and as events, errors in its own words."""

import json
from collections.abc import Iterator

from cluster.upstream.anthropic.reading import read
from cluster.upstream.anthropic.turns import signature
from cluster.upstream.asked import Asked, Json, Problem
from cluster.upstream.chance import digits
from cluster.upstream.reply import Reply, Usage
from cluster.upstream.response import Frame
from cluster.upstream.script import FaultKind
from cluster.upstream.tokens import count, pieces
from cluster.upstream.wire import Telling, compact

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_EMPTY: dict[str, Json] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}


class AnthropicWire:
    """Messages."""

    def read(self, body: Json) -> Asked:
        return read(body)

    def write(self, asked: Asked, reply: Reply, telling: Telling) -> tuple[Frame, ...]:
        if not asked.is_stream:
            message = _message(asked, telling) | {
                "content": [*_blocks(reply, telling)],
                "stop_reason": _stop(reply, telling),
                "stop_sequence": reply.stop_sequence,
            }
            usage = {} if telling.usage is None else {"usage": _usage(telling.usage, telling.usage.output)}
            return (Frame(compact(message | usage).encode(), reply.usage.output),)
        return tuple(_events(asked, reply, telling))

    def error(self, problem: Problem, is_event: bool, name: str) -> bytes:
        kind = problem.kind or _KINDS.get(problem.status, "api_error")
        tree: Json = {"type": "error", "error": {"type": kind, "message": problem.message}}
        if is_event:
            return event("error", tree).data
        return compact(tree | {"request_id": f"req_{name}"}).encode()


def event(name: str, tree: Json, tokens: int = 0) -> Frame:
    """A server-sent event."""
    return Frame(f"event: {name}\ndata: {compact(tree)}\n\n".encode(), tokens, name != "content_block_delta")


def _message(asked: Asked, telling: Telling) -> Json:
    return {
        "id": f"msg_{telling.name}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(usage: Usage, output: int) -> Json:
    return {
        "input_tokens": usage.input - usage.cache_read - usage.cache_write,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": output,
        "service_tier": "standard",
    }


def _stop(reply: Reply, telling: Telling) -> str:
    return "end_turn" if telling.quirk is FaultKind.STOP_WITH_CALLS and reply.calls else reply.stop


def tool_id(telling: Telling, at: int) -> str:
    """The id of the call that is number `at` of an answer."""
    return f"toolu_{digits(telling.name, at)}"


def _blocks(reply: Reply, telling: Telling) -> Iterator[Json]:
    if reply.thinking:
        yield {"type": "thinking", "thinking": reply.thinking, "signature": signature(reply.thinking)}
    if reply.text or not (reply.calls or reply.thinking):
        yield {"type": "text", "text": reply.text}
    for at, call in enumerate(reply.calls):
        yield {"type": "tool_use", "id": tool_id(telling, at), "name": call.name, "input": call.input}


def _events(asked: Asked, reply: Reply, telling: Telling) -> Iterator[Frame]:
    start = _message(asked, telling)
    if telling.usage is not None:
        start["usage"] = _usage(telling.usage, 1)
    yield event("message_start", {"type": "message_start", "message": start})
    for index, block in enumerate(_blocks(reply, telling)):
        yield from _block_events(index, block, telling)
        if index == 0:
            yield event("ping", {"type": "ping"})
    delta = {"stop_reason": _stop(reply, telling), "stop_sequence": reply.stop_sequence}
    end: Json = {"type": "message_delta", "delta": delta}
    if telling.usage is not None:
        end["usage"] = _usage(telling.usage, telling.usage.output)
    yield event("message_delta", end)
    yield event("message_stop", {"type": "message_stop"})


def _block_events(index: int, block: Json, telling: Telling) -> Iterator[Frame]:
    kind = str(block["type"])
    opened = block | _EMPTY[kind]
    yield event("content_block_start", {"type": "content_block_start", "index": index, "content_block": opened})
    if kind == "tool_use":
        yield _delta(index, {"type": "input_json_delta", "partial_json": ""}, 0)
        arguments = json.dumps(block["input"], ensure_ascii=False)
        parts = [arguments] if telling.quirk is FaultKind.WHOLE_ARGUMENTS else pieces(arguments)
        deltas = [({"type": "input_json_delta", "partial_json": part}, count(part)) for part in parts]
    else:
        deltas = [({"type": f"{kind}_delta", kind: piece}, 1) for piece in pieces(str(block[kind]))]
    for delta, tokens in deltas:
        yield _delta(index, delta, tokens)
    if kind == "thinking":
        yield _delta(index, {"type": "signature_delta", "signature": str(block["signature"])}, 0)
    yield event("content_block_stop", {"type": "content_block_stop", "index": index})


def _delta(index: int, delta: dict[str, str], tokens: int) -> Frame:
    return event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}, tokens)
